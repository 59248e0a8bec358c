//! A live member: what is durable of it, the requests that it waits for, and its session.
//!
//! Invariant: a session ends only for a member that waits for nothing, or is new and waits for its first JoinGroup: a
//! parked request shows that the client lives, but a client that never got its id cannot send a heartbeat.

use bytes::Bytes;
use duolog_record::group::{GroupMember, MemberProtocol};

use super::error::GroupError;
use super::event::{JoinRequest, RequestId};
use super::turn::{JoinReply, ReplyBody, SyncReply, Turn};

#[derive(Debug)]
pub(super) struct Member {
    /// Assignment included: empty outside of Stable.
    pub durable: GroupMember,
    /// It has not yet got an answer to its first JoinGroup.
    pub is_new: bool,
    /// A parked JoinGroup; `Some` means that it has joined the rebalance.
    pub join_waiter: Option<RequestId>,
    /// A parked SyncGroup.
    pub sync_waiter: Option<RequestId>,
    /// When its session ends, unless it waits.
    session_deadline: u64,
}

impl Member {
    /// A member that is loaded, or that joins.
    pub fn new(durable: GroupMember, is_new: bool) -> Self {
        Self { durable, is_new, join_waiter: None, sync_waiter: None, session_deadline: u64::MAX }
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.durable.protocols.iter().any(|p| p.name == protocol)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.durable.protocols.iter().find(|p| p.name == protocol);
        found.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    pub fn matches(&self, protocols: &[MemberProtocol]) -> bool {
        self.durable.protocols == protocols
    }

    pub fn update(&mut self, request: JoinRequest) {
        self.durable.protocols = request.protocols;
        self.durable.session_timeout_ms = request.session_timeout_ms;
        self.durable.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }

    /// Starts the session anew.
    pub fn renew(&mut self, turn: &Turn<'_>) {
        self.session_deadline = turn.deadline(self.durable.session_timeout_ms);
    }

    /// Gives a new member its longer time: its parked JoinGroup is all that is known of it.
    pub fn renew_as_new(&mut self, turn: &Turn<'_>) {
        self.session_deadline = turn.deadline(turn.config.new_member_join_timeout_ms);
    }

    /// When the session ends; `None` while the member waits.
    pub fn session_deadline(&self) -> Option<u64> {
        let waits = self.join_waiter.is_some() || self.sync_waiter.is_some();
        (self.is_new || !waits).then_some(self.session_deadline)
    }

    /// Parks a JoinGroup; an older one, of a connection that was given up, is told to try again.
    pub fn park_join(&mut self, turn: &mut Turn<'_>, reply_to: RequestId) {
        self.refuse_join(turn, GroupError::RebalanceInProgress);
        self.join_waiter = Some(reply_to);
    }

    /// Parks a SyncGroup; an older one is told to try again.
    pub fn park_sync(&mut self, turn: &mut Turn<'_>, reply_to: RequestId) {
        self.answer_sync(turn, Err(GroupError::RebalanceInProgress));
        self.sync_waiter = Some(reply_to);
    }

    pub fn answer_join(&mut self, turn: &mut Turn<'_>, reply: JoinReply) {
        if let Some(to) = self.join_waiter.take() {
            turn.reply(to, ReplyBody::Join(Ok(reply)));
            self.is_new = false;
        }
    }

    pub fn answer_sync(&mut self, turn: &mut Turn<'_>, reply: Result<SyncReply, GroupError>) {
        if let Some(to) = self.sync_waiter.take() {
            turn.reply(to, ReplyBody::Sync(reply));
            self.renew(turn);
        }
    }

    /// Answers whatever is parked with an error.
    pub fn refuse_all(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        self.refuse_join(turn, error);
        self.answer_sync(turn, Err(error));
    }

    fn refuse_join(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        if let Some(to) = self.join_waiter.take() {
            let member_id = (error != GroupError::UnknownMemberId).then(|| self.durable.member_id.clone());
            turn.refuse_join(to, error, member_id);
        }
    }
}

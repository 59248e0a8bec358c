//! Calls about consumer groups: each goes to the group's coordinator. Listing asks every node.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::Request;

use super::{Api, Client, ClientError, api, check, text};

const FIND_COORDINATOR: Api = api("FindCoordinator", 1, 3);
const JOIN_GROUP: Api = api("JoinGroup", 5, 5);
const SYNC_GROUP: Api = api("SyncGroup", 3, 3);
const HEARTBEAT: Api = api("Heartbeat", 3, 3);
const LEAVE_GROUP: Api = api("LeaveGroup", 3, 3);
const OFFSET_COMMIT: Api = api("OffsetCommit", 7, 8);
const OFFSET_FETCH: Api = api("OffsetFetch", 5, 7);
const LIST_GROUPS: Api = api("ListGroups", 0, 4);
const DESCRIBE_GROUPS: Api = api("DescribeGroups", 0, 5);
const DELETE_GROUPS: Api = api("DeleteGroups", 0, 2);

const PROTOCOL_TYPE: &str = "consumer";
/// FindCoordinator's key type of a consumer group.
const KEY_TYPE_GROUP: i8 = 0;

/// A consumer group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// Its state by Kafka's name; `None` where the node does not tell.
    pub state: Option<String>,
    /// `consumer`, or what its members call themselves.
    pub protocol_type: String,
}

/// A consumer group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// Its state by Kafka's name.
    pub state: String,
    /// The assignment strategy that its members agreed on.
    pub strategy: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: String,
    /// The client's own name.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its assignment, in the consumer protocol's form.
    pub assignment: Bytes,
}

/// A member's place in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Given by the coordinator; empty before the first join.
    pub member_id: String,
    /// Of the last join; −1 before.
    pub generation: i32,
}

/// A joined generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The place in it.
    pub state: MemberState,
    /// With the leader alone: every member's id and its subscription, in the consumer protocol's form.
    pub members: Vec<(String, Bytes)>,
    /// Whether this member is the leader, who assigns.
    pub leads: bool,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to consume.
    pub offset: i64,
}

impl Client {
    /// Every consumer group of the nodes that answer, by id; and why others do not: what those coordinate is missing.
    ///
    /// # Errors
    /// No node answers, or one does not offer the call.
    pub async fn list_groups(&self) -> Result<(Vec<GroupListing>, Vec<ClientError>), ClientError> {
        let mut groups = BTreeMap::new();
        let (mut silent, mut answers) = (Vec::new(), 0);
        for (node, _) in self.nodes().await? {
            let request = |_version| ListGroupsRequest::default();
            let response = match self.call_node(node, LIST_GROUPS, self.attempt(), request).await {
                Ok(response) => response,
                Err(error) if error.is_retriable() => {
                    silent.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            check(|| format!("groups of node {node}"), response.error_code, None)?;
            answers += 1;
            for listed in response.groups {
                let group = listed.group_id.to_string();
                let state = Some(listed.group_state.to_string()).filter(|state| !state.is_empty());
                let listing =
                    GroupListing { group: group.clone(), state, protocol_type: listed.protocol_type.to_string() };
                groups.insert(group, listing);
            }
        }
        match silent.pop() {
            Some(error) if answers == 0 => Err(error),
            last => Ok((groups.into_values().collect(), silent.into_iter().chain(last).collect())),
        }
    }

    /// One consumer group. An unknown one is described as dead and empty, as Kafka does.
    ///
    /// # Errors
    /// No coordinator within the time-out, or it refuses; so for every call below.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = |_version: i16| DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
        self.with_retries(async || {
            let response = self.at_coordinator(group, DESCRIBE_GROUPS, self.attempt(), request).await?;
            let Some(described) = response.groups.into_iter().next() else {
                return Err(ClientError::refused(words(group), ResponseError::GroupIdNotFound, None));
            };
            self.checked(group, described.error_code)?;
            let member =
                |member: kafka_protocol::messages::describe_groups_response::DescribedGroupMember| GroupMember {
                    member_id: member.member_id.to_string(),
                    client_id: member.client_id.to_string(),
                    client_host: member.client_host.to_string(),
                    assignment: member.member_assignment,
                };
            Ok(GroupDescription {
                group: group.to_owned(),
                state: described.group_state.to_string(),
                strategy: described.protocol_data.to_string(),
                members: described.members.into_iter().map(member).collect(),
            })
        })
        .await
    }

    /// Deletes a group with its committed offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = |_version: i16| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
        self.with_retries(async || {
            let response = self.at_coordinator(group, DELETE_GROUPS, self.timeout(), request).await?;
            self.checked(group, response.results.first().map_or(0, |result| result.error_code))
        })
        .await
    }

    /// All committed offsets of a group, by topic and partition.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
        let request =
            |_version: i16| OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(None);
        self.with_retries(async || {
            let response = self.at_coordinator(group, OFFSET_FETCH, self.attempt(), request).await?;
            self.checked(group, response.error_code)?;
            let mut committed = BTreeMap::new();
            for topic in response.topics {
                for partition in topic.partitions.iter().filter(|partition| partition.committed_offset >= 0) {
                    self.checked(group, partition.error_code)?;
                    committed.insert((topic.name.to_string(), partition.partition_index), partition.committed_offset);
                }
            }
            Ok(committed)
        })
        .await
    }

    /// Commits offsets. `None` is for somebody who is no member, which only an empty group takes.
    pub async fn commit(
        &self,
        group: &str,
        member: Option<&MemberState>,
        offsets: &[OffsetToCommit],
    ) -> Result<(), ClientError> {
        let request = |_version: i16| {
            let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
            for offset in offsets {
                let partition = OffsetCommitRequestPartition::default()
                    .with_partition_index(offset.partition)
                    .with_committed_offset(offset.offset)
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(Some(text("")));
                topics.entry(&offset.topic).or_default().push(partition);
            }
            let topics = topics.into_iter().map(|(name, partitions)| {
                OffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
            });
            OffsetCommitRequest::default()
                .with_group_id(GroupId(text(group)))
                .with_generation_id_or_member_epoch(member.map_or(-1, |member| member.generation))
                .with_member_id(text(member.map_or("", |member| &member.member_id)))
                .with_group_instance_id(None)
                .with_topics(topics.collect())
        };
        self.with_retries(async || {
            let response = self.at_coordinator(group, OFFSET_COMMIT, self.attempt(), request).await?;
            let codes = response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.error_code));
            codes.into_iter().try_for_each(|code| self.checked(group, code))
        })
        .await
    }

    /// Joins a group; answered when its next generation begins, which may take `rebalance_timeout`.
    ///
    /// # Errors
    /// MEMBER_ID_REQUIRED is handled here.
    pub async fn join(
        &self,
        group: &str,
        member: &mut MemberState,
        subscription: &Bytes,
        session_timeout: Duration,
        rebalance_timeout: Duration,
    ) -> Result<Joined, ClientError> {
        loop {
            let request = |_version: i16| {
                let protocol = JoinGroupRequestProtocol::default()
                    .with_name(text(crate::consume::STRATEGY))
                    .with_metadata(subscription.clone());
                JoinGroupRequest::default()
                    .with_group_id(GroupId(text(group)))
                    .with_session_timeout_ms(milliseconds(session_timeout))
                    .with_rebalance_timeout_ms(milliseconds(rebalance_timeout))
                    .with_member_id(text(&member.member_id))
                    .with_group_instance_id(None)
                    .with_protocol_type(text(PROTOCOL_TYPE))
                    .with_protocols(vec![protocol])
            };
            let limit = self.timeout() + rebalance_timeout;
            let response = self.at_coordinator(group, JOIN_GROUP, limit, request).await?;
            if ResponseError::try_from_code(response.error_code) == Some(ResponseError::MemberIdRequired) {
                member.member_id = response.member_id.to_string();
                continue;
            }
            self.checked(group, response.error_code)?;
            *member = MemberState { member_id: response.member_id.to_string(), generation: response.generation_id };
            let members = response.members.into_iter().map(|m| (m.member_id.to_string(), m.metadata)).collect();
            return Ok(Joined { state: member.clone(), members, leads: response.leader == response.member_id });
        }
    }

    /// Gives this member's assignment; the leader brings those of all.
    pub async fn sync(
        &self,
        group: &str,
        member: &MemberState,
        assignments: &[(String, Bytes)],
        rebalance_timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        let request = |_version: i16| {
            let assignment = |(member, assignment): &(String, Bytes)| {
                SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment.clone())
            };
            SyncGroupRequest::default()
                .with_group_id(GroupId(text(group)))
                .with_generation_id(member.generation)
                .with_member_id(text(&member.member_id))
                .with_group_instance_id(None)
                .with_assignments(assignments.iter().map(assignment).collect())
        };
        let limit = self.timeout() + rebalance_timeout;
        let response = self.at_coordinator(group, SYNC_GROUP, limit, request).await?;
        self.checked(group, response.error_code)?;
        Ok(response.assignment)
    }

    /// Keeps a member alive. REBALANCE_IN_PROGRESS is an error here.
    pub async fn heartbeat(&self, group: &str, member: &MemberState) -> Result<(), ClientError> {
        let request = |_version: i16| {
            HeartbeatRequest::default()
                .with_group_id(GroupId(text(group)))
                .with_generation_id(member.generation)
                .with_member_id(text(&member.member_id))
                .with_group_instance_id(None)
        };
        let response = self.at_coordinator(group, HEARTBEAT, self.attempt(), request).await?;
        self.checked(group, response.error_code)
    }

    /// Takes a member out of its group.
    pub async fn leave(&self, group: &str, member: &MemberState) -> Result<(), ClientError> {
        let request = |_version: i16| {
            let identity =
                MemberIdentity::default().with_member_id(text(&member.member_id)).with_group_instance_id(None);
            LeaveGroupRequest::default().with_group_id(GroupId(text(group))).with_members(vec![identity])
        };
        let response = self.at_coordinator(group, LEAVE_GROUP, self.attempt(), request).await?;
        self.checked(group, response.error_code)
    }

    /// Asks the coordinator once. One that does not answer is looked up anew at the next call.
    async fn at_coordinator<R: Request>(
        &self,
        group: &str,
        api: Api,
        limit: Duration,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let known = self.coordinators.lock().get(group).copied();
        let node = match known {
            Some(node) => node,
            None => self.find_coordinator(group).await?,
        };
        let result = self.call_node(node, api, limit, request).await;
        if result.is_err() {
            self.coordinators.lock().remove(group);
        }
        result
    }

    async fn find_coordinator(&self, group: &str) -> Result<i32, ClientError> {
        self.with_retries(async || {
            let request =
                |_version| FindCoordinatorRequest::default().with_key(text(group)).with_key_type(KEY_TYPE_GROUP);
            let response = self.call_any(FIND_COORDINATOR, self.attempt(), request).await?;
            check(|| words(group), response.error_code, response.error_message.as_ref())?;
            let node = response.node_id.0;
            if !self.nodes.lock().contains_key(&node) {
                self.nodes().await?;
            }
            self.coordinators.lock().insert(group.to_owned(), node);
            Ok(node)
        })
        .await
    }

    /// An error code of the coordinator; one that says "not me" makes the next call look for it.
    fn checked(&self, group: &str, code: i16) -> Result<(), ClientError> {
        let result = check(|| words(group), code, None);
        if result.as_ref().is_err_and(ClientError::is_retriable) {
            self.coordinators.lock().remove(group);
        }
        result
    }
}

fn words(group: &str) -> String {
    format!("consumer group {group:?}")
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

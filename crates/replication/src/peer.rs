//! Another node, asked for what a damaged replica lacks.

use std::sync::Arc;
use std::time::Duration;

use duolog_types::{BrokerGroupId, NodeId};
use tonic::{Request, Status};

use crate::identity::Identity;
use crate::network::Client;
use crate::testing::Hooks;
use crate::type_config::Member;
use crate::wire::proto;

/// An entry may be large.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that has a replica of a broker group.
pub(crate) struct Peer<'a> {
    pub(crate) client: Client,
    group: BrokerGroupId,
    identity: &'a Arc<Identity>,
    node: NodeId,
    member: &'a Member,
}

impl<'a> Peer<'a> {
    /// A connection that is made when it is used.
    ///
    /// # Errors
    /// Its address is none.
    pub(crate) fn new(
        hooks: &Hooks,
        identity: &'a Arc<Identity>,
        group: BrokerGroupId,
        (node, member): (NodeId, &'a Member),
    ) -> Result<Self, String> {
        Ok(Self { client: hooks.connect(node, member)?, group, identity, node, member })
    }

    /// A signed call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.identity.sign(&mut request, self.node, &self.member.incarnation);
        request
    }

    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(ASK_TIMEOUT);
        request
    }

    /// The log index behind the last entry that it has applied.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn applied_next(&mut self) -> Result<u64, Status> {
        let request = self.timed(proto::ReplicaStatusRequest { group: self.group.0 });
        Ok(self.client.replica_status(request).await?.into_inner().applied_next)
    }

    /// An entry that it has applied; `None` where it has none to give.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn entry(&mut self, index: u64) -> Result<Option<proto::Entry>, Status> {
        let request = self.timed(proto::ReadEntryRequest { group: self.group.0, index });
        Ok(self.client.read_entry(request).await?.into_inner().entry)
    }
}

//! What is wrong in a config: what no key can say alone, and values that no node could work with.

use std::net::{IpAddr, SocketAddr};

use duolog_types::{check_user_name, limits};

use super::{Auth, Broker, Listen, Log, Node, NodeConfig, Raft};

/// Kafka's broker ids are signed.
const NODE_ID_MAX: u64 = i32::MAX as u64;
const BROKER_GROUPS_MAX: u32 = 64;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

impl NodeConfig {
    /// # Errors
    /// A sentence with the key, what was found and what was expected.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.cluster_name.trim().is_empty() {
            return Err(format!("cluster_name = {:?}: expected a name", self.cluster_name));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir = \"\": expected a directory".to_owned());
        }
        if self.broker_groups == 0 || self.broker_groups > BROKER_GROUPS_MAX {
            return Err(format!("broker_groups = {}: expected 1 to {BROKER_GROUPS_MAX}", self.broker_groups));
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if self.nodes[..i].iter().any(|other| other.id == node.id) {
                return Err(format!("nodes.id = {}: listed twice", node.id));
            }
            node.check()?;
        }
        let Some(own) = self.nodes.iter().find(|node| node.id == self.node_id) else {
            return Err(format!("node_id = {}: expected one of the ids of [[nodes]]", self.node_id));
        };
        self.listen.check(own)?;
        self.auth.check()?;
        self.raft.check()?;
        self.broker.check()?;
        self.log.check()
    }
}

impl Listen {
    fn check(&self, own: &Node) -> Result<(), String> {
        let named = [
            ("kafka", Some(self.kafka)),
            ("rocketmq", self.rocketmq),
            ("http", Some(self.http)),
            ("grpc", Some(self.grpc)),
        ];
        let without_port =
            |(_, address): &(&str, Option<SocketAddr>)| address.is_some_and(|address| address.port() == 0);
        if let Some((name, Some(address))) = named.into_iter().find(without_port) {
            return Err(format!("listen.{name} = {address}: expected a port of 1 to 65535"));
        }
        if let Some(address) = self.rocketmq.filter(|_| own.rocketmq_port == 0) {
            return Err(format!(
                "listen.rocketmq = {address}: expected nodes.rocketmq_port of node {}, so that clients find it",
                own.id
            ));
        }
        if self.rocketmq_certificate_path.is_some() != self.rocketmq_key_path.is_some() {
            return Err(
                "listen.rocketmq_certificate_path and listen.rocketmq_key_path: expected both or none".to_owned()
            );
        }
        Ok(())
    }
}

impl Node {
    fn check(&self) -> Result<(), String> {
        let Self { id, host, .. } = self;
        if *id > NODE_ID_MAX {
            return Err(format!("nodes.id = {id}: expected at most {NODE_ID_MAX}"));
        }
        if !is_reachable(host) {
            return Err(format!(
                "nodes.host = {host:?} of node {id}: expected a host name or an IP address at which clients and other nodes reach it, without a port"
            ));
        }
        for (name, port) in [("kafka_port", self.kafka_port), ("grpc_port", self.grpc_port)] {
            if port == 0 {
                return Err(format!("nodes.{name} = 0 of node {id}: expected a port of 1 to 65535"));
            }
        }
        Ok(())
    }
}

/// Whether a host may be one that others connect to.
fn is_reachable(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified(),
        Err(_) => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')),
    }
}

impl Raft {
    fn check(&self) -> Result<(), String> {
        let Self { heartbeat_interval_ms, election_timeout_min_ms: min, election_timeout_max_ms: max } = *self;
        if heartbeat_interval_ms == 0 || heartbeat_interval_ms.saturating_mul(3) > min {
            return Err(format!(
                "raft.heartbeat_interval_ms = {heartbeat_interval_ms}: expected at least 1 and at most a third of raft.election_timeout_min_ms = {min}"
            ));
        }
        if min >= max {
            return Err(format!(
                "raft.election_timeout_max_ms = {max}: expected more than raft.election_timeout_min_ms = {min}"
            ));
        }
        Ok(())
    }
}

impl Broker {
    fn check(&self) -> Result<(), String> {
        let max = limits::PARTITIONS_PER_TOPIC_MAX;
        if !(1..=max).contains(&self.num_partitions) {
            return Err(format!("broker.num_partitions = {}: expected 1 to {max}", self.num_partitions));
        }
        for (name, interval) in [
            ("retention_check_interval_ms", self.retention_check_interval_ms),
            ("offsets_retention_check_interval_ms", self.offsets_retention_check_interval_ms),
            ("producer_id_expiration_check_interval_ms", self.producer_id_expiration_check_interval_ms),
            ("consumer_offset_interval_ms", self.consumer_offset_interval_ms),
        ] {
            if interval == 0 {
                return Err(format!("broker.{name} = 0: expected at least 1 ms"));
            }
        }
        Ok(())
    }
}

impl Log {
    fn check(&self) -> Result<(), String> {
        if self.segment_size_bytes < SEGMENT_BYTES_MIN {
            return Err(format!(
                "log.segment_size_bytes = {}: expected at least {SEGMENT_BYTES_MIN}",
                self.segment_size_bytes
            ));
        }
        Ok(())
    }
}

impl Auth {
    fn check(&self) -> Result<(), String> {
        if self.authorization_enabled && !self.authentication_enabled {
            return Err("auth.authorization_enabled = true: expected auth.authentication_enabled = true, for ACLs are about users".to_owned());
        }
        match (&self.init_user, &self.init_user_secret) {
            (Some(name), Some(secret)) => check_user_name(name)
                .map_err(|error| format!("auth.init_user: {error}"))
                .and_then(|()| secret.check().map_err(|error| format!("auth.init_user_secret: {error}"))),
            (None, None) => Ok(()),
            (Some(name), None) => Err(format!("auth.init_user = {name:?}: expected auth.init_user_secret as well")),
            (None, Some(_)) => Err("auth.init_user_secret: expected auth.init_user as well".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::super::tests::GOOD;

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, expected) in [
            ("node_id = 0", "node_id = 7", "node_id = 7: expected one of the ids"),
            ("cluster_name", "cluster_nane", "line 2"),
            ("[listen]", "[raft]\nelection_timeout_min_ms = 900\n[listen]", "raft.election_timeout_max_ms = 400"),
            ("[listen]", "[log]\nsegment_size_bytes = 5\n[listen]", "log.segment_size_bytes = 5: expected at least"),
            ("kafka = \"127.0.0.1:9092\"", "kafka = \"nowhere\"", "line 6"),
            ("kafka = \"127.0.0.1:9092\"", "kafka = \"localhost:9092\"", "expected an IP address and a port"),
            ("[listen]", "[listen]\nrocketmq = \"localhost\"", "expected an IP address and a port"),
            ("http = \"127.0.0.1:8090\"", "http = \"127.0.0.1:0\"", "listen.http = 127.0.0.1:0: expected a port"),
            ("cluster_name = \"c\"", "cluster_name = \" \"", "cluster_name = \" \": expected a name"),
            ("data_dir = \"/tmp/x\"", "data_dir = \"\"", "data_dir = \"\": expected a directory"),
            ("id = 0\nhost", "id = 2147483648\nhost", "nodes.id = 2147483648: expected at most 2147483647"),
            ("host = \"127.0.0.1\"", "host = \"\"", "nodes.host = \"\" of node 0: expected"),
            ("host = \"127.0.0.1\"", "host = \"0.0.0.0\"", "nodes.host = \"0.0.0.0\" of node 0: expected"),
            ("host = \"127.0.0.1\"", "host = \"::\"", "nodes.host = \"::\" of node 0: expected"),
            ("host = \"127.0.0.1\"", "host = \"b1:9092\"", "nodes.host = \"b1:9092\" of node 0: expected"),
            ("kafka_port = 9092", "kafka_port = 0", "nodes.kafka_port = 0 of node 0: expected"),
            ("grpc_port = 7070", "grpc_port = 0", "nodes.grpc_port = 0 of node 0: expected"),
            ("[listen]", "[broker]\nnum_partitions = 0\n[listen]", "broker.num_partitions = 0: expected 1 to 10000"),
            ("[listen]", "[broker]\nretention_check_interval_ms = 0\n[listen]", "expected at least 1 ms"),
            ("[listen]", "[listen]\nrocketmq = \"127.0.0.1:8081\"", "expected nodes.rocketmq_port of node 0"),
            ("[listen]", "[listen]\nrocketmq_key_path = \"k.pem\"", "expected both or none"),
            ("[listen]", "[auth]\nauthorization_enabled = true\n[listen]", "expected auth.authentication_enabled"),
            ("[listen]", "[auth]\ninit_user = \"root\"\n[listen]", "expected auth.init_user_secret"),
            ("[listen]", "[auth]\ninit_user = \"a b\"\ninit_user_secret = \"123456\"\n[listen]", "auth.init_user:"),
            (
                "[listen]",
                "[auth]\ninit_user = \"root\"\ninit_user_secret = \"12345\"\n[listen]",
                "auth.init_user_secret:",
            ),
        ] {
            let error = load::parse(&GOOD.replacen(from, to, 1), &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

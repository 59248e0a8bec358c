//! Every key of the config file with its documentation: `docs/config.md` is made of it, unknown keys are compared with it, and
//! each has its environment variable.

/// What a key's value is, for those that come from the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it stands.
    Text,
    /// A whole number of at least 0.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// As it stands, and never shown.
    Secret,
}

/// One key of the config file.
pub struct Key {
    /// Its table and its name, with a point between them.
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub doc: &'static str,
}

/// The prefix of all environment variables.
pub const VARIABLE_PREFIX: &str = "DUOLOG_";
/// The table whose keys occur once per node.
pub const NODES: &str = "nodes";

impl Key {
    /// The environment variable that goes before the file; `place` is the place in the list of nodes, from 0, for keys of
    /// `[[nodes]]`.
    pub fn variable(&self, place: usize) -> String {
        self.variable_with(&place.to_string())
    }

    /// The same with `<N>` for the place.
    fn variable_shown(&self) -> String {
        self.variable_with("<N>")
    }

    fn variable_with(&self, place: &str) -> String {
        let path: Vec<String> = match self.name.split_once('.') {
            Some((NODES, key)) => vec![NODES.to_uppercase(), place.to_owned(), key.to_uppercase()],
            _ => self.name.split('.').map(str::to_uppercase).collect(),
        };
        format!("{VARIABLE_PREFIX}{}", path.join("_"))
    }

    /// Whether it occurs once per node.
    pub fn is_of_nodes(&self) -> bool {
        self.name.split_once('.').is_some_and(|(table, _)| table == NODES)
    }
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    Key {
        name: "cluster_name",
        kind: Kind::Text,
        default: "required",
        doc: "Name of the cluster. Nodes of different names never form one cluster.",
    },
    Key {
        name: "node_id",
        kind: Kind::Integer,
        default: "required",
        doc: "This node's id; Kafka's broker id. Never reused in a cluster.",
    },
    Key {
        name: "data_dir",
        kind: Kind::Text,
        default: "required",
        doc: "Directory for everything that the node keeps. Used by one process at a time.",
    },
    Key {
        name: "broker_groups",
        kind: Kind::Integer,
        default: "4",
        doc: "Broker groups: the system group and groups for data. With 1 the system group holds everything. Must be the same on every node, and never changes.",
    },
    Key {
        name: "boot_id_path",
        kind: Kind::Text,
        default: "/proc/sys/kernel/random/boot_id",
        doc: "File whose content changes with every boot of the machine; the power-loss guard rests on it.",
    },
    Key { name: "listen.kafka", kind: Kind::Text, default: "required", doc: "Address and port for Kafka clients." },
    Key {
        name: "listen.rocketmq",
        kind: Kind::Text,
        default: "none",
        doc: "Address and port for RocketMQ 5 clients (gRPC), with TLS and without; without this key the node serves none.",
    },
    Key {
        name: "listen.rocketmq_certificate_path",
        kind: Kind::Text,
        default: "none",
        doc: "File with the certificate of the RocketMQ port in PEM, followed by those between it and the authority's. Without this key a self-signed certificate is made at each start.",
    },
    Key {
        name: "listen.rocketmq_key_path",
        kind: Kind::Text,
        default: "none",
        doc: "File with the private key that belongs to `listen.rocketmq_certificate_path`, in PEM.",
    },
    Key {
        name: "listen.http",
        kind: Kind::Text,
        default: "required",
        doc: "Address and port for `/health`, `/live`, `/metrics`, `/durability`, `/transactions`, `/users` and `/debug/state-hash`. For operators: whoever reaches it may do everything.",
    },
    Key {
        name: "listen.grpc",
        kind: Kind::Text,
        default: "required",
        doc: "Address and port for calls between nodes and for `duolog cluster …`.",
    },
    Key {
        name: "nodes.id",
        kind: Kind::Integer,
        default: "required",
        doc: "In each `[[nodes]]`: a node's id. Every node lists all nodes, itself included.",
    },
    Key {
        name: "nodes.host",
        kind: Kind::Text,
        default: "required",
        doc: "In each `[[nodes]]`: the host name or address at which other nodes and clients reach it, without a port. A node keeps what it joined with.",
    },
    Key {
        name: "nodes.kafka_port",
        kind: Kind::Integer,
        default: "required",
        doc: "In each `[[nodes]]`: its port for Kafka clients.",
    },
    Key {
        name: "nodes.rocketmq_port",
        kind: Kind::Integer,
        default: "0",
        doc: "In each `[[nodes]]`: its port for RocketMQ clients, and for calls of theirs that other nodes forward; 0 means that it serves none.",
    },
    Key {
        name: "nodes.http_port",
        kind: Kind::Integer,
        default: "0",
        doc: "In each `[[nodes]]`: its HTTP port; not used by the nodes, but `duolog durability` finds them by it.",
    },
    Key {
        name: "nodes.grpc_port",
        kind: Kind::Integer,
        default: "required",
        doc: "In each `[[nodes]]`: its port for calls between nodes.",
    },
    Key {
        name: "log.segment_size_bytes",
        kind: Kind::Integer,
        default: "1073741824",
        doc: "Size of a segment of the commit log, in bytes.",
    },
    Key {
        name: "log.flush_bytes",
        kind: Kind::Integer,
        default: "8388608",
        doc: "The log is flushed when this many bytes wait for a flush, whatever the topics' flush modes.",
    },
    Key {
        name: "log.disk_free_bytes_min",
        kind: Kind::Integer,
        default: "1073741824",
        doc: "With fewer free bytes on its disk a node takes no more records (reads go on), with less than half of it no entries of other leaders either; it takes them again when there is a quarter more.",
    },
    Key {
        name: "log.scrub_bytes_per_second",
        kind: Kind::Integer,
        default: "4194304",
        doc: "What the scrubber reads in a second to verify sealed segments, and as much again of the state; a damaged entry is put back from another node, a node with a damaged state ends, and copies it when it is started again. 0 turns the passes off: then only what a reader finds damaged is put back.",
    },
    Key {
        name: "log.scrub_interval_ms",
        kind: Kind::Integer,
        default: "86400000",
        doc: "Milliseconds from the end of a pass of the scrubber over everything to the next one.",
    },
    Key {
        name: "raft.heartbeat_interval_ms",
        kind: Kind::Integer,
        default: "50",
        doc: "Milliseconds between two heartbeats of a leader.",
    },
    Key {
        name: "raft.election_timeout_min_ms",
        kind: Kind::Integer,
        default: "250",
        doc: "Shortest election time-out in milliseconds.",
    },
    Key {
        name: "raft.election_timeout_max_ms",
        kind: Kind::Integer,
        default: "400",
        doc: "Longest election time-out in milliseconds; also a leader's lease.",
    },
    Key {
        name: "broker.num_partitions",
        kind: Kind::Integer,
        default: "4",
        doc: "Partitions of a topic that does not say (Kafka's `num.partitions`).",
    },
    Key {
        name: "broker.auto_create_topics_enable",
        kind: Kind::Boolean,
        default: "true",
        doc: "Whether topics are created on first use (Kafka's `auto.create.topics.enable`).",
    },
    Key {
        name: "broker.group_initial_rebalance_delay_ms",
        kind: Kind::Integer,
        default: "3000",
        doc: "How long the first rebalance of an empty consumer group waits for more members, in milliseconds (Kafka's `group.initial.rebalance.delay.ms`).",
    },
    Key {
        name: "broker.retention_check_interval_ms",
        kind: Kind::Integer,
        default: "300000",
        doc: "Milliseconds between two looks at what retention allows to delete (Kafka's `log.retention.check.interval.ms`).",
    },
    Key {
        name: "broker.offsets_retention_ms",
        kind: Kind::Integer,
        default: "604800000",
        doc: "How long committed offsets are kept after their consumer group lost its last member, in milliseconds (Kafka's `offsets.retention.minutes`). Offsets of deleted topics go at once.",
    },
    Key {
        name: "broker.offsets_retention_check_interval_ms",
        kind: Kind::Integer,
        default: "600000",
        doc: "Milliseconds between two looks at which committed offsets have expired (Kafka's `offsets.retention.check.interval.ms`).",
    },
    Key {
        name: "broker.producer_id_expiration_ms",
        kind: Kind::Integer,
        default: "86400000",
        doc: "How long an idempotent producer that sends nothing is remembered, in milliseconds (Kafka's `producer.id.expiration.ms`).",
    },
    Key {
        name: "broker.producer_id_expiration_check_interval_ms",
        kind: Kind::Integer,
        default: "600000",
        doc: "Milliseconds between two looks at which producers have expired (Kafka's `producer.id.expiration.check.interval.ms`).",
    },
    Key {
        name: "broker.consumer_offset_interval_ms",
        kind: Kind::Integer,
        default: "5000",
        doc: "Milliseconds between two looks at how far groups of RocketMQ clients have come, which is committed then like the offsets of Kafka's consumers (RocketMQ's `flushConsumerOffsetInterval`).",
    },
    Key {
        name: "broker.renew_max_ms",
        kind: Kind::Integer,
        default: "10800000",
        doc: "How long a message that was delivered with automatic renewal stays invisible because its consumer lives, in milliseconds (RocketMQ's `renewMaxTimeMillis`).",
    },
    Key {
        name: "memory.write_buffer_bytes",
        kind: Kind::Integer,
        default: "50331648",
        doc: "Write buffers of all state stores together, in bytes.",
    },
    Key {
        name: "memory.block_cache_bytes",
        kind: Kind::Integer,
        default: "33554432",
        doc: "Block cache of all state stores together, in bytes.",
    },
    Key {
        name: "memory.log_tail_bytes",
        kind: Kind::Integer,
        default: "50331648",
        doc: "Recent log entries kept in memory for consumers and followers, over all broker groups, in bytes.",
    },
    Key {
        name: "memory.connection_bytes",
        kind: Kind::Integer,
        default: "33554432",
        doc: "Requests of all connections that are being read or answered, in bytes.",
    },
    Key {
        name: "memory.rocketmq_request_bytes",
        kind: Kind::Integer,
        default: "67108864",
        doc: "Requests of RocketMQ clients that are being read or answered, in bytes, over all connections; calls that other nodes send on have as much of their own.",
    },
    Key {
        name: "auth.authentication_enabled",
        kind: Kind::Boolean,
        default: "false",
        doc: "Whether RocketMQ clients must sign every call as a user (RocketMQ's `authenticationEnabled`). Should be the same on every node.",
    },
    Key {
        name: "auth.authorization_enabled",
        kind: Kind::Boolean,
        default: "false",
        doc: "Whether ACLs decide what RocketMQ clients may do (RocketMQ's `authorizationEnabled`); without it every user may do everything. Needs `auth.authentication_enabled`.",
    },
    Key {
        name: "auth.init_user",
        kind: Kind::Text,
        default: "none",
        doc: "Name of a super user that is created when the cluster has no users (RocketMQ's `initAuthenticationUser`).",
    },
    Key {
        name: "auth.init_user_secret",
        kind: Kind::Secret,
        default: "none",
        doc: "Secret of `auth.init_user`; counts only when that user is created. Better from the environment than in the file.",
    },
    Key {
        name: "auth.signature_max_age_ms",
        kind: Kind::Integer,
        default: "900000",
        doc: "How far the time that a RocketMQ client has signed may be from this node's, in milliseconds; 0 means that it does not count.",
    },
    Key {
        name: "auth.signature_any_time_zone",
        kind: Kind::Boolean,
        default: "true",
        doc: "Whether a signed time is good that is right in some time zone: RocketMQ's clients for Java and Python sign their local time as if it were UTC. With false their machines must run in UTC, and an overheard signature is worth nothing after `auth.signature_max_age_ms`.",
    },
    Key {
        name: "logging.format",
        kind: Kind::Text,
        default: "text",
        doc: "How log lines on standard output look: `text`, or `json` with a JSON object per line. What is logged is up to `RUST_LOG`.",
    },
    Key {
        name: "testing.flush_delay_ms",
        kind: Kind::Integer,
        default: "0",
        doc: "Test only: every fdatasync of the commit log takes this much longer, in milliseconds.",
    },
    Key {
        name: "testing.drop_received_marks",
        kind: Kind::Boolean,
        default: "false",
        doc: "Test only: this node tells leaders nothing before its flush.",
    },
    Key {
        name: "testing.skip_flush",
        kind: Kind::Boolean,
        default: "false",
        doc: "Test only: fdatasync does nothing. Loses acknowledged records with the power.",
    },
    Key {
        name: "testing.disk_free_bytes_path",
        kind: Kind::Text,
        default: "none",
        doc: "Test only: a file with a number that is taken for the free bytes of the disk.",
    },
];

/// The documentation of the config file, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\nGenerated by `cargo xtask docs`; do not edit.\n\nKeys of `node.toml`. An unknown key is refused.\n\n\
         Every key may also come from the environment, which goes before the file. In the variables of `[[nodes]]`, `<N>` is the \
         place in the list, from 0; the place behind the last one adds a node. `duolog config check FILE` shows what came from \
         the environment.\n\n\
         | key | variable | default | meaning |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        text += &format!("| `{}` | `{}` | {} | {} |\n", key.name, key.variable_shown(), key.default, key.doc);
    }
    text += "\n## Topic configs\n\nWith `duolog topic create|alter --config`, any AdminClient, or `kafka-configs`; changed live. `kafka-topics \
             --config` takes only those that Kafka knows.\n\n";
    text += &client_configs(duolog_types::TOPIC_CONFIG_KEYS);
    text += "\n## Group configs\n\nOf consumer groups of RocketMQ clients, with `duolog group alter --config`, any AdminClient, or `kafka-configs \
             --entity-type groups`; changed live. [More about them](rocketmq.md#consumer-groups).\n\n";
    text + &client_configs(duolog_types::GROUP_CONFIG_KEYS)
}

fn client_configs(keys: &[duolog_types::ConfigKey]) -> String {
    let rows = keys.iter().map(|key| format!("| `{}` | {} | {} |\n", key.name, key.default, key.doc));
    "| key | default | meaning |\n|---|---|---|\n".to_owned() + &rows.collect::<String>()
}

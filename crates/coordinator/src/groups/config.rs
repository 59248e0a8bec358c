//! What an operator may set about groups; defaults are Kafka's.

/// Limits and times of classic groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long an empty group waits for more members after the first; `group.initial.rebalance.delay.ms`, 3000.
    pub initial_rebalance_delay_ms: u32,
    /// Shortest session timeout accepted; `group.min.session.timeout.ms`, 6000.
    pub session_timeout_ms_min: u32,
    /// Longest session timeout accepted; `group.max.session.timeout.ms`, 1,800,000.
    pub session_timeout_ms_max: u32,
    /// Most members of a group; `group.max.size`, without limit.
    pub group_size_max: usize,
    /// How long a new member's JoinGroup may be parked before it counts as gone; Kafka's fixed five minutes.
    pub new_member_join_timeout_ms: u32,
    /// Longest metadata of a committed offset; `offset.metadata.max.bytes`, 4096.
    pub offset_metadata_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            group_size_max: i32::MAX as usize,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_bytes_max: 4_096,
        }
    }
}

//! How many connections the process may have without running out of files: logs and RocksDB must always get theirs, else a
//! flood of connections would end the node.

/// Connections of each kind at most, however many files there may be.
const KAFKA_CONNECTIONS_MAX: usize = 10_000;
const ROCKETMQ_CONNECTIONS_MAX: usize = 10_000;
const HTTP_CONNECTIONS_MAX: usize = 256;

/// Connections that may be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub kafka: usize,
    pub rocketmq: usize,
    pub http: usize,
}

impl ConnectionLimits {
    /// From the limit of the process: half of the files are for Kafka's connections, a quarter for those of RocketMQ, an
    /// eighth for those of HTTP.
    pub fn of_this_process() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files = files_max(&limits);
        let connections = files.map_or(Self::of(usize::MAX), Self::of);
        if let (Some(files), true) = (files, connections.rocketmq < ROCKETMQ_CONNECTIONS_MAX) {
            tracing::warn!(
                open_files_max = files,
                kafka_connections_max = connections.kafka,
                rocketmq_connections_max = connections.rocketmq,
                "this process may open few files, so it takes few connections; raise the limit with `ulimit -n` or LimitNOFILE"
            );
        }
        connections
    }

    fn of(files: usize) -> Self {
        Self {
            kafka: (files / 2).clamp(1, KAFKA_CONNECTIONS_MAX),
            rocketmq: (files / 4).clamp(1, ROCKETMQ_CONNECTIONS_MAX),
            http: (files / 8).clamp(1, HTTP_CONNECTIONS_MAX),
        }
    }
}

/// The soft limit in `/proc/self/limits`; `None` when there is none.
fn files_max(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_for_kafka() {
        let limits =
            "Max processes  1  1  processes\nMax open files            1024                 524288     files\n";
        assert_eq!(files_max(limits), Some(1_024));
        assert_eq!(ConnectionLimits::of(1_024), ConnectionLimits { kafka: 512, rocketmq: 256, http: 128 });
        assert_eq!(files_max("Max open files  unlimited unlimited files"), None);
        assert_eq!(ConnectionLimits::of(usize::MAX), ConnectionLimits { kafka: 10_000, rocketmq: 10_000, http: 256 });
    }
}

//! DescribeLogDirs (35), versions 1–4: the data directory and what each partition takes there. KIP-113; room of the
//! disk from version 4 on (KIP-827).

use std::collections::{BTreeMap, BTreeSet};

use duolog_broker::api::{BrokerApi, PartitionSize};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{string, topic_name};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Array(&INT32))])))],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let dir = match context.broker.log_dir() {
        Ok(dir) => dir,
        Err(error) => {
            let (code, _) = context.failure(&error);
            let answer = DescribeLogDirsResult::default().with_error_code(code);
            return DescribeLogDirsResponse::default().with_results(vec![answer]);
        }
    };
    // Null means all topics.
    let asked: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        let named = topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic.to_string(), *p)));
        named.collect()
    });
    let is_asked = |partition: &PartitionSize| {
        asked.as_ref().is_none_or(|asked| asked.contains(&(partition.topic.clone(), index(partition))))
    };
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in dir.partitions.iter().filter(|partition| is_asked(partition)) {
        topics.entry(partition.topic.clone()).or_default().push(described(partition));
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    let answer = DescribeLogDirsResult::default().with_log_dir(string(dir.path)).with_topics(topics.collect());
    let answer = match version {
        4.. => answer.with_total_bytes(signed(dir.total_bytes)).with_usable_bytes(signed(dir.usable_bytes)),
        _ => answer,
    };
    DescribeLogDirsResponse::default().with_results(vec![answer])
}

/// Replicas never move between directories, so nothing lags and nothing is in the future.
fn described(partition: &PartitionSize) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition::default()
        .with_partition_index(index(partition))
        .with_partition_size(signed(partition.size_bytes))
        .with_offset_lag(0)
}

fn index(partition: &PartitionSize) -> i32 {
    i32::try_from(partition.partition).unwrap_or(i32::MAX)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

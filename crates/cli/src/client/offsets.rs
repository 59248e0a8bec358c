//! ListOffsets over many partitions: each is asked of its leader.

use std::collections::BTreeMap;
use std::time::Instant;

use duolog_record::{NameFilter, NameSearch};
use duolog_types::Offset;
use futures_util::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};

use super::{Api, BACKOFF, Client, ClientError, TopicInfo, api, check, text};

const LIST_OFFSETS: Api = api("ListOffsets", 1, 7);

/// Which offset is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The first that is kept.
    Earliest,
    /// The next that consumers will see.
    Latest,
    /// The first record with this timestamp or a later one, in milliseconds since the epoch.
    AtOrAfter(i64),
}

impl Asked {
    fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::AtOrAfter(ms) => ms.max(0),
        }
    }
}

/// What the leaders are asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// The same for each partition.
    Of(Asked),
    /// From where on something of a name may lie, by partition; the others are not asked.
    MayHold(&'a BTreeMap<i32, i64>, NameFilter),
}

impl Question<'_> {
    fn is_about(self, partition: i32) -> bool {
        match self {
            Self::Of(_) => true,
            Self::MayHold(from, _) => from.contains_key(&partition),
        }
    }

    fn of(self, partition: i32) -> ListOffsetsPartition {
        let question = ListOffsetsPartition::default().with_partition_index(partition).with_current_leader_epoch(-1);
        match self {
            Self::Of(asked) => question.with_timestamp(asked.timestamp()),
            Self::MayHold(from, name) => {
                let from = Offset(from.get(&partition).copied().unwrap_or(0));
                let fields = BTreeMap::from([(NameSearch::FIELD, NameSearch { from, name }.encode())]);
                // A broker that does not know the field answers the first offset: nothing is passed over.
                question.with_timestamp(Asked::Earliest.timestamp()).with_unknown_tagged_fields(fields)
            }
        }
    }
}

/// An offset that was found; `None` when no record is that late.
pub type FoundOffset = Option<i64>;

type Partition = (String, i32);

impl Client {
    /// Offsets of all partitions of some topics, by topic and partition; asked once. A partition without a leader that answers has
    /// an error of its own.
    pub async fn try_offsets(
        &self,
        topics: &[TopicInfo],
        asked: Asked,
    ) -> BTreeMap<Partition, Result<FoundOffset, ClientError>> {
        self.ask_leaders(topics, Question::Of(asked)).await
    }

    async fn ask_leaders(
        &self,
        topics: &[TopicInfo],
        question: Question<'_>,
    ) -> BTreeMap<Partition, Result<FoundOffset, ClientError>> {
        let mut by_leader: BTreeMap<i32, Vec<Partition>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for topic in topics {
            for partition in topic.partitions.iter().filter(|known| question.is_about(known.partition)) {
                let key = (topic.name.clone(), partition.partition);
                match partition.leader {
                    Some(leader) => by_leader.entry(leader).or_default().push(key),
                    None => {
                        let what = words(&key);
                        found.insert(key, Err(ClientError::NoLeader { what }));
                    }
                }
            }
        }
        let calls =
            by_leader.into_iter().map(|(leader, partitions)| self.offsets_of_leader(leader, partitions, question));
        found.extend(join_all(calls).await.into_iter().flatten());
        found
    }

    /// Offsets of all partitions of a topic; asked again until each has an answer.
    ///
    /// # Errors
    /// The topic is unknown, or a partition has no leader within the time-out.
    pub async fn offsets(&self, topic: &str, asked: Asked) -> Result<BTreeMap<i32, FoundOffset>, ClientError> {
        self.ask(topic, Question::Of(asked)).await
    }

    /// Passes over what holds nothing of a name: the offset of each partition, or a later one at which something may lie. Leaders
    /// look at some thousands of batches in one turn, so an answer may also say how far they came.
    ///
    /// # Errors
    /// As [`Self::offsets`].
    pub async fn may_hold(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        name: NameFilter,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let reached = self.ask(topic, Question::MayHold(from, name)).await?;
        let later = |(partition, from): (&i32, &i64)| {
            (*partition, reached.get(partition).copied().flatten().unwrap_or(0).max(*from))
        };
        Ok(from.iter().map(later).collect())
    }

    async fn ask(&self, topic: &str, question: Question<'_>) -> Result<BTreeMap<i32, FoundOffset>, ClientError> {
        let end = Instant::now() + self.timeout();
        loop {
            let info = self.topic(topic).await?;
            let answers = self.ask_leaders(std::slice::from_ref(&info), question).await;
            let all: Result<BTreeMap<i32, FoundOffset>, ClientError> =
                answers.into_iter().map(|((_, partition), found)| Ok((partition, found?))).collect();
            match all {
                Err(error) if error.is_retriable() && Instant::now() + BACKOFF < end => {
                    tokio::time::sleep(BACKOFF).await;
                }
                other => return other,
            }
        }
    }

    async fn offsets_of_leader(
        &self,
        leader: i32,
        partitions: Vec<Partition>,
        question: Question<'_>,
    ) -> Vec<(Partition, Result<FoundOffset, ClientError>)> {
        let request = |_version| {
            let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
            for (topic, partition) in &partitions {
                topics.entry(topic).or_default().push(question.of(*partition));
            }
            let topics = topics.into_iter().map(|(name, partitions)| {
                ListOffsetsTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
            });
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect())
        };
        let response = match self.call_node(leader, LIST_OFFSETS, self.attempt(), request).await {
            Ok(response) => response,
            Err(error) => return spread(partitions, error),
        };
        let mut found = BTreeMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                let key = (topic.name.to_string(), partition.partition_index);
                let result = check(|| words(&key), partition.error_code, None)
                    .map(|()| (partition.offset >= 0).then_some(partition.offset));
                found.insert(key, result);
            }
        }
        let answer = |key: Partition| {
            let result = found.remove(&key).unwrap_or_else(|| Err(ClientError::NoLeader { what: words(&key) }));
            (key, result)
        };
        partitions.into_iter().map(answer).collect()
    }
}

fn words((topic, partition): &Partition) -> String {
    format!("partition {partition} of topic {topic:?}")
}

/// One failed call, told to each of its partitions: the first gets the error itself.
fn spread(partitions: Vec<Partition>, error: ClientError) -> Vec<(Partition, Result<FoundOffset, ClientError>)> {
    let mut error = Some(error);
    let failed = |key: Partition| {
        let error = error.take().unwrap_or_else(|| ClientError::NoLeader { what: words(&key) });
        (key, Err(error))
    };
    partitions.into_iter().map(failed).collect()
}

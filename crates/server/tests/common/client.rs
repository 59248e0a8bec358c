//! A minimal Kafka client, blocking, made of kafka-protocol's encoders. Topics have one partition.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use duolog_record::{BatchBuilder, RecordBatch};
use duolog_types::TimestampMs;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

const TIMEOUT: Duration = Duration::from_secs(30);
const RECORDS_BYTES_MAX: usize = 16 << 20;
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;

/// An answered produce request.
#[derive(Debug, Clone, Copy)]
pub struct Produced {
    pub error_code: i16,
    pub offset: i64,
    pub took: Duration,
}

/// What a fetch gave.
#[derive(Debug)]
pub struct Fetched {
    pub error_code: i16,
    pub high_watermark: i64,
    pub values: Vec<String>,
}

pub struct Client {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, next_correlation_id: 0 })
    }

    /// A handle to the same connection, to receive with.
    fn second(&self) -> Self {
        let stream = self.stream.try_clone().expect("a second handle");
        Self { stream, next_correlation_id: self.next_correlation_id }
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next_correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        self.next_correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut frame, version).map_err(io::Error::other)?;
        let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)
    }

    fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        let mut body = Bytes::from(body);
        ResponseHeader::decode(&mut body, R::Response::header_version(version)).map_err(io::Error::other)?;
        let response = R::Response::decode(&mut body, version).map_err(io::Error::other)?;
        if body.has_remaining() {
            return Err(io::Error::other(format!("{} bytes are left over", body.remaining())));
        }
        Ok(response)
    }

    /// One request and its answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Creates a topic with one partition; panics when it is refused.
    pub fn create_topic(&mut self, name: &str, configs: &[(&str, &str)]) {
        let config = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(-1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
        let response = self.call(CREATE_TOPICS_VERSION, &request).expect("an answer to CreateTopics");
        let created = &response.topics[0];
        assert_eq!(created.error_code, 0, "topic {name}: {:?}", created.error_message);
    }

    /// The leader of a topic's partition, as this node knows it; `None` while there is none.
    pub fn leader(&mut self, topic: &str) -> Option<u64> {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        let response = self.call(METADATA_VERSION, &request).expect("an answer to Metadata");
        let partition = response.topics.first()?.partitions.first()?;
        u64::try_from(partition.leader_id.0).ok()
    }

    /// One record, acks = all.
    pub fn produce(&mut self, topic: &str, value: &str) -> io::Result<Produced> {
        let begin = Instant::now();
        let response = self.call(PRODUCE_VERSION, &produce_request(topic, value))?;
        Ok(produced(&response, begin))
    }

    /// Whatever is given as records of a partition, acks = all.
    pub fn produce_records(&mut self, topic: &str, partition: i32, records: Bytes) -> io::Result<Produced> {
        let begin = Instant::now();
        let response = self.call(PRODUCE_VERSION, &produce_request_of(topic, partition, records))?;
        Ok(produced(&response, begin))
    }

    /// Records with the values of a range, one per `interval`, whether the former are answered or not. Answers come in
    /// order; an answer's time counts from the moment when its record was due.
    pub fn produce_steadily(&mut self, topic: &str, values: Range<usize>, interval: Duration) -> Vec<Produced> {
        let mut receiver = self.second();
        let begin = Instant::now();
        let (first, count) = (values.start, values.len());
        let due = |i: usize| begin + interval * i as u32;
        std::thread::scope(|scope| {
            let received = scope.spawn(move || -> Vec<Produced> {
                let answer = |i| {
                    let response = receiver.receive::<ProduceRequest>(PRODUCE_VERSION).expect("an answer to Produce");
                    produced(&response, due(i))
                };
                (0..count).map(answer).collect()
            });
            for i in 0..count {
                // The pace, not a condition.
                std::thread::sleep(due(i).saturating_duration_since(Instant::now()));
                self.send(PRODUCE_VERSION, &produce_request(topic, &(first + i).to_string()))
                    .expect("the connection stays");
            }
            received.join().expect("the answers are received")
        })
    }

    /// Records from `offset`, as soon as there are any, else nothing after `wait`.
    pub fn fetch(&mut self, topic: &str, offset: i64, wait: Duration) -> io::Result<Fetched> {
        let request = fetch_request(topic, offset, wait, 1 << 20);
        let response = self.call(FETCH_VERSION, &request)?;
        fetched(&response, offset)
    }

    /// Asks for as many records as one answer may hold, from the start of a topic.
    pub fn ask_for_everything(&mut self, topic: &str) -> io::Result<()> {
        self.send(FETCH_VERSION, &fetch_request(topic, 0, Duration::ZERO, i32::MAX))
    }

    /// The answer to the first such request that is not answered yet.
    pub fn answer_for_everything(&mut self) -> io::Result<Fetched> {
        let response = self.receive::<FetchRequest>(FETCH_VERSION)?;
        fetched(&response, 0)
    }

    /// Sends records with this value, each in a request of its own, without waiting for answers, until it shall stop. Counts
    /// the answers.
    pub fn flood(mut self, topic: &str, value: &str, stop: &AtomicBool, answered: &AtomicUsize) {
        let mut receiver = self.second();
        let sent = AtomicUsize::new(0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut received = 0;
                while !done.load(Ordering::Acquire) || received < sent.load(Ordering::Acquire) {
                    if received == sent.load(Ordering::Acquire) {
                        std::thread::yield_now();
                        continue;
                    }
                    receiver.receive::<ProduceRequest>(PRODUCE_VERSION).expect("an answer to Produce");
                    received += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let request = produce_request(topic, value);
            while !stop.load(Ordering::Relaxed) {
                self.send(PRODUCE_VERSION, &request).expect("the connection stays");
                sent.fetch_add(1, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        });
    }

    /// Every visible record from the start of a topic.
    pub fn fetch_all(&mut self, topic: &str) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let fetched = self.fetch(topic, values.len() as i64, Duration::ZERO).expect("an answer to Fetch");
            assert_eq!(fetched.error_code, 0, "{topic}");
            if fetched.values.is_empty() {
                return values;
            }
            values.extend(fetched.values);
        }
    }
}

fn fetch_request(topic: &str, offset: i64, wait: Duration, bytes_max: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn fetched(response: &FetchResponse, offset: i64) -> io::Result<Fetched> {
    let partition = &response.responses[0].partitions[0];
    let batches = batches(partition.records.clone().unwrap_or_default())?;
    let mut values = Vec::new();
    for batch in &batches {
        batch.check_crc().map_err(io::Error::other)?;
        for record in batch.records(RECORDS_BYTES_MAX).map_err(io::Error::other)? {
            let record = record.map_err(io::Error::other)?;
            if record.offset.0 >= offset {
                values.push(String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned());
            }
        }
    }
    Ok(Fetched { error_code: partition.error_code, high_watermark: partition.high_watermark, values })
}

/// The stored batches that a fetch gave, whole ones.
fn batches(mut records: Bytes) -> io::Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while let Some(length) = records.get(8..12) {
        let size = 12 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if size > records.len() {
            break;
        }
        batches.push(RecordBatch::parse(records.split_to(size)).map_err(io::Error::other)?);
    }
    Ok(batches)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A batch of one record.
pub fn batch(value: &str) -> Bytes {
    let mut batch = BatchBuilder::new();
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    batch.push(TimestampMs(since.as_millis() as i64), None, Some(value.as_bytes())).expect("a small record");
    batch.build().expect("a small batch").into_bytes()
}

fn produce_request(topic: &str, value: &str) -> ProduceRequest {
    produce_request_of(topic, 0, batch(value))
}

fn produce_request_of(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![topic])
}

fn produced(response: &ProduceResponse, begin: Instant) -> Produced {
    let partition = &response.responses[0].partition_responses[0];
    Produced { error_code: partition.error_code, offset: partition.base_offset, took: begin.elapsed() }
}

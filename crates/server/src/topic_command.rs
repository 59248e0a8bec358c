//! `duolog topic`: the little that setting a cluster up needs, over the Kafka protocol.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::Subcommand;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VERSION: i16 = 7;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub enum TopicCommand {
    /// Creates a topic: `duolog topic create --bootstrap 127.0.0.1:9092 payments --config duolog.flush=sync`.
    Create {
        /// Addresses of nodes: HOST:PORT[,HOST:PORT…].
        #[arg(long, default_value = "127.0.0.1:9092")]
        bootstrap: String,
        /// Name of the topic.
        name: String,
        /// Number of partitions; the cluster's default otherwise.
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// A topic config as KEY=VALUE; may be repeated.
        #[arg(long = "config", value_name = "KEY=VALUE", num_args = 1..)]
        configs: Vec<String>,
        /// Do not complain when the topic is there already.
        #[arg(long)]
        if_not_exists: bool,
    },
}

pub fn run(command: TopicCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let TopicCommand::Create { bootstrap, name, partitions, configs, if_not_exists } = command;
    let configs = configs
        .iter()
        .map(|config| config.split_once('=').with_context(|| format!("--config {config:?}: expected KEY=VALUE")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.clone())))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(
            configs
                .into_iter()
                .map(|(key, value)| {
                    CreatableTopicConfig::default()
                        .with_name(StrBytes::from_string(key.to_owned()))
                        .with_value(Some(StrBytes::from_string(value.to_owned())))
                })
                .collect(),
        );
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
    let response = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&bootstrap, &request)).await });
    let response = response.with_context(|| format!("{bootstrap} does not answer"))??;
    let Some(result) = response.topics.first() else { bail!("{bootstrap} answered without a result") };
    match result.error_code {
        0 => println!("created topic {name} with {} partitions", result.num_partitions),
        TOPIC_ALREADY_EXISTS if if_not_exists => println!("topic {name} is there already"),
        code => bail!(
            "topic {name} was not created (Kafka error {code}): {}",
            result.error_message.as_ref().map_or("", |message| message.as_str())
        ),
    }
    Ok(())
}

/// The first of the listed nodes that takes a connection.
async fn connect(bootstrap: &str) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(anyhow::Error::new(error).context(format!("cannot connect to {address}"))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("--bootstrap {bootstrap:?}: expected HOST:PORT[,HOST:PORT…]")))
}

async fn ask(bootstrap: &str, request: &CreateTopicsRequest) -> anyhow::Result<CreateTopicsResponse> {
    let mut stream = connect(bootstrap).await?;
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::CreateTopics as i16)
        .with_request_api_version(VERSION)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("duolog-cli")));
    let mut body = BytesMut::new();
    header.encode(&mut body, ApiKey::CreateTopics.request_header_version(VERSION))?;
    request.encode(&mut body, VERSION)?;
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.put_u32(u32::try_from(body.len())?);
    frame.put(body);
    stream.write_all(&frame).await?;
    let length = stream.read_u32().await?;
    let mut answer = vec![0; usize::try_from(length)?.min(16 << 20)];
    stream.read_exact(&mut answer).await?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, ApiKey::CreateTopics.response_header_version(VERSION))?;
    let response = CreateTopicsResponse::decode(&mut answer, VERSION)?;
    anyhow::ensure!(!answer.has_remaining(), "bytes left behind the answer");
    Ok(response)
}

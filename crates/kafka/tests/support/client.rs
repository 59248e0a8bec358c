//! A server on a real socket, and a client made of kafka-protocol's encoders.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use duolog_kafka::{KafkaConfig, KafkaMetrics, KafkaServer};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::FakeBroker;

/// A server on a port of its own, stopped and awaited by [`TestServer::stop`].
pub struct TestServer {
    pub port: u16,
    pub metrics: Arc<KafkaMetrics>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub async fn start(broker: FakeBroker) -> Self {
        Self::start_with(broker, KafkaConfig::default()).await
    }

    pub async fn start_with(broker: FakeBroker, config: KafkaConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = KafkaServer::new(broker, config);
        let metrics = server.metrics();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            server
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await;
        });
        Self { port, metrics, stop, task }
    }

    pub async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(("127.0.0.1", self.port)).await.unwrap(), next_correlation_id: 1 }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
        assert_eq!(self.metrics.connections(), 0);
    }
}

/// A client on one connection.
pub struct Client {
    pub stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    /// Sends a request; gives its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.stream.write_all(&frame(version, correlation_id, request)).await.unwrap();
        correlation_id
    }

    /// Receives the next answer: correlation id and what follows the length.
    pub async fn receive(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Bytes::from(body))
    }

    /// Receives the answer to a request of this type, which must leave no byte over.
    pub async fn receive_as<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut body = self.receive().await.expect("the server answers");
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(!body.has_remaining(), "{} bytes are left over", body.remaining());
        (header.correlation_id, response)
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        let sent = self.send(version, &request).await;
        let (answered, response) = self.receive_as::<R>(version).await;
        assert_eq!(answered, sent);
        response
    }

    /// Whether the server closed the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut byte))
            .await
            .is_ok_and(|read| !matches!(read, Ok(1)))
    }
}

/// A request frame as a client sends it.
pub fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut buffer = BytesMut::new();
    buffer.put_i32(0);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")))
        .encode(&mut buffer, ApiKey::try_from(R::KEY).unwrap().request_header_version(version))
        .unwrap();
    request.encode(&mut buffer, version).unwrap();
    let length = buffer.len() as i32 - 4;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
    buffer.freeze()
}

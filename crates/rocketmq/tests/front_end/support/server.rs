//! Front ends on real sockets, and clients with and without TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use duolog_rocketmq::proto::messaging_service_client::MessagingServiceClient;
use duolog_rocketmq::proto::{Message, Resource, SystemProperties};
use duolog_rocketmq::{RocketmqConfig, RocketmqMetrics, RocketmqNode, RocketmqServer};
use hyper_util::rt::TokioIo;
use ring::hmac;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring as provider_of_ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use super::FakeBroker;

pub type Client = MessagingServiceClient<InterceptedService<Channel, Named>>;

/// What a client signs its calls with.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    user: String,
    secret: String,
    date_time: Option<String>,
    authorization: Option<String>,
}

impl Credentials {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn new(user: &str, secret: &str) -> Self {
        Self { user: user.to_owned(), secret: secret.to_owned(), ..Self::default() }
    }

    pub fn at(self, date_time: &str) -> Self {
        Self { date_time: Some(date_time.to_owned()), ..self }
    }

    pub fn with_authorization(self, authorization: &str) -> Self {
        Self { authorization: Some(authorization.to_owned()), ..self }
    }

    fn sign(&self, metadata: &mut MetadataMap) {
        if self.user.is_empty() {
            return;
        }
        let date_time = self.date_time.clone().unwrap_or_else(now);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        let signature = hmac::sign(&key, date_time.as_bytes());
        let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let own = format!("MQv2-HMAC-SHA1 Credential={}, SignedHeaders=x-mq-date-time, Signature={hex}", self.user);
        let authorization = self.authorization.clone().unwrap_or(own);
        metadata.insert("x-mq-date-time", date_time.parse().unwrap());
        metadata.insert("authorization", authorization.parse().unwrap());
    }
}

/// The time as Rust's client writes it.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (mut year, mut day) = (1_970, days);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, day + 1)
}

/// Adds the metadata of a client.
#[derive(Clone)]
pub struct Named(String, Credentials);

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            request.metadata_mut().insert("x-mq-client-id", self.0.parse().unwrap());
        }
        self.1.sign(request.metadata_mut());
        Ok(request)
    }
}

/// A front end on a port of its own.
pub struct Node {
    pub port: u16,
    pub broker: FakeBroker,
    pub metrics: Arc<RocketmqMetrics>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Node {
    pub async fn client(&self, id: &str) -> Client {
        plain(self.port, id).await
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
        assert_eq!(self.metrics.connections(), 0);
    }
}

/// A front end for each of these nodes.
pub async fn start(brokers: &[FakeBroker]) -> Vec<Node> {
    start_with(brokers, RocketmqConfig { shutdown_grace_ms: 500, ..RocketmqConfig::default() }).await
}

pub async fn start_with(brokers: &[FakeBroker], config: RocketmqConfig) -> Vec<Node> {
    let mut listeners = Vec::new();
    for _ in brokers {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let node = |(broker, listener): (&FakeBroker, &TcpListener)| RocketmqNode {
        id: broker.id,
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let nodes: Vec<RocketmqNode> = brokers.iter().zip(&listeners).map(node).collect();
    let start = |((broker, listener), node): ((&FakeBroker, TcpListener), &RocketmqNode)| {
        let server =
            RocketmqServer::new(broker.clone(), RocketmqConfig { nodes: nodes.clone(), ..config.clone() }).unwrap();
        let (metrics, (stop, stopped)) = (server.metrics(), oneshot::channel::<()>());
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.serve(listener, shutdown).await;
        });
        Node { port: node.port, broker: broker.clone(), metrics, stop, task }
    };
    brokers.iter().zip(listeners).zip(&nodes).map(start).collect()
}

/// A client without TLS.
pub async fn plain(port: u16, id: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    client(endpoint.connect().await.unwrap(), id)
}

/// A client without TLS that signs its calls.
pub async fn signing(port: u16, id: &str, credentials: Credentials) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    MessagingServiceClient::with_interceptor(endpoint.connect().await.unwrap(), Named(id.to_owned(), credentials))
}

/// A client with TLS that takes any certificate.
pub async fn tls(port: u16, id: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    client(endpoint.connect_with_connector(Tls(port)).await.unwrap(), id)
}

fn client(channel: Channel, id: &str) -> Client {
    MessagingServiceClient::with_interceptor(channel, Named(id.to_owned(), Credentials::none()))
}

#[derive(Clone)]
struct Tls(u16);

impl tonic::codegen::Service<Uri> for Tls {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let port = self.0;
        Box::pin(async move {
            let provider = Arc::new(provider_of_ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            Ok(TokioIo::new(stream))
        })
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A message for a topic.
pub fn message(topic: &str, id: &str, queue_id: i32) -> Message {
    Message {
        topic: Some(Resource { resource_namespace: String::new(), name: topic.to_owned() }),
        system_properties: Some(SystemProperties {
            message_id: id.to_owned(),
            queue_id,
            ..SystemProperties::default()
        }),
        body: format!("body of {id}").into(),
        ..Message::default()
    }
}

//! TLS with a certificate that is made at start. Clients that speak TLS by default accept any certificate; those that check need
//! one of their operator's, which is not supported yet.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{self, ServerConfig};

/// The protocol that is spoken over TLS, as ALPN names it.
const HTTP2: &[u8] = b"h2";

/// TLS that cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate.
    #[error("a self-signed certificate for {names:?} cannot be made: {cause}")]
    Certificate {
        /// The hosts that it is for.
        names: Vec<String>,
        /// Why.
        cause: rcgen::Error,
    },
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Takes TLS connections with a new certificate for these hosts.
pub(crate) fn acceptor(hosts: impl IntoIterator<Item = String>) -> Result<TlsAcceptor, TlsError> {
    let mut names: Vec<String> = std::iter::once("localhost".to_owned()).chain(hosts).collect();
    names.dedup();
    let own =
        rcgen::generate_simple_self_signed(names.clone()).map_err(|cause| TlsError::Certificate { names, cause })?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

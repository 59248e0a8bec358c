//! TLS with the operator's certificate, or with one that is made at start: that one is good for clients that accept any.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::CertificateFiles;

/// The protocol that is spoken over TLS, as ALPN names it.
const HTTP2: &[u8] = b"h2";

const CHAIN: &str = "certificate chain";
const KEY: &str = "private key";

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
    /// A file of the operator's cannot be used.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Takes TLS connections, with this certificate or else with a new one for these hosts.
pub(crate) fn acceptor(
    hosts: impl IntoIterator<Item = String>,
    files: Option<&CertificateFiles>,
) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = match files {
        Some(files) => (read_chain(&files.chain)?, read_key(&files.key)?),
        None => self_signed(hosts)?,
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config = match (builder.with_single_cert(chain, key), files) {
        (Ok(config), _) => config,
        (Err(why), Some(files)) => {
            let why = format!("does not go with the certificate in {}: {why}", files.chain.display());
            return Err(TlsError::File { what: KEY, path: files.key.clone(), why });
        }
        (Err(why), None) => return Err(why.into()),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(hosts: impl IntoIterator<Item = String>) -> Result<Pair, TlsError> {
    let mut names: Vec<String> = std::iter::once("localhost".to_owned()).chain(hosts).collect();
    names.dedup();
    let own =
        rcgen::generate_simple_self_signed(names.clone()).map_err(|cause| TlsError::Certificate { names, cause })?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    Ok((vec![own.cert.der().clone()], key.into()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |why: String| TlsError::File { what: CHAIN, path: path.to_owned(), why };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| refuse(reason(&error)))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| refuse(reason(&error)))?;
    if chain.is_empty() {
        return Err(refuse("there is no CERTIFICATE in it".to_owned()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let refuse = |why| TlsError::File { what: KEY, path: path.to_owned(), why };
    PrivateKeyDer::from_pem_file(path).map_err(|error| refuse(reason(&error)))
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none in it, in PEM".to_owned(),
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        other => format!("is no PEM: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_reason() {
        let files = Files { directory: tempfile::tempdir().unwrap() };
        let own = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let chain = files.write("chain.pem", &pem("CERTIFICATE", own.cert.der()));
        let key = files.write("key.pem", &pem("PRIVATE KEY", &own.signing_key.serialize_der()));
        let of = |chain: &Path, key: &Path| {
            acceptor([], Some(&CertificateFiles { chain: chain.to_owned(), key: key.to_owned() })).map(drop)
        };
        of(&chain, &key).unwrap();
        let (missing, nothing) = (files.directory.path().join("none.pem"), files.write("nothing.pem", "no PEM\n"));
        let another = files.write("another.pem", &pem("PRIVATE KEY", &other.signing_key.serialize_der()));
        let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n");
        for (chain, key, name, expected) in [
            (&missing, &key, "none.pem", "cannot be read"),
            (&chain, &missing, "none.pem", "cannot be read"),
            (&nothing, &key, "nothing.pem", "no CERTIFICATE"),
            (&chain, &nothing, "nothing.pem", "none in it"),
            (&broken, &key, "broken.pem", "no PEM"),
            (&chain, &another, "another.pem", "does not go with"),
        ] {
            let error = of(chain, key).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
    }
}

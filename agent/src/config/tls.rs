//! TLS of `rediss://`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Ready to connect with.
#[derive(Clone)]
pub struct Tls {
    /// Roots, our certificate, versions.
    pub client: Arc<ClientConfig>,
    /// Whom the server's certificate must name.
    pub server_name: ServerName<'static>,
    /// That name was given, and is not the host's.
    is_named: bool,
}

/// The options of an endpoint.
#[derive(Debug, Default)]
pub struct TlsFiles {
    /// PEM of the authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM of our certificate (chain), for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// PEM of its private key.
    pub key: Option<PathBuf>,
    /// Name to expect in the server's certificate, instead of the host's.
    pub server_name: Option<String>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is unreadable or holds no PEM of that kind.
    #[error("cannot use {what} {path}: {error}")]
    File {
        /// `the CA file`, `the certificate`, `the key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// One of the pair is missing.
    #[error("`cert` and `key` go together: give both or none")]
    Pair,
    /// No roots at all.
    #[error("the system has no trusted certificates: give `ca`")]
    NoRoots,
    /// Not a DNS name or IP address.
    #[error("`{0}` is no server name: give `server-name`")]
    ServerName(String),
    /// What rustls refuses, e.g. a key that does not fit the certificate.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file is missing or not what it should be.
    pub fn load(files: &TlsFiles, host: &str) -> Result<Self, TlsError> {
        let name = files.server_name.clone().unwrap_or_else(|| host.to_owned());
        let server_name = ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(files.roots()?);
        let client = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| refused("the key", key, error))?;
                builder.with_client_auth_cert(certificates("the certificate", cert)?, key)?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(TlsError::Pair),
        };
        Ok(Self { client: Arc::new(client), server_name, is_named: files.server_name.is_some() })
    }

    /// The same for another host.
    #[must_use]
    pub fn at(&self, host: &str) -> Self {
        let mut tls = self.clone();
        if !tls.is_named
            && let Ok(name) = ServerName::try_from(host.to_owned())
        {
            tls.server_name = name;
        }
        tls
    }
}

impl TlsFiles {
    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates("the CA file", path)? {
                    roots.add(certificate).map_err(|error| refused("the CA file", path, error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |error| refused(what, path, error);
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(refused)?.collect::<Result<_, _>>().map_err(refused)?;
    match certificates.is_empty() {
        true => Err(TlsError::File { what, path: path.to_owned(), error: "no certificate in it".into() }),
        false => Ok(certificates),
    }
}

fn refused(what: &'static str, path: &Path, error: impl fmt::Display) -> TlsError {
    TlsError::File { what, path: path.to_owned(), error: error.to_string() }
}

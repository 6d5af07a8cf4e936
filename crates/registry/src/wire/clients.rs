//! HTTP clients with the TLS settings of each host.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::Client;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::sync::OnceCell;

use super::endpoint::{Endpoint, is_loopback};
use crate::{HostConfig, KeyPair, ProxyConfig, RegistryConfig, RegistryError};

/// Makes clients when they are first wanted, and keeps them.
#[derive(Debug)]
pub(super) struct Clients {
    config: Arc<RegistryConfig>,
    /// Reading all the system's certificates takes a while: it is done once, and not at start.
    system_roots: OnceCell<RootCertStore>,
    made: Mutex<HashMap<Key, Arc<OnceCell<Client>>>>,
}

/// What makes two clients different: whose TLS settings they have (nobody's if empty), and whether
/// they go round the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    settings: String,
    loopback: bool,
}

impl Clients {
    pub(super) fn new(config: Arc<RegistryConfig>) -> Self {
        Self { config, system_roots: OnceCell::new(), made: Mutex::default() }
    }

    /// Returns the client for an endpoint.
    pub(super) async fn client(&self, endpoint: &Endpoint) -> Result<Client, RegistryError> {
        let own = self.config.hosts.get(&endpoint.settings).filter(|settings| {
            settings.insecure || !settings.ca.is_empty() || !settings.keypairs.is_empty()
        });
        let settings = own.map(|_| endpoint.settings.clone()).unwrap_or_default();
        let key = Key { settings, loopback: is_loopback(&endpoint.address) };
        let cell = self.made.lock().entry(key.clone()).or_default().clone();
        let client = cell.get_or_try_init(|| self.make(key, own.cloned().unwrap_or_default()));
        client.await.cloned()
    }

    async fn make(&self, key: Key, settings: HostConfig) -> Result<Client, RegistryError> {
        let failed =
            |problem: String| RegistryError::Config { host: key.settings.clone(), problem };
        let roots = self
            .system_roots
            .get_or_try_init(|| tasks::blocking("read system certificates", system_roots))
            .await
            .map_err(|error| failed(error.to_string()))?
            .clone();
        let host = key.settings.clone();
        let tls = tasks::blocking("read certificates", move || tls_config(&host, &settings, roots))
            .await
            .map_err(|error| failed(error.to_string()))??;
        let mut builder = Client::builder()
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.config.timing.connect)
            .tcp_keepalive(std::time::Duration::from_secs(60))
            // One connection per transfer: several in one HTTP/2 connection share its window.
            .http1_only()
            .tls_backend_preconfigured(tls);
        match &self.config.proxy {
            ProxyConfig::System if !key.loopback => {}
            ProxyConfig::Url(url) if !key.loopback => {
                let proxy = reqwest::Proxy::all(url).map_err(|error| failed(error.to_string()))?;
                builder = builder.proxy(proxy);
            }
            ProxyConfig::System | ProxyConfig::None | ProxyConfig::Url(_) => {
                builder = builder.no_proxy();
            }
        }
        builder.build().map_err(|error| failed(error.to_string()))
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "a system certificate was left out");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn tls_config(
    host: &str,
    settings: &HostConfig,
    mut roots: RootCertStore,
) -> Result<ClientConfig, RegistryError> {
    for path in &settings.ca {
        let certificates = read_certificates(path)
            .map_err(|source| bad_file(host, "a certificate authority", path, source))?;
        roots.add_parsable_certificates(certificates);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |problem: String| RegistryError::Config { host: host.to_owned(), problem };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = if settings.insecure {
        let verifier = Arc::new(AnyCertificate(provider.clone()));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots)
    };
    if settings.keypairs.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let keys = settings
        .keypairs
        .iter()
        .map(|pair| read_pair(host, pair, &provider).map(Arc::new))
        .collect::<Result<_, _>>()?;
    Ok(builder.with_client_cert_resolver(Arc::new(ClientKeys(keys))))
}

type FileProblem = Box<dyn std::error::Error + Send + Sync>;

fn bad_file(
    host: &str,
    purpose: &'static str,
    path: &Path,
    source: impl Into<FileProblem>,
) -> RegistryError {
    let (host, path) = (host.to_owned(), path.to_owned());
    RegistryError::File { host, purpose, path, source: source.into() }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    let pem = std::fs::read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no certificate in it").into());
    }
    Ok(certificates)
}

fn read_pair(
    host: &str,
    pair: &KeyPair,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, RegistryError> {
    let certificates = read_certificates(&pair.certificate)
        .map_err(|source| bad_file(host, "a client certificate", &pair.certificate, source))?;
    let bad_key = |source: FileProblem| bad_file(host, "a client key", &pair.key, source);
    let pem = std::fs::read(&pair.key).map_err(|error| bad_key(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad_key(error.into()))?;
    CertifiedKey::from_der(certificates, key, provider).map_err(|error| bad_key(error.into()))
}

/// Shows the first certificate whose key the server can check.
#[derive(Debug)]
struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientKeys {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Accepts every certificate, as long as the server has its key.
struct AnyCertificate(Arc<CryptoProvider>);

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyCertificate")
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Certificates: who is trusted, and what is shown.

use std::path::PathBuf;
use std::sync::Arc;

use digests::Digest;
use oci::media;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key};
use registry::{Access, HostConfig, KeyPair, Registry, RegistryConfig, RegistryError};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::scripted::{Answer, Server, answer, quick, registry};

/// An authority, with a certificate for the server and one for a client.
struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, Key>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, Key::generate().unwrap()).unwrap();
        Self { directory: tempfile::tempdir().unwrap(), issuer }
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.write("ca.pem", &self.issuer.pem())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, Key) {
        let key = Key::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self) -> KeyPair {
        let (certificate, key) = self.issue("client");
        KeyPair {
            certificate: self.write("client.pem", &certificate.pem()),
            key: self.write("client-key.pem", &key.serialize_pem()),
        }
    }

    /// Returns what a server does that shows a certificate, and perhaps wants one.
    fn acceptor(&self, wants_client: bool) -> TlsAcceptor {
        let (certificate, key) = self.issue("127.0.0.1");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = key.serialize_der().try_into().unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn found() -> Answer {
    let digest = Digest::of("{}").to_string();
    answer(200, &[("content-type", media::OCI_INDEX), ("docker-content-digest", &digest)], "{}")
}

async fn resolve(server: &Server, settings: HostConfig) -> Result<(), RegistryError> {
    let config =
        RegistryConfig { hosts: [(server.host(), settings)].into_iter().collect(), ..quick() };
    let access = Access::anonymous();
    registry(config).resolve(&server.reference("a"), &access).await.map(|_| ())
}

#[tokio::test]
async fn only_a_trusted_certificate_will_do() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.acceptor(false), |_, _| found()).await;
    // It does not help that the host is on the loopback interface: plain HTTP is no way round.
    for http in [None, Some(false)] {
        let error =
            resolve(&server, HostConfig { http, ..HostConfig::default() }).await.unwrap_err();
        assert!(matches!(error, RegistryError::Connection { .. }), "{error:?}");
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
    assert!(server.asked().is_empty());
    resolve(&server, HostConfig { ca: vec![authority.ca()], ..HostConfig::default() })
        .await
        .unwrap();
    resolve(&server, HostConfig { insecure: true, ..HostConfig::default() }).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.acceptor(true), |_, _| found()).await;
    let mut settings =
        HostConfig { ca: vec![authority.ca()], http: Some(false), ..HostConfig::default() };
    resolve(&server, settings.clone()).await.unwrap_err();
    settings.keypairs = vec![authority.client()];
    resolve(&server, settings).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let authority = Authority::new();
    let server = Server::with_tls(authority.acceptor(false), |_, _| found()).await;
    let empty = authority.write("empty.pem", "hello");
    let missing = authority.directory.path().join("missing.pem");
    let swapped = KeyPair { certificate: authority.ca(), key: authority.ca() };
    for (settings, path) in [
        (HostConfig { ca: vec![empty.clone()], ..HostConfig::default() }, empty),
        (HostConfig { ca: vec![missing.clone()], ..HostConfig::default() }, missing),
        (HostConfig { keypairs: vec![swapped.clone()], ..HostConfig::default() }, swapped.key),
    ] {
        let error = resolve(&server, settings).await.unwrap_err();
        assert!(matches!(error, RegistryError::File { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

//! Sockets: who may come, and how.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::control::InfoRequest;
use proto::control::control_client::ControlClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::fixture::{Client, Daemon, Start};

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

/// One who signs certificates.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Identity {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// Returns the address that the daemon's log tells.
fn tcp_address(daemon: &mut Daemon) -> SocketAddr {
    let line = daemon.wait_for("tcp://");
    let (_, address) = line.split_once("tcp://").unwrap();
    let end = address.find([' ', '"']).unwrap_or(address.len());
    let address = address[..end].parse().unwrap();
    daemon.wait_for("larderd: ready");
    address
}

/// Starts a daemon that speaks TLS and wants to see clients' certificates.
fn strict_daemon(authority: &Authority) -> (Daemon, SocketAddr) {
    let start = Start::default();
    let server = authority.sign("localhost");
    let file = |name: &str, text: &str| {
        let path = start.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = file("cert.pem", &server.certificate);
    let (key, ca) = (file("key.pem", &server.key), file("ca.pem", &authority.certificate));
    let start = start.with("--addr=tcp://127.0.0.1:0").with(format!("--tlscert={certificate}"));
    let start = start.with(format!("--tlskey={key}")).with(format!("--tlscacert={ca}"));
    let mut daemon = start.spawn();
    let address = tcp_address(&mut daemon);
    (daemon, address)
}

/// Connects by TLS, naming these protocols, with this certificate if any.
async fn connect_tls(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    let dial = move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    };
    Endpoint::from_static("http://localhost").connect_with_connector(service_fn(dial)).await
}

async fn answers(channel: Channel) -> bool {
    ControlClient::new(channel).info(InfoRequest {}).await.is_ok()
}

#[tokio::test]
async fn a_client_with_a_certificate_is_served_whether_or_not_it_names_a_protocol() {
    let authority = Authority::new();
    let (_daemon, address) = strict_daemon(&authority);
    let client = authority.sign("client");
    for protocols in [&[][..], &["h2"], &["h2", "http/1.1"]] {
        let channel = connect_tls(address, &authority, Some(&client), protocols).await.unwrap();
        assert!(answers(channel).await, "{protocols:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_good_certificate_is_refused() {
    let authority = Authority::new();
    let (_daemon, address) = strict_daemon(&authority);
    let stranger = Authority::new().sign("client");
    for identity in [None, Some(&stranger)] {
        let refused = match connect_tls(address, &authority, identity, &[]).await {
            Ok(channel) => !answers(channel).await,
            Err(_) => true,
        };
        assert!(refused);
    }
    // Nor is one that does not speak TLS at all.
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let served = match plain.connect().await {
        Ok(channel) => answers(channel).await,
        Err(_) => false,
    };
    assert!(!served);
}

#[tokio::test]
async fn several_addresses_are_served_at_once() {
    let mut daemon = Start::default().on_unix().with("--addr").with("tcp://127.0.0.1:0").spawn();
    let address = tcp_address(&mut daemon);
    assert!(answers(daemon.connect().await.channel).await);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    assert!(answers(endpoint.connect().await.unwrap()).await);
}

#[test]
fn a_unix_socket_is_for_its_group() {
    let daemon = Start::default().on_unix().with("--group=12345").ready();
    let socket = std::fs::metadata(daemon.path("s.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    assert_eq!((socket.uid(), socket.gid()), (0, 12345));
}

#[tokio::test]
async fn a_socket_may_be_passed() {
    let start = Start::default().with("--addr=fd://");
    let path = start.path("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = start.passing(listener).ready();
    assert!(answers(Client::unix(&daemon.path("passed.sock")).await.channel).await);
}

#[test]
fn a_socket_that_was_not_passed_is_missed() {
    let mut daemon = Start::default().with("--addr=fd://").spawn();
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("the service manager passed no such socket"), "{log}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let start = Start::default().on_unix();
    drop(UnixListener::bind(start.path("s.sock")).unwrap());
    let daemon = start.ready();
    assert!(answers(daemon.connect().await.channel).await);
}

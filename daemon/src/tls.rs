//! TLS for TCP listeners.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file has no such thing, or cannot be read.
    #[error("cannot read a {what} from `{}`", path.display())]
    Read {
        /// A certificate, or a key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate and the key do not go together.
    #[error("cannot use the certificate `{}`", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
    /// No client can be verified with what is in the file.
    #[error("cannot verify clients with `{}`: {reason}", path.display())]
    Clients {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Returns what makes TLS of a connection. A client need not ask for HTTP/2 by name: some never do.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let builder = ServerConfig::builder();
    let builder = match &files.clients {
        Some(path) => {
            let refused = |reason: String| TlsError::Clients { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(read("key", &files.key))?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|source| TlsError::Certificate { path: files.certificate.clone(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(read("certificate", path))?;
    let certificates: Vec<_> =
        certificates.collect::<Result<_, _>>().map_err(read("certificate", path))?;
    if certificates.is_empty() {
        return Err(read("certificate", path)(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn read(
    what: &'static str,
    path: &Path,
) -> impl Fn(rustls_pki_types::pem::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::Read { what, path: path.clone(), source }
}

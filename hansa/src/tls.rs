//! Certificates from files, handed to the crate that knows TLS.

use std::path::Path;
use std::sync::Arc;

use hansa_api::{Accept, Accepting, ByteStream};
use hansa_model::Secret;
use hansa_transport::http::{PeerClient, PeerClientConfig, PeerHttp};
use hansa_transport::tls::TlsAcceptor;
use tokio::net::TcpStream;

use crate::cli::failure::{Exit, Failure, chain};

/// The HTTP listener's TLS from two PEM files.
pub(crate) fn acceptor(cert: &Path, key: &Path) -> Result<Arc<dyn Accept>, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
    };
    let (chain_pem, key_pem) = (read(cert)?, Secret::new(read(key)?));
    let acceptor = TlsAcceptor::from_pem(&chain_pem, &key_pem)
        .map_err(|error| Failure::usage(chain(&error)).next("--tls-cert and --tls-key with files in PEM"))?;
    Ok(Arc::new(Tls(acceptor)))
}

/// HTTP to peers, with the public certificate authorities.
pub(crate) fn peer_http() -> Result<Arc<dyn PeerHttp>, Failure> {
    let client = PeerClient::new(&PeerClientConfig::default()).map_err(|error| {
        Failure::new(Exit::Failed, format!("no HTTP client for peers: {}", chain(&error)))
    })?;
    Ok(Arc::new(client))
}

/// The transport's acceptor as the API takes it.
#[derive(Debug)]
struct Tls(TlsAcceptor);

impl Accept for Tls {
    fn accept(&self, connection: TcpStream) -> Accepting {
        let acceptor = self.0.clone();
        Box::pin(async move {
            let stream: Box<dyn ByteStream> = Box::new(acceptor.accept(connection).await?);
            Ok(stream)
        })
    }
}

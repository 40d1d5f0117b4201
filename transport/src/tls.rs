//! TLS of the HTTP listener: the operator's certificate in front of the API. Not the links' (see `pin`).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use hansa_model::Secret;
use hansa_model::limits::http::HEADER_WAIT_MAX;

use crate::error::TlsSetupError;

/// Turns accepted TCP connections into encrypted ones. Cheap to clone.
#[derive(Clone)]
pub struct TlsAcceptor(tokio_rustls::TlsAcceptor);

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl TlsAcceptor {
    /// From the text of the operator's two files: a chain with the server's certificate first, and its key.
    /// TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// See [`TlsSetupError`]: the files need to be fixed.
    pub fn from_pem(chain_pem: &str, key_pem: &Secret<String>) -> Result<Self, TlsSetupError> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsSetupError::NoCertificate)?;
        if chain.is_empty() {
            return Err(TlsSetupError::NoCertificate);
        }
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes()).map_err(|_| TlsSetupError::NoKey)?;
        let unusable = |error: rustls::Error| TlsSetupError::Unusable(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(tokio_rustls::TlsAcceptor::from(Arc::new(config))))
    }

    /// Completes the handshake, within the time that a request's headers get. Call it in the connection's own
    /// task.
    ///
    /// # Errors
    /// The client's fault or the network's: drop the connection.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream> {
        match timeout(HEADER_WAIT_MAX, self.0.accept(tcp)).await {
            Ok(accepted) => accepted.map(|stream| TlsStream(Box::new(stream))),
            Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
        }
    }
}

/// An encrypted connection to an HTTP client.
pub struct TlsStream(Box<tokio_rustls::server::TlsStream<TcpStream>>);

impl TlsStream {
    /// Whether the client chose HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream")
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_do_not_fit_are_refused_with_what_is_wrong() {
        let made = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let chain = rcgen::CertificateParams::default().self_signed(&made).unwrap().pem();
        let key = |pair: &rcgen::KeyPair| Secret::new(pair.serialize_pem());

        let no_chain = TlsAcceptor::from_pem("", &key(&made));
        let no_key = TlsAcceptor::from_pem(&chain, &Secret::new(chain.clone()));
        let other_key = TlsAcceptor::from_pem(&chain, &key(&other));

        assert!(matches!(no_chain, Err(TlsSetupError::NoCertificate)));
        assert!(matches!(no_key, Err(TlsSetupError::NoKey)));
        assert!(matches!(other_key, Err(TlsSetupError::Unusable(_))));
        assert!(TlsAcceptor::from_pem(&chain, &key(&made)).is_ok());
    }
}

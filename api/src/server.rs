//! The listener: connections in, bounded in number, time and size, until a stop is asked for.
//!
//! TLS is the binary's business: it hands in an [`Accept`] that turns a TCP connection into the stream
//! that HTTP is spoken over.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use hansa_actors::Federation;
use hansa_model::limits::http as limits;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::surface::{Origin, Surface};

/// A stream that HTTP is spoken over.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An accepted connection on its way to being a stream.
pub type Accepting = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// Turns an accepted TCP connection into the stream that HTTP is spoken over: the TLS handshake.
pub trait Accept: Send + Sync {
    /// Starts the handshake. It is given [`limits::HEADER_WAIT_MAX`], then dropped.
    fn accept(&self, connection: TcpStream) -> Accepting;
}

/// Where requests come from.
pub enum Listener {
    /// Plain HTTP.
    Plain(TcpListener),
    /// HTTP inside whatever the acceptor speaks.
    Wrapped(TcpListener, Arc<dyn Accept>),
    /// A socket file that only the node's owner can open: a caller without a token is the local operator.
    Local(UnixListener),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Wrapped(..) => "Wrapped",
            Self::Local(_) => "Local",
        })
    }
}

/// Serves a node's whole surface on one listener until `shutdown` completes, then finishes open requests
/// for at most [`limits::DRAIN_WAIT_MAX`] and closes what is left.
pub async fn serve(federation: Federation, listener: Listener, shutdown: impl Future<Output = ()>) {
    Surface::new(federation).serve(listener, shutdown).await;
}

impl Surface {
    /// See [`serve`]. Several listeners may share one surface, and with it one budget for uploads.
    pub async fn serve(&self, listener: Listener, shutdown: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            // Taken before accepting: the kernel's backlog holds whoever comes beyond the bound.
            let permit = tokio::select! {
                biased;
                () = &mut shutdown => break,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((opening, origin)) => {
                    let (surface, watcher) = (self.clone(), graceful.watcher());
                    connections.spawn(async move {
                        surface.connection(opening, origin, watcher).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others must close first.
                    tracing::warn!(%error, "accept failed");
                    sleep(limits::ACCEPT_RETRY).await;
                }
            }
        }
        drop(listener);
        self.end_streams();
        if timeout(limits::DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
            tracing::warn!(open = connections.len(), "closed connections whose requests did not finish");
        }
        connections.shutdown().await;
    }

    async fn connection(self, opening: Accepting, origin: Origin, watcher: Watcher) {
        let stream = match timeout(limits::HEADER_WAIT_MAX, opening).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "handshake failed"),
            Err(_) => return tracing::debug!("handshake took too long"),
        };
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let surface = self.clone();
            async move { Ok::<_, Infallible>(surface.respond(request.map(Body::new), origin).await) }
        });
        let builder = http();
        let connection = builder.serve_connection(TokioIo::new(Prompt::new(stream)), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Accepting, Origin)> {
        match self {
            Self::Plain(listener) => {
                let (connection, peer) = listener.accept().await?;
                // Answers are written whole; waiting for more would only delay them.
                connection.set_nodelay(true)?;
                Ok((ready_stream(connection), network(peer)))
            }
            Self::Wrapped(listener, acceptor) => {
                let (connection, peer) = listener.accept().await?;
                connection.set_nodelay(true)?;
                Ok((acceptor.accept(connection), network(peer)))
            }
            Self::Local(listener) => Ok((ready_stream(listener.accept().await?.0), Origin::Local)),
        }
    }
}

/// An IPv4 caller of a listener for both versions is shown as what it is.
fn network(peer: SocketAddr) -> Origin {
    Origin::Network(Some(peer.ip().to_canonical()))
}

fn ready_stream(stream: impl ByteStream + 'static) -> Accepting {
    let stream: Box<dyn ByteStream> = Box::new(stream);
    Box::pin(std::future::ready(Ok(stream)))
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_WAIT_MAX)
        .max_buf_size(limits::HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(limits::BODY_IDLE_WAIT_MAX)
        .keep_alive_timeout(limits::HEADER_WAIT_MAX);
    builder
}

/// A stream whose peer must begin to speak promptly.
///
/// hyper's own limit starts once it knows whether the peer speaks HTTP/1 or 2; a peer that says nothing,
/// or a part of HTTP/2's preface, would hold its connection for ever.
struct Prompt<S> {
    stream: S,
    silence: Option<Pin<Box<Sleep>>>,
    begin: Vec<u8>,
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<S> Prompt<S> {
    fn new(stream: S) -> Self {
        Self { stream, silence: Some(Box::pin(sleep(limits::HEADER_WAIT_MAX))), begin: Vec::new() }
    }

    /// Notes what has arrived, until it tells the version.
    fn note(&mut self, bytes: &[u8]) {
        self.begin.extend(bytes.iter().take(HTTP2_PREFACE.len() - self.begin.len()));
        if !HTTP2_PREFACE.starts_with(&self.begin) || self.begin.len() == HTTP2_PREFACE.len() {
            self.silence = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(silence) = self.silence.as_mut() else {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        };
        if silence.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.note(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn silent_peer_is_let_go() {
        block_on(async {
            let (_silent, ours) = tokio::io::duplex(64);
            let mut prompt = Prompt::new(ours);

            let error = prompt.read(&mut [0; 8]).await.unwrap_err();

            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn peer_that_has_begun_is_waited_for() {
        block_on(async {
            let (mut peer, ours) = tokio::io::duplex(64);
            let mut prompt = Prompt::new(ours);
            peer.write_all(b"GE").await.unwrap();
            let mut bytes = [0; 8];

            assert_eq!(prompt.read(&mut bytes).await.unwrap(), 2);
            let waited = timeout(limits::HEADER_WAIT_MAX * 3, prompt.read(&mut bytes)).await;

            assert!(waited.is_err(), "the stream itself sets no limit from here on");
        });
    }

    #[test]
    fn part_of_a_preface_is_not_a_begin() {
        block_on(async {
            let (mut peer, ours) = tokio::io::duplex(64);
            let mut prompt = Prompt::new(ours);
            peer.write_all(b"PRI * HT").await.unwrap();
            let mut bytes = [0; 64];

            assert_eq!(prompt.read(&mut bytes).await.unwrap(), 8);
            assert!(prompt.read(&mut bytes).await.is_err());
        });
    }
}

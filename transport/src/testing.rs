//! The seam of simulations: an endpoint on the world's network instead of the system's.
//!
//! The only place where types of quinn cross the surface of this crate.

use std::sync::Arc;

use crate::quic::Socket;

pub use quinn;

/// A socket of the world's, driven by the world's clock. Everything above it is production code.
pub fn abstract_socket(socket: Arc<dyn quinn::AsyncUdpSocket>, runtime: Arc<dyn quinn::Runtime>) -> Socket {
    Socket::from_abstract(socket, runtime)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use hansa_model::Secret;
    use quinn::udp::{RecvMeta, Transmit};

    use super::*;
    use crate::{CloseReason, EncodedFrame, Endpoint, EndpointConfig, IdentityKey, Lane};

    /// A world without a system under it: datagrams arrive at once, and the clock jumps.
    #[test]
    fn links_live_on_a_network_and_a_clock_that_are_not_the_systems() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let network = Arc::new(Network::default());
            let [site, coordinator] = [1, 2].map(|number| endpoint(&network, number));
            let accepting = coordinator.clone();
            let accepted = tokio::spawn(async move { accepting.accept().await.unwrap().complete().await });

            let link = site.dial(address(2), coordinator.public()).await.unwrap();
            let accepted = accepted.await.unwrap().unwrap();
            let (mut up, _answers) = link.open(Lane::Ingest).await.unwrap();
            up.send(&EncodedFrame::new(3, b"row", Bytes::new())).await.unwrap();
            let (_, _, mut received) = accepted.accept_lane().await.unwrap();
            assert_eq!(received.recv(100).await.unwrap().payload.as_ref(), b"row");

            // An hour of keep-alives passes in no time; then the cable is cut.
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            assert_eq!(accepted.close_reason(), None);
            network.cut();
            assert_eq!(accepted.closed().await, CloseReason::Idle);
        });
    }

    fn endpoint(network: &Arc<Network>, number: u8) -> Endpoint {
        let identity = IdentityKey::from_seed(&Secret::new([number; 32]));
        let socket = Arc::new(Port { network: network.clone(), address: address(number) });
        let socket = abstract_socket(socket, Arc::new(quinn::TokioRuntime));
        let config = EndpointConfig::new(identity, Arc::new(|_| true));
        Endpoint::bind(socket, EndpointConfig { rng_seed: Some([number; 32]), ..config }).unwrap()
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 7_443))
    }

    #[derive(Debug, Default)]
    struct Network {
        ports: Mutex<BTreeMap<SocketAddr, Inbox>>,
        is_cut: std::sync::atomic::AtomicBool,
    }

    impl Network {
        fn cut(&self) {
            self.is_cut.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[derive(Debug, Default)]
    struct Inbox {
        datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
        waker: Option<Waker>,
    }

    #[derive(Debug)]
    struct Port {
        network: Arc<Network>,
        address: SocketAddr,
    }

    impl quinn::AsyncUdpSocket for Port {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn quinn::UdpPoller>> {
            Box::pin(AlwaysWritable)
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            if self.network.is_cut.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(());
            }
            let mut ports = self.network.ports.lock().unwrap();
            let inbox = ports.entry(transmit.destination).or_default();
            inbox.datagrams.push_back((self.address, transmit.contents.to_vec()));
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
            Ok(())
        }

        fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            buffers: &mut [io::IoSliceMut<'_>],
            metas: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let mut ports = self.network.ports.lock().unwrap();
            let inbox = ports.entry(self.address).or_default();
            let Some((from, datagram)) = inbox.datagrams.pop_front() else {
                inbox.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            buffers[0][..datagram.len()].copy_from_slice(&datagram);
            metas[0] =
                RecvMeta { addr: from, len: datagram.len(), stride: datagram.len(), ecn: None, dst_ip: None };
            Poll::Ready(Ok(1))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.address)
        }
    }

    #[derive(Debug)]
    struct AlwaysWritable;

    impl quinn::UdpPoller for AlwaysWritable {
        fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

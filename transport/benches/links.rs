//! Links on loopback: bulk frames on one link, and small frames on many with one in flight each.
//!
//! `cargo bench -p hansa-transport` prints one line a run. Both ends share the machine, so a figure is what one
//! machine does as site and coordinator at once.
#![expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing else to say")]

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hansa_model::Secret;
use hansa_model::limits::sync::FRAME_BYTES_MAX;
use hansa_transport::{EncodedFrame, Endpoint, EndpointConfig, IdentityKey, Lane, Link};
use tokio::time::Instant;

const RUN: Duration = Duration::from_secs(3);
/// A batch of 1,000 rows of 300 bytes.
const BULK_BYTES: usize = 300_000;
/// Batches sent before the first answer is awaited.
const BULK_IN_FLIGHT: usize = 4;
const SMALL_BYTES: usize = 350;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for links in [1, 4, 64] {
            let frames = run(links, BULK_BYTES, BULK_IN_FLIGHT).await;
            let megabytes = frames * BULK_BYTES as f64 / 1e6;
            println!(
                "bulk: {links} links, {megabytes:.0} MB/s, {frames:.0} frames of {BULK_BYTES} B a second"
            );
        }
        for links in [1, 64] {
            let frames = run(links, SMALL_BYTES, 1).await;
            println!(
                "small: {links} links, one in flight each, {frames:.0} frames of {SMALL_BYTES} B a second"
            );
        }
    });
}

/// Frames answered a second, over all links.
async fn run(links: usize, bytes: usize, in_flight: usize) -> f64 {
    let coordinator = endpoint(0);
    let address = coordinator.local_addr().unwrap();
    let peer = coordinator.public();
    let accepting = tokio::spawn(accept_all(coordinator));
    let mut sites = Vec::new();
    for number in 0..links {
        let site = endpoint(u8::try_from(number + 1).unwrap());
        let link = site.dial(address, peer).await.unwrap();
        sites.push((site, link));
    }
    let started = Instant::now();
    let senders: Vec<_> =
        sites.iter().map(|(_, link)| tokio::spawn(send(link.clone(), bytes, in_flight, started))).collect();
    let mut answered = 0_u32;
    for sender in senders {
        answered += sender.await.unwrap();
    }
    let rate = f64::from(answered) / started.elapsed().as_secs_f64();
    accepting.abort();
    rate
}

async fn send(link: Link, bytes: usize, in_flight: usize, started: Instant) -> u32 {
    let (mut up, mut answers) = link.open(Lane::Ingest).await.unwrap();
    let frame = EncodedFrame::new(3, &[0; 40], Bytes::from(vec![7; bytes]));
    let (mut sent, mut answered) = (0_u32, 0_u32);
    while started.elapsed() < RUN {
        while (sent - answered) as usize >= in_flight {
            answers.recv(FRAME_BYTES_MAX).await.unwrap();
            answered += 1;
        }
        up.send(&frame).await.unwrap();
        sent += 1;
    }
    answered
}

async fn accept_all(coordinator: Endpoint) {
    while let Some(incoming) = coordinator.accept().await {
        tokio::spawn(async move {
            let Ok(link) = incoming.complete().await else { return };
            let Ok((_, mut answer, mut received)) = link.accept_lane().await else { return };
            let frame = EncodedFrame::new(0x0104, &[0; 40], Bytes::new());
            while received.recv(FRAME_BYTES_MAX).await.is_ok() && answer.send(&frame).await.is_ok() {}
        });
    }
}

fn endpoint(seed: u8) -> Endpoint {
    let identity = IdentityKey::from_seed(&Secret::new([seed; 32]));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    Endpoint::bind(socket, EndpointConfig::new(identity, Arc::new(|_| true))).unwrap()
}

//! A way to a server on loopback that counts the operations of AWS that pass, by their `X-Amz-Target`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::bench::failed;
use crate::cli::failure::Failure;

/// What an operation's name follows, in small letters.
const HEADER: &[u8] = b"\r\nx-amz-target: secretsmanager.";

/// An open way; it ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) url: String,
    counts: Counts,
    accepting: JoinHandle<()>,
}

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

impl Relay {
    /// Opens a way to this authority.
    pub(super) async fn open(target: String) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let counts = Counts::default();
        let shared = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, counts) = (target.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // Either end may close at any time: the other sees it.
                    let _ = carry(near, &target, counts).await;
                });
            }
        });
        Ok(Self { url: format!("http://{address}"), counts, accepting })
    }

    /// What has passed since the last time, by operation.
    pub(super) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(near: TcpStream, target: &str, counts: Counts) -> std::io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let there = async {
        let mut scan = Scan::default();
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let read = from_near.read(&mut bytes).await?;
            if read == 0 {
                return to_far.shutdown().await;
            }
            for operation in scan.take(&bytes[..read]) {
                *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
            }
            to_far.write_all(&bytes[..read]).await?;
        }
    };
    let back = async {
        tokio::io::copy(&mut from_far, &mut to_near).await?;
        to_near.shutdown().await
    };
    tokio::try_join!(there, back).map(drop)
}

/// Finds operations in a stream, whatever pieces it comes in.
#[derive(Debug, Default)]
struct Scan {
    /// What may be the beginning of one.
    held: Vec<u8>,
}

impl Scan {
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.held.extend(bytes.iter().map(u8::to_ascii_lowercase));
        let mut found = Vec::new();
        while let Some(start) = self.held.windows(HEADER.len()).position(|window| window == HEADER) {
            let name = &self.held[start + HEADER.len()..];
            let Some(end) = name.iter().position(|byte| *byte == b'\r') else {
                self.held.drain(..start);
                return found;
            };
            found.push(String::from_utf8_lossy(&name[..end]).into_owned());
            self.held.drain(..start + HEADER.len() + end);
        }
        let keep = self.held.len().min(HEADER.len() - 1);
        self.held.drain(..self.held.len() - keep);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_in_whatever_pieces_they_come() {
        let stream = b"POST / HTTP/1.1\r\nX-Amz-Target: secretsmanager.ListSecrets\r\nhost: a\r\n\r\n{}\
            POST / HTTP/1.1\r\nx-amz-target: secretsmanager.GetSecretValue\r\n\r\n{}";
        for size in 1..stream.len() {
            let mut scan = Scan::default();
            let found: Vec<String> = stream.chunks(size).flat_map(|piece| scan.take(piece)).collect();
            assert_eq!(found, ["listsecrets", "getsecretvalue"], "{size}");
        }
    }
}

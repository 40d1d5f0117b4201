//! A node whose root key is a passphrase may wait for it: its owner gives it over a socket in the data folder,
//! mode 0600. So no file holds it, and a machine that was carried away does not start by itself.
//!
//! One connection is one line of JSON in, tried at once, and one out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hansa_model::Secret;
use hansa_model::limits::access::LOGIN_BODY_BYTES_MAX;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::cli::failure::{Exit, Failure};

const SOCKET_FILE: &str = "unlock.sock";
/// Time for the owner's line to come: it is sent whole.
const LINE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time for an answer: deriving the key and opening the store after a crash, on a small machine.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    passphrase: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Opened,
    Detail(String),
}

/// A node that waits for its passphrase.
#[derive(Debug)]
pub(crate) struct Waiting {
    listener: UnixListener,
    path: PathBuf,
}

/// A passphrase that somebody gave, and who is to hear whether it was the right one.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) passphrase: Secret<String>,
    reply: OwnedWriteHalf,
}

impl Waiting {
    /// Listens in the data folder, which is ours alone.
    ///
    /// # Errors
    /// Another process waits there, or the socket cannot be made.
    pub(crate) async fn listen(data_dir: &Path) -> Result<Self, Failure> {
        let path = data_dir.join(SOCKET_FILE);
        if UnixStream::connect(&path).await.is_ok() {
            let what = format!("{}: another process waits for the passphrase", data_dir.display());
            return Err(
                Failure::new(Exit::Conflict, what).next("hansa root-key unlock, or stop that process")
            );
        }
        Ok(Self { listener: crate::node::bind_local(&path)?, path })
    }

    /// The next passphrase that somebody gives.
    pub(crate) async fn next(&self) -> Offer {
        loop {
            let Ok((connection, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match timeout(LINE_WAIT_MAX, offered(connection)).await {
                Ok(Ok(offer)) => return offer,
                // Nothing of what was sent is said: it may be a passphrase, mistyped around.
                Ok(Err(_)) | Err(_) => tracing::debug!("an unlock request broke off"),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // An old file is taken away by the next who listens.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Offer {
    /// Tells whether the passphrase has opened the store. Somebody who has gone does not hear it.
    pub(crate) async fn answer(mut self, outcome: Result<(), &Failure>) {
        let outcome = match outcome {
            Ok(()) => Outcome::Opened,
            Err(failure) => Outcome::Detail(failure.to_string()),
        };
        let mut text = serde_json::to_string(&outcome).unwrap_or_default();
        text.push('\n');
        let _ = self.reply.write_all(text.as_bytes()).await;
        let _ = self.reply.shutdown().await;
    }
}

async fn offered(connection: UnixStream) -> std::io::Result<Offer> {
    let (read, reply) = connection.into_split();
    let mut line = Vec::new();
    BufReader::new(read.take(LOGIN_BODY_BYTES_MAX as u64)).read_until(b'\n', &mut line).await?;
    let line = Secret::new(line);
    let Offered { passphrase } = serde_json::from_slice(line.expose())?;
    Ok(Offer { passphrase: Secret::new(passphrase), reply })
}

/// Gives the passphrase to the node that waits for it on a data folder. Returns once the store is open.
///
/// # Errors
/// No node waits there, or the passphrase does not open its store; the node goes on waiting.
pub(crate) async fn offer(data_dir: &Path, passphrase: &Secret<String>) -> Result<(), Failure> {
    let path = data_dir.join(SOCKET_FILE);
    let connection = UnixStream::connect(&path).await.map_err(|_| {
        Failure::new(Exit::NotFound, format!("no node waits for its passphrase in {}", data_dir.display()))
            .next("hansa serve --await-unlock, with --data-dir as here")
    })?;
    let broken = || Failure::new(Exit::Unreachable, format!("{} did not answer", path.display()));
    let asked = timeout(ANSWER_WAIT_MAX, async {
        let (read, mut write) = connection.into_split();
        let text = serde_json::to_string(&Offered { passphrase: passphrase.expose().clone() });
        let text = Secret::new(format!("{}\n", text?));
        write.write_all(text.expose().as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(read.take(LOGIN_BODY_BYTES_MAX as u64)).read_line(&mut line).await?;
        serde_json::from_str::<Outcome>(&line).map_err(std::io::Error::from)
    });
    match asked.await {
        Ok(Ok(Outcome::Opened)) => Ok(()),
        Ok(Ok(Outcome::Detail(detail))) => {
            Err(Failure::new(Exit::NotAllowed, detail).next("the right passphrase: the node goes on waiting"))
        }
        Ok(Err(_)) | Err(_) => Err(broken()),
    }
}

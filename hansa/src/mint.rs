//! Operator tokens over a socket of their own in the data folder, mode 0600.
//!
//! No HTTP route makes tokens, so no stolen token makes further ones: whoever may open this file is the
//! node's owner. One connection is one line of JSON in and one out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hansa_actors::Federation;
use hansa_actors::view::TokenRequest;
use hansa_model::SiteId;
use hansa_model::limits::token::TTL_MAX;
use hansa_model::scope::Scope;
use hansa_model::secrets::id::TenantId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::cli::failure::{Exit, Failure};

/// Name of the socket in a data folder.
const SOCKET_FILE: &str = "mint.sock";
/// Bytes of one line: all scopes and the ids of every site that a coordinator may have.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Time for one exchange; the request is one short line.
const EXCHANGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What to put into the token.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MintRequest {
    pub(crate) userid: String,
    pub(crate) scopes: BTreeSet<Scope>,
    pub(crate) sites: Option<BTreeSet<SiteId>>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) ttl_seconds: u64,
}

/// The token, or why there is none.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MintAnswer {
    Token(String),
    Detail(String),
}

/// Where the socket of a data folder lies.
pub(crate) fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}

/// Answers one connection after another until dropped; each is a moment's work for the node's owner.
pub(crate) async fn serve(federation: Federation, listener: UnixListener) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        match timeout(EXCHANGE_WAIT_MAX, exchange(&federation, connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a token request broke off"),
            Err(_) => tracing::debug!("a token request took too long"),
        }
    }
}

async fn exchange(federation: &Federation, connection: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = connection.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<MintRequest>(&line) {
        Ok(request) => mint(federation, request),
        Err(error) => MintAnswer::Detail(format!("the token request does not parse: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

fn mint(federation: &Federation, request: MintRequest) -> MintAnswer {
    let ttl = Duration::from_secs(request.ttl_seconds).min(TTL_MAX);
    let request = TokenRequest {
        userid: request.userid,
        scopes: request.scopes,
        sites: request.sites,
        tenant: request.tenant,
        ttl,
    };
    match federation.mint(&request) {
        Ok(token) => MintAnswer::Token(token.expose().clone()),
        Err(error) => MintAnswer::Detail(error.to_string()),
    }
}

/// Asks the node that runs on a data folder for a token.
pub(crate) async fn ask(data_dir: &Path, request: &MintRequest) -> Result<String, Failure> {
    let path = socket_path(data_dir);
    let broken = |error: std::io::Error| {
        Failure::new(Exit::Unreachable, format!("{} cannot be asked: {error}", path.display()))
    };
    let asked = timeout(EXCHANGE_WAIT_MAX, async {
        let connection = UnixStream::connect(&path).await?;
        let (read, mut write) = connection.into_split();
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
        write.shutdown().await?;
        let mut line = String::new();
        BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        serde_json::from_str::<MintAnswer>(&line).map_err(std::io::Error::from)
    });
    match asked.await {
        Ok(Ok(MintAnswer::Token(token))) => Ok(token),
        Ok(Ok(MintAnswer::Detail(detail))) => Err(Failure::new(Exit::Failed, detail)),
        Ok(Err(error)) => Err(broken(error)),
        Err(_) => Err(Failure::new(Exit::Unreachable, format!("{} did not answer in time", path.display()))),
    }
}

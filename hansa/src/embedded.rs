//! A node that a command runs for itself, because no other process does: same store, same surface, the local
//! socket, and nothing that others can reach.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use crate::cli::failure::Failure;
use crate::client::socket_path;
use crate::config::{FederationLayer, Layer};
use crate::node::RunningNode;
use crate::root_key;

/// A command waits for its own requests, so there is nothing to drain.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Embedded {
    node: RunningNode,
    data_dir: PathBuf,
}

impl Embedded {
    /// Whether a process serves this data folder now.
    pub async fn is_running(data_dir: &Path) -> bool {
        UnixStream::connect(socket_path(data_dir)).await.is_ok()
    }

    /// Opens the store and serves it to this process.
    ///
    /// # Errors
    /// As for a node that is started for good.
    pub async fn start(data_dir: &Path, root_key_file: Option<&Path>) -> Result<Self, Failure> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let layer = Layer {
            data_dir: Some(data_dir.to_owned()),
            root_key_file: root_key_file.map(Path::to_owned),
            root_key_transit: root_key::transit_of(data_dir)?,
            listen: Some(any_port),
            federation: FederationLayer { listen: Some(any_port), ..FederationLayer::default() },
            ..Layer::default()
        };
        let config = layer.resolve().map_err(|error| Failure::usage(error.to_string()))?;
        let node = Box::pin(RunningNode::start(&config)).await?;
        Ok(Self { node, data_dir: data_dir.to_owned() })
    }

    /// The folder whose socket answers.
    pub fn socket_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Closes the store again.
    pub async fn stop(self) {
        self.node.stop(DRAIN_MAX).await;
    }
}

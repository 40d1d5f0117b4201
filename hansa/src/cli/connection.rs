//! Which node a command talks to, and with what credential.

use std::path::{Path, PathBuf};

use clap::Args;
use hansa_model::Secret;

use super::failure::{Exit, Failure};
use super::output::Format;
use crate::client::Client;
use crate::embedded::Embedded;

/// Where the data of a node lies unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/hansa";

/// Flags of every command that talks to a node.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// URL of the node, such as https://hq.example.com [default: the node of --data-dir].
    #[arg(
        long,
        value_name = "URL",
        env = "HANSA_ADDR",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub addr: Option<String>,
    /// Operator token for --addr; better in HANSA_TOKEN or a file, where no process list shows it.
    #[arg(
        long,
        value_name = "JWT",
        env = "HANSA_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub token: Option<String>,
    /// File with the operator token for --addr.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANSA_TOKEN_FILE",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub token_file: Option<PathBuf>,
    /// More certificate authorities for an https --addr, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANSA_CACERT",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub cacert: Option<PathBuf>,
    /// Data folder of a node on this machine: its socket is used, or its store when no node runs
    /// [default: /var/lib/hansa].
    #[arg(
        long,
        value_name = "DIR",
        env = "HANSA_DATA_DIR",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub data_dir: Option<PathBuf>,
    /// Root key file, when the store is opened and the key was moved out of the data folder.
    #[arg(
        long,
        value_name = "FILE",
        env = "HANSA_ROOT_KEY_FILE",
        hide_env_values = true,
        global = true,
        help_heading = "Node"
    )]
    pub root_key_file: Option<PathBuf>,
    /// How data is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        env = "HANSA_OUTPUT",
        hide_env_values = true,
        default_value = "table",
        global = true
    )]
    pub output: Format,
}

/// A way to a node; hold it as long as requests go out.
#[derive(Debug)]
pub struct Access {
    client: Client,
    /// The node that this process runs itself because none did.
    embedded: Option<Box<Embedded>>,
}

impl Access {
    /// Sends requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends what was started for this access.
    pub async fn close(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}

impl Connection {
    /// Reaches the node: by URL, else by the socket of its data folder, else by opening its store.
    ///
    /// # Errors
    /// The flags name no node, or the store cannot be opened.
    pub async fn open(&self) -> Result<Access, Failure> {
        if let Some(address) = &self.addr {
            let client = Client::at_url(address, self.credential()?, self.cacert.as_deref())?;
            return Ok(Access { client, embedded: None });
        }
        let data_dir = self.data_dir()?;
        if Embedded::is_running(&data_dir).await {
            return Ok(Access { client: Client::at_socket(&data_dir)?, embedded: None });
        }
        // On the heap: a whole node is large, and every command waits on this.
        let embedded = Box::pin(Embedded::start(&data_dir, self.root_key_file.as_deref())).await?;
        Ok(Access { client: Client::at_socket(embedded.socket_dir())?, embedded: Some(Box::new(embedded)) })
    }

    /// The data folder that was named, or the default one when it exists.
    ///
    /// # Errors
    /// There is none.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        if data_dir.join(hansa_storage::disk::STORE_FILE).exists() {
            return Ok(data_dir);
        }
        let what = match &self.data_dir {
            Some(named) => format!("{} holds no node's data", named.display()),
            None => "no node was named".to_owned(),
        };
        Err(Failure::usage(what)
            .next("--addr URL with HANSA_TOKEN, or --data-dir DIR of a node on this machine"))
    }

    fn credential(&self) -> Result<Option<Secret<String>>, Failure> {
        if let Some(token) = &self.token {
            return Ok(Some(Secret::new(token.trim().to_owned())));
        }
        if let Some(path) = &self.token_file {
            return read_token(path).map(Some);
        }
        let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
        let path = Path::new(&folder).join("hansa-token");
        if path.exists() { read_token(&path).map(Some) } else { Ok(None) }
    }
}

fn read_token(path: &Path) -> Result<Secret<String>, Failure> {
    std::fs::read_to_string(path).map(|text| Secret::new(text.trim().to_owned())).map_err(|error| {
        Failure::new(Exit::NotAllowed, format!("the token file {} cannot be read: {error}", path.display()))
    })
}

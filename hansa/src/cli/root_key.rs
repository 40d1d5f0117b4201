//! `hansa root-key`: the key that everything sealed hangs on.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::access;
use super::connection::{Connection, DATA_DIR_DEFAULT};
use super::failure::{Exit, Failure};
use super::output::{self, Column, Format, field, instant, note};
use crate::client::{Answer, Client};
use crate::config::Layer;
use crate::node::ROOT_KEY_FILE;
use crate::root_key::{self, PASSPHRASE_FILE};

const ROOT_KEY: &str = "/api/v1/root-key";
const ROTATE: &str = "/api/v1/root-key/rotate";

/// Between two looks at a rotation that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `hansa root-key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hansa root-key init --data-dir /var/lib/hansa --passphrase-file /run/secrets/hansa\n  \
    hansa root-key unlock --data-dir /var/lib/hansa\n  hansa root-key rotate\n  hansa root-key rotate --passphrase-file /run/secrets/hansa-next\n  \
    hansa root-key status -o json\n\nA rotation gives the node another root key while it runs. Afterwards keep a \
    copy of the new key file, and the old one only as long as there are backups from before."
)]
pub struct RootKeyArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: RootKeyVerb,
}

#[derive(Debug, Subcommand)]
enum RootKeyVerb {
    /// Makes the root key of a node that has not started yet: a key file, a passphrase, or a key that the
    /// configured transit engine wraps.
    Init {
        /// File with the passphrase that the key is derived from (argon2id) [default: a key file].
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Gives a node that waits for it the passphrase of its root key (`hansa serve --await-unlock`).
    Unlock {
        /// File with the passphrase; `-` reads standard input [default: asks at the terminal].
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Says how the root key is kept, and how far its rotation is.
    Status,
    /// Makes another root key and puts everything sealed under it, while the node serves.
    Rotate {
        /// File with the passphrase of the next key; every start needs it from then on.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Returns once the new key is in force, without waiting until nothing hangs on the old one.
        #[arg(long)]
        no_wait: bool,
    },
}

const SHEET: &[Column] = &[
    Column { heading: "kept as", cell: |key| field(key, "kept_as") },
    Column { heading: "rotated", cell: |key| instant(key, "rotated_at") },
    Column { heading: "rotation", cell: progress },
];

/// A rotation that runs, in words.
fn progress(key: &Value) -> String {
    let Some(rotation) = key.get("rotation").filter(|rotation| !rotation.is_null()) else {
        return "none runs".to_owned();
    };
    let (done, all) = (field(rotation, "looked_at"), field(rotation, "records"));
    let unreadable = rotation["unreadable"].as_u64().unwrap_or_default();
    if is_stuck(rotation) {
        return format!("waits: the former key is lost, and {unreadable} records hang on it");
    }
    format!("{done} of {all} records")
}

fn is_stuck(rotation: &Value) -> bool {
    rotation["former_key_lost"].as_bool().unwrap_or_default()
}

pub(crate) async fn run(args: RootKeyArgs) -> Result<(), Failure> {
    let RootKeyArgs { connection, verb } = args;
    let format = connection.output;
    match verb {
        RootKeyVerb::Init { passphrase_file } => init(&connection, passphrase_file.as_deref()).await,
        RootKeyVerb::Unlock { passphrase_file } => unlock(&connection, passphrase_file.as_deref()).await,
        RootKeyVerb::Status => {
            let access = connection.open().await?;
            let answer = access.client().get(ROOT_KEY, &[]).await;
            access.close().await;
            output::item(format, &answer?, None, SHEET)
        }
        RootKeyVerb::Rotate { passphrase_file, no_wait } => {
            let access = connection.open().await?;
            let ended = rotate(access.client(), format, passphrase_file.as_deref(), no_wait).await;
            access.close().await;
            ended
        }
    }
}

async fn rotate(
    client: &Client,
    format: Format,
    passphrase_file: Option<&Path>,
    no_wait: bool,
) -> Result<(), Failure> {
    let passphrase = passphrase_file.map(root_key::read_passphrase).transpose()?;
    let body = passphrase.as_ref().map(|passphrase| json!({"passphrase": passphrase.expose()}));
    let begun = client.send_json(Method::POST, ROTATE, body.as_ref()).await?;
    let answer = if no_wait { begun } else { ended(client, begun).await? };
    if format == Format::Table {
        tell(&field(&answer.json, "kept_as"));
    }
    output::item(format, &answer, None, SHEET)
}

async fn unlock(connection: &Connection, passphrase_file: Option<&Path>) -> Result<(), Failure> {
    if connection.addr.is_some() {
        return Err(Failure::usage("a node is unlocked on its own machine").next("--data-dir DIR"));
    }
    let data_dir = connection.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
    let passphrase = match passphrase_file {
        Some(path) => root_key::read_passphrase(path)?,
        None if std::io::stdin().is_terminal() => access::ask_hidden("Passphrase: ")?,
        None => {
            return Err(Failure::usage("there is no terminal to ask for the passphrase")
                .next("--passphrase-file FILE"));
        }
    };
    root_key::offer(&data_dir, &passphrase).await?;
    note("the node is unlocked");
    Ok(())
}

/// Waits until nothing hangs on the former key.
async fn ended(client: &Client, mut answer: Answer) -> Result<Answer, Failure> {
    while let Some(rotation) = answer.json.get("rotation").filter(|rotation| !rotation.is_null()) {
        if is_stuck(rotation) {
            return Err(Failure::new(
                Exit::Failed,
                "the former root key is lost before the rotation has ended",
            )
            .next(
                "put back the key file that the node had while the rotation ran, and start the node again",
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        answer = client.get(ROOT_KEY, &[]).await?;
    }
    Ok(answer)
}

/// What is left to do for whoever keeps the key.
fn tell(kept_as: &str) {
    note(match kept_as {
        "passphrase" => {
            "the next start needs the new passphrase: put it where the node reads it \
             (HANSA_ROOT_KEY_PASSPHRASE_FILE, or the service manager's credential)"
        }
        "transit" => "keep a copy of the new root.key.transit with the backups to come",
        _ => "keep a copy of the new key file where backups do not go",
    });
    note("backups from before open with the former key alone: keep it as long as you keep them");
}

async fn init(connection: &Connection, passphrase_file: Option<&Path>) -> Result<(), Failure> {
    if connection.addr.is_some() {
        return Err(Failure::usage("a root key is made on the node's own machine").next("--data-dir DIR"));
    }
    let file = std::env::var_os("HANSA_CONFIG").map(PathBuf::from);
    let below = Layer::of_files_and_environment(file.as_deref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let layer = Layer {
        data_dir: connection.data_dir.clone(),
        root_key_file: connection.root_key_file.clone(),
        ..Layer::default()
    };
    let config = layer.over(below).resolve().map_err(|error| Failure::usage(error.to_string()))?;
    let (data_dir, key_file) = (&config.data_dir, &config.root_key_file);
    let source = root_key::Source { data_dir, key_file, transit: config.root_key_transit.as_ref() };
    let passphrase = passphrase_file.map(root_key::read_passphrase).transpose()?;
    let (path, kept_as) = Box::pin(source.init(passphrase)).await?;
    let body = json!({"kept_as": kept_as, "path": path});
    match kept_as {
        "passphrase" => {
            note(&format!("every start needs the passphrase: name its file in {PASSPHRASE_FILE}"))
        }
        "key_file" if path == data_dir.join(ROOT_KEY_FILE) => {
            note("the key lies beside the data it will seal: move it, then name it with --root-key-file");
        }
        _ => {}
    }
    output::value(connection.output, &body, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_a_rotation_waits_for() {
        let rotation = |lost: bool| json!({"rotation": {"looked_at": 3, "records": 9, "unreadable": 2, "former_key_lost": lost}});

        assert_eq!(progress(&json!({"rotation": null})), "none runs");
        assert_eq!(progress(&rotation(false)), "3 of 9 records");
        assert!(progress(&rotation(true)).contains("2 records hang on it"));
    }
}

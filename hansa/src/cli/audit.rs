//! `hansa audit`: what was done, and whether the log of it is what was written.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hansa_model::audit::{BrokenChain, Checkpoint, Verification};
use hansa_model::limits::audit as limits;
use hansa_model::{AuditId, Timestamp};
use hansa_storage::{DirDisk, FollowedAudit};
use hansa_transport::PublicKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::{Exit, Failure, chain};
use super::output::{self, Column, Format, field, instant, note};
use super::site;
use crate::client::Client;
use crate::embedded::Embedded;
use crate::node::open_failure;

const AUDIT: &str = "/api/v1/federation/audit";

/// Flags of `hansa audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa audit list --site berlin --since 2026-11-01T00:00:00Z\n  \
    hansa audit verify --data-dir /var/lib/hansa --checkpoints kept-at-berlin.json\n  \
    hansa audit checkpoints --kept --data-dir /var/lib/hansa -o json > kept-at-berlin.json")]
pub struct AuditArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Lists what was done, newest first.
    List(ListArgs),
    /// Shows one entry.
    Show {
        /// The entry's id.
        id: AuditId,
    },
    /// Follows the chain from the first entry and names the first that is not what was written.
    Verify(VerifyArgs),
    /// Lists the signed checkpoints of the log, newest first.
    Checkpoints {
        /// Those of its coordinator that this site keeps, instead of the node's own.
        #[arg(long)]
        kept: bool,
        /// Checkpoints to show, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = limits::LIMIT_DEFAULT)]
        limit: usize,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only about this site, by name or id.
    #[arg(long)]
    site: Option<String>,
    /// Only this operation, such as site_suspended.
    #[arg(long)]
    operation: Option<String>,
    /// Only by this actor.
    #[arg(long, value_name = "USERID")]
    actor: Option<String>,
    /// Then or later, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Earlier than then, RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Entries to show, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Entries to leave out before the first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Verifies the log in this backup, instead of a node's; needs no root key.
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// Checkpoints that the log must agree with, as `hansa audit checkpoints -o json` prints them; may be
    /// given several times. Those that sites keep are worth most.
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
}

const ROW: &[Column] = &[
    Column { heading: "TIME", cell: |entry| instant(entry, "created_at") },
    Column { heading: "OPERATION", cell: |entry| field(entry, "operation") },
    Column { heading: "ACTOR", cell: |entry| field(entry, "actor_userid") },
    Column { heading: "SITE", cell: |entry| field(entry, "target_site_name") },
    Column { heading: "DETAILS", cell: |entry| field(entry, "details") },
];

const SHEET: &[Column] = &[
    Column { heading: "id", cell: |entry| field(entry, "id") },
    Column { heading: "time", cell: |entry| instant(entry, "created_at") },
    Column { heading: "operation", cell: |entry| field(entry, "operation") },
    Column { heading: "actor", cell: |entry| field(entry, "actor_userid") },
    Column { heading: "site", cell: |entry| field(entry, "target_site_name") },
    Column { heading: "site id", cell: |entry| field(entry, "target_site_id") },
    Column { heading: "host id", cell: |entry| field(entry, "target_host_id") },
    Column { heading: "details", cell: |entry| field(entry, "details") },
];

const CHECKPOINT_ROW: &[Column] = &[
    Column { heading: "ENTRIES", cell: |checkpoint| field(checkpoint, "number") },
    Column { heading: "MADE", cell: |checkpoint| instant(checkpoint, "at") },
    Column { heading: "RECEIVED", cell: |checkpoint| instant(checkpoint, "received_at") },
    Column { heading: "HASH", cell: |checkpoint| field(checkpoint, "hash") },
];

pub(crate) async fn run(args: AuditArgs) -> Result<(), Failure> {
    let AuditArgs { connection, verb } = args;
    if let AuditVerb::Verify(verify) = verb {
        return verify_log(&connection, &verify).await;
    }
    let access = connection.open().await?;
    let ended = match verb {
        AuditVerb::List(args) => list(access.client(), connection.output, &args).await,
        AuditVerb::Show { id } => show(access.client(), connection.output, id).await,
        AuditVerb::Checkpoints { kept, limit } => {
            checkpoints(access.client(), connection.output, kept, limit).await
        }
        AuditVerb::Verify(_) => Ok(()),
    };
    access.close().await;
    ended
}

async fn list(client: &Client, format: Format, args: &ListArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string()), ("offset", args.offset.to_string())];
    if let Some(site) = &args.site {
        query.push(("site_id", site::resolve(client, site).await?));
    }
    let mut text = |name, value: &Option<String>| query.extend(value.clone().map(|value| (name, value)));
    text("operation", &args.operation);
    text("actor_userid", &args.actor);
    text("since", &args.since.map(|at| at.to_string()));
    text("until", &args.until.map(|at| at.to_string()));
    let answer = client.get(AUDIT, &query).await?;
    let shown = answer.json.get("entries").and_then(Value::as_array).map_or(0, Vec::len);
    output::list(format, &answer, "entries", ROW)?;
    if format == Format::Table {
        note(&format!("{shown} of {} entries", field(&answer.json, "total")));
    }
    Ok(())
}

async fn show(client: &Client, format: Format, id: AuditId) -> Result<(), Failure> {
    let answer = client.get(&format!("{AUDIT}/{id}"), &[]).await?;
    output::item(format, &answer, Some("entry"), SHEET)
}

async fn checkpoints(client: &Client, format: Format, kept: bool, limit: usize) -> Result<(), Failure> {
    let path = if kept {
        "/api/v1/federation/site/audit-checkpoints"
    } else {
        "/api/v1/federation/audit-checkpoints"
    };
    let answer = client.get(path, &[("limit", limit.to_string())]).await?;
    output::list(format, &answer, "checkpoints", CHECKPOINT_ROW)
}

async fn verify_log(connection: &Connection, args: &VerifyArgs) -> Result<(), Failure> {
    let mut kept = Vec::new();
    for path in &args.checkpoints {
        kept.extend(read_checkpoints(path)?);
    }
    let verification = Verification::new(kept);
    let followed = match (&args.backup, &connection.addr) {
        (Some(backup), _) => hansa_storage::follow_backup(backup, verification).map_err(|error| {
            Failure::new(Exit::Failed, format!("{}: {}", backup.display(), chain(&error)))
        })?,
        (None, Some(_)) => follow_over_http(connection, verification).await?,
        (None, None) => {
            let data_dir = connection.data_dir()?;
            if Embedded::is_running(&data_dir).await {
                follow_over_http(connection, verification).await?
            } else {
                follow_folder(&data_dir, verification)?
            }
        }
    };
    report(connection.output, followed)
}

fn follow_folder(
    data_dir: &Path,
    verification: Verification,
) -> Result<Result<FollowedAudit, BrokenChain>, Failure> {
    let disk = DirDisk::new(data_dir).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    hansa_storage::follow_stopped(&disk, verification).map_err(|error| open_failure(data_dir, &error))
}

async fn follow_over_http(
    connection: &Connection,
    mut verification: Verification,
) -> Result<Result<FollowedAudit, BrokenChain>, Failure> {
    let access = connection.open().await?;
    let followed = follow_pages(access.client(), &mut verification).await;
    access.close().await;
    if let Err(broken) = followed? {
        return Ok(Err(broken));
    }
    Ok(verification.end().map(|(entries, checkpoints)| FollowedAudit { entries, checkpoints }))
}

/// A page of the chain as the node shows it.
#[derive(Deserialize)]
struct Page {
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    number: u64,
    draft: String,
    hash: String,
}

async fn follow_pages(
    client: &Client,
    verification: &mut Verification,
) -> Result<Result<(), BrokenChain>, Failure> {
    loop {
        let (after, _) = verification.place();
        let query = [("after", after.to_string()), ("limit", limits::LIMIT_MAX.to_string())];
        let answer = client.get(&format!("{AUDIT}/chain"), &query).await?;
        let page: Page = serde_json::from_value(answer.json)
            .map_err(|error| Failure::new(Exit::Failed, format!("the node's answer is no chain: {error}")))?;
        if page.links.is_empty() {
            return Ok(Ok(()));
        }
        for link in page.links {
            let number = verification.place().0 + 1;
            let (Ok(draft), Some(hash)) = (STANDARD.decode(&link.draft), unhex(&link.hash)) else {
                return Ok(Err(BrokenChain::Changed { number }));
            };
            if let Err(broken) = verification.follow(link.number, &draft, &hash) {
                return Ok(Err(broken));
            }
        }
    }
}

fn report(format: Format, followed: Result<FollowedAudit, BrokenChain>) -> Result<(), Failure> {
    let whole = match followed {
        Ok(whole) => whole,
        Err(broken) => {
            return Err(Failure::new(
                Exit::Failed,
                format!("the audit log is not what was written: {broken}"),
            )
            .next("hansa audit verify --backup FILE with an older copy, to see when it was still whole"));
        }
    };
    let FollowedAudit { entries, checkpoints } = whole;
    let body = json!({"whole": true, "entries": entries, "checkpoints": checkpoints});
    output::value(format, &body, &format!("whole: {entries} entries chain, {checkpoints} checkpoints agree"))
}

/// A file of checkpoints.
#[derive(Deserialize)]
struct CheckpointFile {
    checkpoints: Vec<CheckpointEntry>,
}

#[derive(Deserialize)]
struct CheckpointEntry {
    number: u64,
    hash: String,
    at: Timestamp,
    signature: String,
    public_key_pem: String,
}

/// Reads checkpoints and checks their signatures.
fn read_checkpoints(path: &Path) -> Result<Vec<(u64, [u8; 32])>, Failure> {
    let bad = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let file: CheckpointFile = serde_json::from_str(&text)
        .map_err(|error| bad(format!("it is not what `hansa audit checkpoints -o json` prints: {error}")))?;
    file.checkpoints
        .into_iter()
        .map(|entry| {
            let number = entry.number;
            signed(entry).ok_or_else(|| {
                bad(format!("the signature of the checkpoint of entry {number} does not verify"))
            })
        })
        .collect()
}

fn signed(entry: CheckpointEntry) -> Option<(u64, [u8; 32])> {
    let CheckpointEntry { number, hash, at, signature, public_key_pem } = entry;
    let (hash, signature) = (unhex(&hash)?, STANDARD.decode(signature).ok()?);
    let checkpoint = Checkpoint { number, hash, at, signature };
    let key = PublicKey::from_pem(&public_key_pem).ok()?;
    key.verify(checkpoint.signed_text().as_bytes(), &checkpoint.signature).then_some((number, hash))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_64_digits_and_nothing_else() {
        assert_eq!(unhex(&"ab".repeat(32)), Some([0xab; 32]));
        for text in ["", "ab", &"xy".repeat(32), &"ab".repeat(33)] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }

    #[test]
    fn checkpoint_with_another_number_than_was_signed_is_refused() {
        let entry = |number| CheckpointEntry {
            number,
            hash: "ab".repeat(32),
            at: Timestamp::from_secs(1),
            signature: STANDARD.encode([0; 64]),
            public_key_pem: String::new(),
        };

        assert_eq!(signed(entry(1)), None);
    }
}

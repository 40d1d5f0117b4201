//! `hansa backup`, `restore`, `check`: the store as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use hansa_storage::DirDisk;
use hansa_storage::error::BackupError;
use reqwest::Method;
use serde_json::json;

use super::connection::Connection;
use super::failure::{Exit, Failure, chain};
use super::output::{self, Column, Format, field, note};
use crate::node::{ROOT_KEY_FILE, private_folder};
use crate::root_key::{self, WRAPPED_KEY_FILE};
use crate::system::SystemEntropy;

/// Flags of `hansa backup`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hansa backup --addr https://hq.example.com\n  \
    hansa backup /srv/backup/hansa-2026-11-22 --data-dir /var/lib/hansa\n\nThe copy is sealed with the node's \
    root key: keep that key file elsewhere, without it the copy is useless. A node with a transit engine: keep \
    root.key.transit with the copy.")]
pub struct BackupArgs {
    /// Folder to move the copy into, on the node's machine; it must not hold one yet
    /// [default: the copy stays among the node's backups].
    #[arg(value_name = "DIR")]
    target: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Flags of `hansa restore`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa restore /srv/backup/hansa-2026-11-22 --data-dir /var/lib/hansa")]
pub struct RestoreArgs {
    /// Folder or file that `hansa backup` wrote.
    backup: PathBuf,
    /// Data folder to restore into; it must hold no store yet.
    #[arg(long, value_name = "DIR", env = "HANSA_DATA_DIR", hide_env_values = true)]
    data_dir: PathBuf,
}

/// Flags of `hansa check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hansa check --data-dir /var/lib/hansa -o json")]
pub struct CheckArgs {
    /// Data folder of a node that does not run.
    #[arg(long, value_name = "DIR", env = "HANSA_DATA_DIR", hide_env_values = true, default_value = super::connection::DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    /// Root key file, when it was moved out of the data folder.
    #[arg(long, value_name = "FILE", env = "HANSA_ROOT_KEY_FILE", hide_env_values = true)]
    root_key_file: Option<PathBuf>,
    /// How the report is printed.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        env = "HANSA_OUTPUT",
        hide_env_values = true,
        default_value = "table"
    )]
    output: Format,
}

pub(crate) async fn backup(args: BackupArgs) -> Result<(), Failure> {
    if args.target.is_some() && args.connection.addr.is_some() {
        return Err(Failure::usage("a folder for the copy can only be named on the node's own machine")
            .next("hansa backup DIR --data-dir DIR there, or hansa backup without a folder"));
    }
    let access = args.connection.open().await?;
    let answer = access.client().send_json(Method::POST, "/api/v1/backup", Some(&json!({}))).await;
    access.close().await;
    let mut answer = answer?;
    if let Some(target) = &args.target {
        let path = move_copy(Path::new(&field(&answer.json, "path")), target)?;
        if let Some(body) = answer.json.as_object_mut() {
            body.insert("path".to_owned(), path.display().to_string().into());
        }
        answer.text = answer.json.to_string();
    }
    if args.connection.output == Format::Table {
        note("keep the root key file elsewhere: without it the copy cannot be opened");
    }
    output::item(
        args.connection.output,
        &answer,
        None,
        &[
            Column { heading: "path", cell: |body| field(body, "path") },
            Column { heading: "bytes", cell: |body| field(body, "bytes") },
        ],
    )
}

/// Moves the node's copy into a folder of the operator's choice, durably, on any file system.
fn move_copy(copy: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let target = folder.join(hansa_storage::disk::STORE_FILE);
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("{} cannot be written: {error}", target.display()))
            .next(format!("the copy is whole at {}", copy.display()))
    };
    private_folder(folder)?;
    if target.exists() {
        return Err(Failure::new(Exit::Conflict, format!("{} exists already", target.display()))
            .next(format!("the copy is at {}", copy.display())));
    }
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut source = std::fs::File::open(copy).map_err(failed)?;
    std::io::copy(&mut source, &mut temporary).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist_noclobber(&target).map_err(|error| failed(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    std::fs::remove_file(copy).map_err(failed)?;
    Ok(target)
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let file = if args.backup.is_dir() {
        args.backup.join(hansa_storage::disk::STORE_FILE)
    } else {
        args.backup.clone()
    };
    hansa_storage::restore(&file, &args.data_dir).map_err(|error| restore_failure(&args.data_dir, &error))?;
    note(&format!("restored into {}", args.data_dir.display()));
    if [ROOT_KEY_FILE, WRAPPED_KEY_FILE].iter().all(|name| !args.data_dir.join(name).exists()) {
        note(
            "put the root key file of the backed-up node there (root.key, or root.key.transit), or name it with \
             --root-key-file, before you start it",
        );
    }
    Ok(())
}

fn restore_failure(data_dir: &Path, error: &BackupError) -> Failure {
    let exit = match error {
        BackupError::TargetExists => Exit::Conflict,
        BackupError::Source(_) => Exit::Usage,
        BackupError::Read(_) | BackupError::Write(_) => Exit::Failed,
    };
    Failure::new(exit, format!("{}: {}", data_dir.display(), chain(error)))
}

pub(crate) async fn check(args: &CheckArgs) -> Result<(), Failure> {
    if !args.data_dir.join(hansa_storage::disk::STORE_FILE).exists() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("{} holds no node's data", args.data_dir.display()),
        ));
    }
    let report = read_report(args).await?;
    let tables: Vec<_> = report
        .tables
        .iter()
        .map(|table| json!({"name": table.name, "records": table.records, "bytes": table.bytes}))
        .collect();
    let problems: Vec<_> =
        report.problems.iter().map(|problem| json!({"table": problem.table, "what": problem.what})).collect();
    let key_beside_data = args.root_key_file.is_none() && args.data_dir.join(ROOT_KEY_FILE).exists();
    let body = json!({
        "sound": report.is_sound(),
        "tables": tables,
        "problems": problems,
        "problem_count": report.problem_count,
        "audit_entries": report.audit_entries,
        "root_key_beside_data": key_beside_data,
    });
    let answer = crate::client::Answer { text: body.to_string(), json: body };
    output::list(
        args.output,
        &answer,
        "tables",
        &[
            Column { heading: "TABLE", cell: |table| field(table, "name") },
            Column { heading: "RECORDS", cell: |table| field(table, "records") },
            Column { heading: "BYTES", cell: |table| field(table, "bytes") },
        ],
    )?;
    for problem in &report.problems {
        note(&format!("problem in {}: {}", problem.table, problem.what));
    }
    if key_beside_data {
        note("the root key lies beside the data it seals: move it, then name it with --root-key-file");
    }
    if report.is_sound() {
        note(&format!(
            "sound: every record decodes, every index agrees, {} audit entries chain",
            report.audit_entries
        ));
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{} problems were found", report.problem_count))
        .next("hansa restore BACKUP --data-dir NEW_DIR"))
}

async fn read_report(args: &CheckArgs) -> Result<hansa_storage::CheckReport, Failure> {
    let key_file = args.root_key_file.clone().unwrap_or_else(|| args.data_dir.join(ROOT_KEY_FILE));
    let transit =
        root_key::transit_of(&args.data_dir)?.resolve().map_err(|error| Failure::usage(error.to_string()))?;
    let source =
        root_key::Source { data_dir: &args.data_dir, key_file: &key_file, transit: transit.as_ref() };
    let loaded = Box::pin(source.load()).await?;
    let disk = DirDisk::new(&args.data_dir).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let (report, _) = loaded
        .open(&args.data_dir, |key| hansa_storage::check_stopped(&disk, key, Arc::new(SystemEntropy)))?;
    Ok(report)
}

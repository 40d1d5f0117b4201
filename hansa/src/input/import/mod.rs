//! Files that people already have, read as entries of the inventory.
//!
//! Each format is a pure function from bytes to [`Imported`]; [`read`] is the thin shell that finds the
//! format and reads the file or folder. A bad row is reported with its place and the rest goes on. Hosts
//! without an id get a stable one, so that importing the same file twice changes nothing.
//!
//! A field that a source does not tell stays absent, which keeps what the inventory holds. Status is among
//! them: a file says that a host answered once, not that it is up now.

mod ansible;
mod csv;
mod entries;
mod osquery;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hansa_model::host::{HostEntry, SkippedEntry};
use hansa_model::limits::inventory as limits;
use hansa_model::{HostId, Timestamp};
use serde_json::Value;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Ansible facts: `ansible -m setup --tree`, a `jsonfile` fact cache, or one host's facts.
    Ansible,
    /// Rows of `osqueryi --json`, or a results log of `osqueryd`.
    Osquery,
    /// A table with a header line.
    Csv,
    /// Our own entries, as `PUT` and `PATCH /api/v1/site/hosts` take them: JSON or NDJSON.
    Entries,
}

impl Format {
    const NAMES: [(&str, Self); 4] = [
        ("ansible", Self::Ansible),
        ("osquery", Self::Osquery),
        ("csv", Self::Csv),
        ("entries", Self::Entries),
    ];

    /// Recognises the format of a file by its first bytes.
    ///
    /// # Errors
    /// Nothing fits: name the format.
    pub fn detect(bytes: &[u8]) -> Result<Self, UnknownFormat> {
        let bytes = without_mark(bytes).trim_ascii_start();
        if matches!(bytes.first(), Some(b'{' | b'[')) {
            return first_object(bytes).as_ref().and_then(Self::of_object).ok_or(UnknownFormat);
        }
        if csv::has_known_header(bytes) { Ok(Self::Csv) } else { Err(UnknownFormat) }
    }

    fn of_object(object: &Value) -> Option<Self> {
        let has = |names: &[&str]| names.iter().any(|name| object.get(name).is_some());
        if ansible::is_facts(object) {
            Some(Self::Ansible)
        } else if has(&["host_id", "remove", "entries"]) {
            Some(Self::Entries)
        } else if has(&[
            "hostIdentifier",
            "columns",
            "snapshot",
            "diffResults",
            "uuid",
            "hostname",
            "platform_like",
        ]) {
            Some(Self::Osquery)
        } else if has(&["fqdn"]) {
            Some(Self::Entries)
        } else {
            None
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| *format).ok_or(UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// No format that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the format is not one of ansible, osquery, csv, entries: name it with --format, in UTF-8")]
pub struct UnknownFormat;

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub struct Imported {
    /// Hosts to set, in the order of the file; each id stands once.
    pub entries: Vec<HostEntry>,
    /// Hosts that the file says are gone. A host that a file merely omits is never among them.
    pub removals: Vec<HostId>,
    /// The first rows that were left out, up to the bound of
    /// [`SKIPPED_LISTED_MAX`](limits::SKIPPED_LISTED_MAX).
    pub errors: Vec<BadRow>,
    /// All rows that were left out, listed or not.
    pub errors_total: usize,
    /// Columns of a table that no field takes, as their header spells them.
    pub columns_ignored: Vec<String>,
    seen: BTreeSet<HostId>,
}

/// One row that was left out; the others are not affected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadRow {
    /// Where it stands.
    pub place: Place,
    /// Why it was left out.
    pub reason: BadRowReason,
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line, counted from 1.
    Line(u64),
    /// An element of a list, counted from 0.
    Index(usize),
    /// A host as the source names it.
    Host(String),
    /// A file of a folder.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Index(index) => write!(f, "element {index}"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::File(file) => write!(f, "file {file}"),
        }
    }
}

/// Why a row was left out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadRowReason {
    /// The text is not what the format says.
    #[error("does not parse: {0}")]
    Malformed(String),
    /// The text is in another encoding.
    #[error("is not UTF-8: convert the file")]
    NotUtf8,
    /// Ansible could not reach the host.
    #[error("holds no facts: the host was not reached when they were gathered")]
    NoFacts,
    /// Nothing tells which host it is.
    #[error("names no host: {hint}")]
    Nameless {
        /// What the source needs to tell.
        hint: &'static str,
    },
    /// A number or an instant is none.
    #[error("{field} is not {expected}")]
    BadValue {
        /// The entry's field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// An earlier row has the same id; virtual machines cloned with their machine id look like this.
    #[error("has the id of an earlier row: keep one, or give a cloned machine an /etc/machine-id of its own")]
    Repeated,
    /// The inventory would refuse the entry.
    #[error(transparent)]
    Refused(#[from] SkippedEntry),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file or folder cannot be read: check path and rights.
    #[error("cannot read {path}")]
    Io {
        /// The path that failed.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is larger than the bound: split it.
    #[error("{path} has more than {} MiB: split it", limits::IMPORT_BYTES_MAX >> 20)]
    TooLarge {
        /// The path that is too large.
        path: PathBuf,
    },
    /// The folder holds more files than the bound: split it.
    #[error("{path} holds more than {} files: split it", limits::IMPORT_FILES_MAX)]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// The format was not recognised: name it.
    #[error("{path}")]
    Unknown {
        /// The path that was not recognised.
        path: PathBuf,
        /// What to do.
        source: UnknownFormat,
    },
}

impl Imported {
    /// Takes an entry that the inventory would accept as a whole new row or as a change of a known one.
    fn take(&mut self, place: Place, entry: HostEntry) {
        let host_id = match entry.host_id.parse() {
            Ok(host_id) => host_id,
            Err(invalid) => return self.refuse(place, SkippedEntry::InvalidId(invalid).into()),
        };
        // A change of a known host needs no name; a stand-in lets the other fields be checked.
        let mut checked = entry.clone();
        checked.fqdn.get_or_insert_with(|| "known.invalid".to_owned());
        if let Err(skipped) = checked.merge(None, Timestamp::EPOCH) {
            return self.refuse(place, skipped.into());
        }
        if self.seen.insert(host_id) {
            self.entries.push(entry);
        } else {
            self.refuse(place, BadRowReason::Repeated);
        }
    }

    fn take_removal(&mut self, place: Place, host_id: HostId) {
        if self.seen.insert(host_id) {
            self.removals.push(host_id);
        } else {
            self.refuse(place, BadRowReason::Repeated);
        }
    }

    fn refuse(&mut self, place: Place, reason: BadRowReason) {
        self.errors_total += 1;
        if self.errors.len() < limits::SKIPPED_LISTED_MAX {
            self.errors.push(BadRow { place, reason });
        }
    }
}

/// Reads a file, or a folder of Ansible facts. Without a format it is recognised. Blocks.
///
/// # Errors
/// Nothing was imported; the variant says what to do. Bad rows are no error: see [`Imported::errors`].
pub fn read(path: &Path, format: Option<Format>) -> Result<Imported, ImportError> {
    if path.is_dir() {
        return read_folder(path);
    }
    let bytes = read_file(path)?;
    let name = file_name(path);
    parse(&name, &bytes, format).map_err(|source| ImportError::Unknown { path: path.to_owned(), source })
}

/// Reads the bytes of one file; `name` is the host's name where the format has it outside (Ansible).
///
/// # Errors
/// No format was given and none was recognised.
pub fn parse(name: &str, bytes: &[u8], format: Option<Format>) -> Result<Imported, UnknownFormat> {
    let format = format.map_or_else(|| Format::detect(bytes), Ok)?;
    let bytes = without_mark(bytes);
    let mut imported = Imported::default();
    match format {
        Format::Ansible => ansible::parse_file(name, bytes, &mut imported),
        Format::Osquery => osquery::parse(bytes, &mut imported),
        Format::Csv => csv::parse(bytes, &mut imported),
        Format::Entries => entries::parse(bytes, &mut imported),
    }
    Ok(imported)
}

/// One file for each host, in the order of their names; only Ansible writes such folders.
fn read_folder(path: &Path) -> Result<Imported, ImportError> {
    let failed = |source| ImportError::Io { path: path.to_owned(), source };
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_hidden = file_name(&file).starts_with('.');
        if file.is_file() && !is_hidden {
            files.insert(file);
        }
        if files.len() > limits::IMPORT_FILES_MAX {
            return Err(ImportError::TooMany { path: path.to_owned() });
        }
    }
    let mut imported = Imported::default();
    for file in files {
        let name = file_name(&file);
        match read_file(&file) {
            Ok(bytes) => ansible::parse_file(&name, without_mark(&bytes), &mut imported),
            Err(ImportError::Io { source, .. }) => {
                imported.refuse(Place::File(name), BadRowReason::Unreadable(source.kind()));
            }
            Err(ImportError::TooLarge { .. } | ImportError::TooMany { .. } | ImportError::Unknown { .. }) => {
                imported.refuse(Place::File(name), BadRowReason::Unreadable(io::ErrorKind::FileTooLarge));
            }
        }
    }
    Ok(imported)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ImportError> {
    let failed = |source| ImportError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(limits::IMPORT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > limits::IMPORT_BYTES_MAX {
        return Err(ImportError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Drops the byte order mark that Windows tools put before UTF-8.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The first object of a JSON document or of NDJSON; lists are looked into.
fn first_object(bytes: &[u8]) -> Option<Value> {
    let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next()?.ok()?;
    match first {
        Value::Array(elements) => elements.into_iter().find(Value::is_object),
        Value::Object(_) => Some(first),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The objects of a JSON list, of one object, or of NDJSON, each with its place.
fn objects(bytes: &[u8]) -> Vec<(Place, Result<Value, BadRowReason>)> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Array(elements)) => {
            elements.into_iter().enumerate().map(|(index, value)| (Place::Index(index), Ok(value))).collect()
        }
        Ok(value) => vec![(Place::Index(0), Ok(value))],
        Err(_) if bytes.trim_ascii_start().starts_with(b"[") => vec![(Place::Line(1), from_json(bytes))],
        Err(_) => lines(bytes).map(|(place, line)| (place, from_json(line))).collect(),
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = (Place, &[u8])> {
    let numbered = bytes.split(|byte| *byte == b'\n').zip(1..);
    numbered
        .map(|(line, number)| (Place::Line(number), line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

/// Parses JSON; the parser's message tells line and column, never a value.
fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRowReason> {
    serde_json::from_slice(bytes).map_err(|error| BadRowReason::Malformed(syntax(&error)))
}

fn syntax(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => format!("unexpected kind of value at column {}", error.column()),
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => error.to_string(),
    }
}

#[cfg(test)]
mod tests;

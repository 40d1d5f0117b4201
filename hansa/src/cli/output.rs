//! What commands print: tables for people, the API's own JSON for programs.
//!
//! Data goes to standard output and nothing else does; notes go to standard error. A reader that has seen
//! enough and closed the pipe ends the output quietly.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde_json::Value;

use super::failure::{Exit, Failure};
use crate::client::Answer;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns for people; fits the terminal.
    #[default]
    Table,
    /// The API's body as it is.
    Json,
    /// One JSON value a line: the elements of a list, or the one thing.
    Ndjson,
}

/// A column: its heading, and how a cell is made of an element.
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    pub(crate) cell: fn(&Value) -> String,
}

/// Prints a list that stands in the answer under `key`.
pub(crate) fn list(format: Format, answer: &Answer, key: &str, columns: &[Column]) -> Result<(), Failure> {
    let items = answer.json.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match format {
        Format::Table => write_data(&table(items, columns)),
        Format::Json => write_data(&answer.text),
        Format::Ndjson => write_data(&lines(items)),
    }
}

/// Prints one thing that stands in the answer under `key`; none means the body itself.
pub(crate) fn item(
    format: Format,
    answer: &Answer,
    key: Option<&str>,
    columns: &[Column],
) -> Result<(), Failure> {
    let item = key.and_then(|key| answer.json.get(key)).unwrap_or(&answer.json);
    match format {
        Format::Table => write_data(&sheet(item, columns)),
        Format::Json => write_data(&answer.text),
        Format::Ndjson => write_data(&lines(std::slice::from_ref(&answer.json))),
    }
}

/// Prints a value of our own as JSON, or text for people.
pub(crate) fn value(format: Format, value: &Value, text: &str) -> Result<(), Failure> {
    match format {
        Format::Table => write_data(text),
        Format::Json | Format::Ndjson => write_data(&value.to_string()),
    }
}

/// Writes data to standard output, with a line end.
pub(crate) fn write_data(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Ok(());
    }
    write_out(&format!("{text}\n"))
}

/// Writes one value to standard output as it is, for programs. A terminal gets a line end after it, and none
/// of its control characters but line ends and tabs.
pub(crate) fn write_bare(text: &str) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return write_out(text);
    }
    let shown: String = text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { visible(c) }).collect();
    write_data(&shown)
}

fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a note for people to standard error. A note that nobody can read is no failure.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows and columns; as wide as the terminal, unlimited when there is none.
fn table(items: &[Value], columns: &[Column]) -> String {
    let mut table = plain_table();
    table.set_header(columns.iter().map(|column| Cell::new(column.heading)));
    for item in items {
        table.add_row(columns.iter().map(|column| Cell::new((column.cell)(item))));
    }
    trimmed(&table)
}

/// One thing, a field a line; fields without a value are left out.
fn sheet(item: &Value, columns: &[Column]) -> String {
    let mut table = plain_table();
    for column in columns {
        let cell = (column.cell)(item);
        if cell != NOTHING {
            table.add_row([Cell::new(column.heading), Cell::new(cell)]);
        }
    }
    trimmed(&table)
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let arrangement =
        if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table
}

fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

fn lines(items: &[Value]) -> String {
    items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// A cell without a value.
const NOTHING: &str = "-";

/// The text of a field, whatever its type; `-` for none. Control characters, which a remote site may
/// choose, never reach the terminal.
pub(crate) fn field(item: &Value, name: &str) -> String {
    match item.get(name) {
        None | Some(Value::Null) => NOTHING.to_owned(),
        Some(Value::String(text)) if text.is_empty() => NOTHING.to_owned(),
        Some(Value::String(text)) => text.chars().map(visible).collect(),
        Some(Value::Array(items)) => {
            let texts: Vec<String> = items.iter().map(plain).collect();
            if texts.is_empty() { NOTHING.to_owned() } else { texts.join(", ") }
        }
        Some(Value::Object(fields)) if fields.is_empty() => NOTHING.to_owned(),
        Some(Value::Object(fields)) => {
            let texts: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{} {}", plain(&name.as_str().into()), plain(value)))
                .collect();
            texts.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// An instant to the second.
pub(crate) fn instant(item: &Value, name: &str) -> String {
    let text = field(item, name);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.chars().map(visible).collect())
}

fn visible(character: char) -> char {
    if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column { heading: "NAME", cell: |item| field(item, "name") },
        Column { heading: "HOSTS", cell: |item| field(item, "hosts") },
        Column { heading: "SEEN", cell: |item| instant(item, "seen") },
    ];

    #[test]
    fn table_has_a_heading_and_a_dash_for_nothing() {
        let items =
            [json!({"name": "berlin", "hosts": 3, "seen": "2026-11-22T08:30:00.25Z"}), json!({"name": ""})];

        insta::assert_snapshot!(table(&items, COLUMNS), @"
        NAME    HOSTS  SEEN
        berlin  3      2026-11-22T08:30:00Z
        -       -      -
        ");
    }

    #[test]
    fn sheet_leaves_out_what_has_no_value() {
        let text = sheet(&json!({"name": "berlin", "hosts": null}), COLUMNS);

        assert_eq!(text, "NAME  berlin");
    }

    #[test]
    fn control_characters_of_a_remote_site_never_reach_the_terminal() {
        let item = json!({"name": "a\u{1b}[2Jb"});

        assert_eq!(field(&item, "name"), "a\u{fffd}[2Jb");
    }
}

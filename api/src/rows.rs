//! Rows of a large body, read one by one as they arrive.

use bytes::Bytes;
use hansa_model::host::HostEntry;
use hansa_model::limits::{http, inventory as limits};
use serde_json::{Map, Value};

use crate::code::Code;
use crate::json;
use crate::problem::Problem;
use crate::request::Request;
use crate::scan::{Format, Members, Piece, Scanner};

/// A row, or why it does not parse.
pub(crate) type Row<T> = Result<T, String>;

/// Collects the rows of one body.
pub(crate) struct Rows<T> {
    scanner: Scanner,
    read: fn(Piece<'_>) -> Row<T>,
    rows: Vec<Row<T>>,
    rows_max: usize,
    overflow: bool,
}

impl<T> Rows<T> {
    /// Ready for the first chunk; `read` makes a row of a piece.
    pub(crate) fn new(format: Format, members: Members, read: fn(Piece<'_>) -> Row<T>) -> Self {
        Self {
            scanner: Scanner::new(format, members, limits::ENTRY_BYTES_MAX),
            read,
            rows: Vec::new(),
            rows_max: limits::CALL_ENTRIES_MAX,
            overflow: false,
        }
    }

    /// The same with another bound of rows.
    pub(crate) fn up_to(self, rows_max: usize) -> Self {
        Self { rows_max, ..self }
    }

    /// Reads the rows that end in this chunk. Lets others run now and then: a chunk may be a whole body.
    pub(crate) async fn chunk(&mut self, chunk: &Bytes) -> Result<(), Problem> {
        for part in chunk.chunks(http::SCAN_BYTES_MAX) {
            let Self { scanner, read, rows, rows_max, overflow } = self;
            scanner.push(part, &mut |piece| take(rows, *rows_max, overflow, *read, piece))?;
            self.check_count()?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Ends the body.
    pub(crate) fn finish(mut self) -> Result<Vec<Row<T>>, Problem> {
        let Self { scanner, read, rows, rows_max, overflow } = &mut self;
        let scanner = std::mem::replace(scanner, Scanner::new(Format::Json, Members::Any, 0));
        scanner.finish(&mut |piece| take(rows, *rows_max, overflow, *read, piece))?;
        self.check_count()?;
        Ok(self.rows)
    }

    /// Reads a whole body as it arrives.
    pub(crate) async fn read_all(mut self, request: &mut Request) -> Result<Vec<Row<T>>, Problem> {
        let mut bytes = 0;
        while let Some(chunk) = request.chunk().await? {
            bytes += chunk.len();
            if bytes > request.body_bytes_max() {
                return Err(request.too_large());
            }
            self.chunk(&chunk).await?;
        }
        self.finish()
    }

    fn check_count(&self) -> Result<(), Problem> {
        if !self.overflow {
            return Ok(());
        }
        let detail = format!("a call takes at most {} entries", self.rows_max);
        Err(Problem::new(Code::TooManyEntries, detail))
    }
}

impl<T> std::fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

fn take<T>(
    rows: &mut Vec<Row<T>>,
    rows_max: usize,
    overflow: &mut bool,
    read: fn(Piece<'_>) -> Row<T>,
    piece: Piece<'_>,
) {
    if rows.len() < rows_max {
        rows.push(read(piece));
    } else {
        *overflow = true;
    }
}

/// Reads a directory entry (contract 6.2).
pub(crate) fn entry(piece: Piece<'_>) -> Row<HostEntry> {
    match piece {
        Piece::Entry(bytes) | Piece::Line(bytes) => host_entry(bytes),
        // Only a delta's scanner hands these out.
        Piece::Removal(_) => Err("a removal does not belong here".to_owned()),
        Piece::EntryTooLong => Err(too_long()),
    }
}

/// What a row is told that was not kept.
pub(crate) fn too_long() -> String {
    format!("it is longer than {} bytes", limits::ENTRY_BYTES_MAX)
}

/// Reads one entry from its exact bytes; numbers may be numeric text (contract B6).
pub(crate) fn host_entry(bytes: &[u8]) -> Row<HostEntry> {
    if !json::is_object(bytes) {
        return Err("it is not a JSON object".to_owned());
    }
    match serde_json::from_slice(bytes) {
        Ok(entry) => Ok(entry),
        Err(_) => with_numeric_text(bytes).ok_or_else(|| json::reason_for::<HostEntry>(bytes)),
    }
}

fn with_numeric_text(bytes: &[u8]) -> Option<HostEntry> {
    let mut members: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    for name in ["geo_latitude", "geo_longitude"] {
        if let Some(value) = members.get_mut(name)
            && let Some(text) = value.as_str()
        {
            *value = Value::from(text.trim().parse::<f64>().ok().filter(|number| number.is_finite())?);
        }
    }
    serde_json::from_value(Value::Object(members)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn rows(format: Format, body: &str) -> Result<Vec<Row<HostEntry>>, Problem> {
        block_on(async {
            let mut rows = Rows::new(format, Members::Entries, entry);
            rows.chunk(&Bytes::copy_from_slice(body.as_bytes())).await?;
            rows.finish()
        })
    }

    #[test]
    fn malformed_entry_is_one_bad_row_that_repeats_no_value() {
        let body = format!(
            r#"{{"entries":[{{"host_id":"{ID}","fqdn":"a"}},{{"host_id":"{ID}","geo_latitude":"canary"}},7,nonsense,{{"canary":1}}]}}"#
        );

        let rows = rows(Format::Sniff, &body).unwrap();

        assert_eq!(rows.len(), 5);
        assert_eq!(rows[0].as_ref().unwrap().fqdn.as_deref(), Some("a"));
        assert!(rows[1].as_ref().unwrap_err().starts_with("geo_latitude"), "{:?}", rows[1]);
        assert!(rows[2].is_err() && rows[3].is_err());
        // Unknown members are ignored; the missing id is the facade's to judge.
        assert_eq!(rows[4].as_ref().unwrap().host_id, "");
        assert!(!format!("{rows:?}").contains("canary"));
    }

    #[test]
    fn coordinates_may_be_numeric_text() {
        let entry = host_entry(
            format!(r#"{{"host_id":"{ID}","geo_latitude":" 50.1","geo_longitude":8}}"#).as_bytes(),
        );

        let entry = entry.unwrap();
        assert_eq!((entry.geo_latitude, entry.geo_longitude), (Some(Some(50.1)), Some(Some(8.0))));
        assert!(host_entry(br#"{"host_id":"x","geo_latitude":"inf"}"#).is_err());
    }

    #[test]
    fn one_entry_too_many_ends_the_call() {
        let body = "{}\n".repeat(limits::CALL_ENTRIES_MAX + 1);

        assert_eq!(rows(Format::Ndjson, &body).unwrap_err().code(), Code::TooManyEntries);
        assert_eq!(rows(Format::Ndjson, &body[3..]).unwrap().len(), limits::CALL_ENTRIES_MAX);
    }

    proptest! {
        #[test]
        fn any_entry_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = host_entry(&bytes);
        }

        #[test]
        fn any_object_is_answered(
            name in "(host_id|fqdn|tags_json|geo_latitude|last_seen|mtime)",
            value in "(null|true|-?[0-9]{1,30}|[0-9]e[0-9]{1,3}|\"[ -!#-\\[\\]-~]{0,20}\"|\\[\"a\",1\\]|\\{\\})",
        ) {
            let _ = host_entry(format!("{{\"{name}\":{value}}}").as_bytes());
        }
    }
}

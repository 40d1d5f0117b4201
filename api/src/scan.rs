//! Splits a body of many entries while it arrives, without reading more than one entry into memory.
//!
//! Two forms: one JSON object `{"entries":[…],"remove":[…]}`, and NDJSON, one entry on each line. The
//! scanner finds where an entry begins and ends and says nothing about its content, so a malformed entry
//! is one bad row as long as the frame around it holds. What breaks the frame ends the whole call.

use std::ops::ControlFlow;

use crate::code::Code;
use crate::problem::Problem;

/// How a body is cut into entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object with arrays.
    Json,
    /// One entry a line.
    Ndjson,
    /// Whichever of the two the first bytes are.
    Sniff,
}

/// What members the object may have beside `entries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// Others are skipped: the site wire.
    Any,
    /// None: a full snapshot.
    Entries,
    /// `remove`: a delta, in which both are optional.
    EntriesAndRemove,
}

/// One piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// An element of `entries`.
    Entry(&'a [u8]),
    /// A line of NDJSON: an entry, or in a delta an object with `remove`.
    Line(&'a [u8]),
    /// An element of `remove`.
    Removal(&'a [u8]),
    /// An entry longer than the bound; it was not kept.
    EntryTooLong,
}

/// Why the frame does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the body is empty: send {{\"entries\":[…]}} or one entry on each line")]
    Empty,
    #[error("the body must be an object with an array `entries`, or one entry on each line")]
    NotAnObject,
    #[error("the body is not JSON around its entries: see byte {0}")]
    Syntax(u64),
    #[error("the body ends early: nothing of it was applied")]
    Incomplete,
    #[error("`entries` and `remove` must be arrays")]
    NotAnArray,
    #[error("the body has an unknown or repeated member: see byte {0}")]
    Member(u64),
    #[error("`entries` is missing")]
    EntriesMissing,
}

impl From<FrameError> for Problem {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::Syntax(_) | FrameError::Incomplete => Code::InvalidJson,
            FrameError::Empty
            | FrameError::NotAnObject
            | FrameError::NotAnArray
            | FrameError::Member(_)
            | FrameError::EntriesMissing => Code::InvalidBody,
        };
        Self::new(code, error.to_string())
    }
}

/// Bytes looked at before a body whose form is unknown is taken for lines.
const SNIFF_BYTES_MAX: usize = 1_024;
/// No member that we know has a longer name.
const NAME_BYTES_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Array {
    Entries,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    Start,
    /// Before a name; the flag says whether a closing brace may come instead.
    BeforeName { first: bool },
    /// Inside a name.
    Name { escaped: bool },
    /// Before the colon.
    AfterName,
    /// Before a value.
    BeforeValue,
    /// Inside the value of a member that is not ours.
    Skip(Nesting),
    /// Before an element; the flag says whether a closing bracket may come instead.
    BeforeElement { array: Array, first: bool },
    /// Inside an element.
    Element { array: Array, nesting: Nesting },
    /// Behind a value.
    AfterValue,
    /// Behind the closing brace.
    End,
    /// Inside a line.
    Line,
}

/// Where inside a JSON value the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Nesting {
    depth: u32,
    string: bool,
    escaped: bool,
}

impl Nesting {
    /// Takes one byte; breaks before a byte that ends the value from outside.
    fn step(&mut self, byte: u8) -> ControlFlow<()> {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return ControlFlow::Continue(());
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' | b',' if self.depth == 0 => return ControlFlow::Break(()),
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Cuts one body into [`Piece`]s, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Scanner {
    members: Members,
    entry_bytes_max: usize,
    sniffing: Option<Vec<u8>>,
    state: State,
    name: Vec<u8>,
    seen_entries: bool,
    seen_remove: bool,
    /// The part of an entry that earlier chunks held.
    kept: Vec<u8>,
    overlong: bool,
    position: u64,
    lines: u64,
}

impl Scanner {
    /// A scanner for one body.
    pub(crate) fn new(format: Format, members: Members, entry_bytes_max: usize) -> Self {
        Self {
            members,
            entry_bytes_max,
            sniffing: (format == Format::Sniff).then(Vec::new),
            state: if format == Format::Ndjson { State::Line } else { State::Start },
            name: Vec::new(),
            seen_entries: false,
            seen_remove: false,
            kept: Vec::new(),
            overlong: false,
            position: 0,
            lines: 0,
        }
    }

    /// Takes the next chunk and hands out the pieces that end in it.
    ///
    /// # Errors
    /// The frame does not hold; pieces handed out so far must not be applied.
    pub(crate) fn push(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) -> Result<(), FrameError> {
        let Some(mut head) = self.sniffing.take() else { return self.scan(chunk, sink) };
        head.extend_from_slice(chunk);
        match sniff(&head) {
            Some(format) => {
                self.state = if format == Format::Ndjson { State::Line } else { State::Start };
                self.scan(&head, sink)
            }
            None => {
                self.sniffing = Some(head);
                Ok(())
            }
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The body ended inside its frame, or lacks what it must have.
    pub(crate) fn finish(mut self, sink: &mut dyn FnMut(Piece<'_>)) -> Result<(), FrameError> {
        if let Some(head) = self.sniffing.take() {
            if head.iter().all(u8::is_ascii_whitespace) {
                return Err(FrameError::Empty);
            }
            self.state = State::Line;
            self.scan(&head, sink)?;
        }
        match self.state {
            State::Line => {
                self.end_line(&[], sink);
                if self.lines == 0 { Err(FrameError::Empty) } else { Ok(()) }
            }
            State::End if self.seen_entries => Ok(()),
            State::End if self.members == Members::EntriesAndRemove && self.seen_remove => Ok(()),
            State::End => Err(FrameError::EntriesMissing),
            State::Start => Err(FrameError::Empty),
            State::BeforeName { .. }
            | State::Name { .. }
            | State::AfterName
            | State::BeforeValue
            | State::Skip(_)
            | State::BeforeElement { .. }
            | State::Element { .. }
            | State::AfterValue => Err(FrameError::Incomplete),
        }
    }

    fn scan(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) -> Result<(), FrameError> {
        if self.state == State::Line {
            self.scan_lines(chunk, sink);
        } else {
            self.scan_object(chunk, sink)?;
        }
        self.position += chunk.len() as u64;
        Ok(())
    }

    fn scan_lines(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.end_line(&rest[..end], sink);
            rest = &rest[end + 1..];
        }
        // White space at the begin of a line is no part of it, so a blank line is never kept.
        self.keep(if self.kept.is_empty() { rest.trim_ascii_start() } else { rest });
    }

    fn end_line(&mut self, last: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        let begun = self.overlong || !self.kept.is_empty();
        let last = if begun { last } else { last.trim_ascii_start() };
        if !begun && last.is_empty() {
            return;
        }
        self.lines += 1;
        self.end_piece(last, |line| Piece::Line(line), sink);
    }

    fn scan_object(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) -> Result<(), FrameError> {
        let mut begin = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            let position = self.position + at as u64;
            match &mut self.state {
                State::Element { array, nesting } => {
                    if nesting.step(byte).is_break() {
                        let array = *array;
                        let piece: fn(&[u8]) -> Piece<'_> = match array {
                            Array::Entries => |bytes| Piece::Entry(bytes),
                            Array::Remove => |bytes| Piece::Removal(bytes),
                        };
                        self.end_piece(&chunk[begin..at], piece, sink);
                        self.state = match byte {
                            b',' => State::BeforeElement { array, first: false },
                            b']' => State::AfterValue,
                            _ => return Err(FrameError::Syntax(position)),
                        };
                    }
                }
                State::Skip(nesting) => {
                    if nesting.step(byte).is_break() {
                        self.state = match byte {
                            b',' => State::BeforeName { first: false },
                            b'}' => State::End,
                            _ => return Err(FrameError::Syntax(position)),
                        };
                    }
                }
                State::Name { escaped } => match byte {
                    _ if *escaped => *escaped = false,
                    b'\\' => {
                        *escaped = true;
                        // No name of ours has an escape; the byte keeps this one from being ours.
                        self.name.push(byte);
                    }
                    b'"' => self.state = State::AfterName,
                    _ if self.name.len() <= NAME_BYTES_MAX => self.name.push(byte),
                    _ => {}
                },
                _ if byte.is_ascii_whitespace() => {}
                State::BeforeElement { array, first } => match byte {
                    b']' if *first => self.state = State::AfterValue,
                    b']' | b',' | b'}' => return Err(FrameError::Syntax(position)),
                    _ => {
                        let mut nesting = Nesting::default();
                        // The first byte of a value cannot end it.
                        let _ = nesting.step(byte);
                        self.state = State::Element { array: *array, nesting };
                        begin = at;
                    }
                },
                State::Start
                | State::BeforeName { .. }
                | State::AfterName
                | State::BeforeValue
                | State::AfterValue
                | State::End
                | State::Line => {
                    let next = match (self.state, byte) {
                        (State::Start, b'{') => State::BeforeName { first: true },
                        (State::Start, _) => return Err(FrameError::NotAnObject),
                        (State::BeforeName { .. }, b'"') => {
                            self.name.clear();
                            State::Name { escaped: false }
                        }
                        (State::BeforeName { first: true } | State::AfterValue, b'}') => State::End,
                        (State::AfterName, b':') => State::BeforeValue,
                        (State::AfterValue, b',') => State::BeforeName { first: false },
                        (State::BeforeValue, _) => self.begin_value(byte, position)?,
                        _ => return Err(FrameError::Syntax(position)),
                    };
                    self.state = next;
                }
            }
        }
        if matches!(self.state, State::Element { .. }) {
            self.keep(&chunk[begin..]);
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8, position: u64) -> Result<State, FrameError> {
        let (array, seen) = match self.name.as_slice() {
            b"entries" => (Array::Entries, &mut self.seen_entries),
            b"remove" if self.members == Members::EntriesAndRemove => (Array::Remove, &mut self.seen_remove),
            _ if self.members == Members::Any => {
                let mut nesting = Nesting::default();
                return match nesting.step(byte) {
                    ControlFlow::Continue(()) => Ok(State::Skip(nesting)),
                    ControlFlow::Break(()) => Err(FrameError::Syntax(position)),
                };
            }
            _ => return Err(FrameError::Member(position)),
        };
        if byte != b'[' {
            return Err(FrameError::NotAnArray);
        }
        if std::mem::replace(seen, true) {
            return Err(FrameError::Member(position));
        }
        Ok(State::BeforeElement { array, first: true })
    }

    /// Keeps the begin of a piece for the next chunk, up to the bound.
    fn keep(&mut self, part: &[u8]) {
        if self.overlong || self.kept.len() + part.len() > self.entry_bytes_max {
            self.overlong = true;
            self.kept.clear();
        } else {
            self.kept.extend_from_slice(part);
        }
    }

    fn end_piece(&mut self, last: &[u8], piece: fn(&[u8]) -> Piece<'_>, sink: &mut dyn FnMut(Piece<'_>)) {
        if self.overlong || self.kept.len() + last.len() > self.entry_bytes_max {
            sink(Piece::EntryTooLong);
        } else if self.kept.is_empty() {
            sink(piece(last.trim_ascii()));
        } else {
            self.kept.extend_from_slice(last);
            sink(piece(self.kept.trim_ascii()));
        }
        self.kept.clear();
        self.overlong = false;
    }
}

/// Tells the two forms apart by the first member: `entries` or `remove` with an array is the object.
fn sniff(head: &[u8]) -> Option<Format> {
    let undecided = || (head.len() >= SNIFF_BYTES_MAX).then_some(Format::Ndjson);
    let rest = head.trim_ascii_start();
    let Some((first, rest)) = rest.split_first() else { return undecided() };
    if *first == b'[' {
        // Let the object's scanner say what is expected.
        return Some(Format::Json);
    }
    if *first != b'{' {
        return Some(Format::Ndjson);
    }
    let rest = rest.trim_ascii_start();
    for name in [b"\"entries\"".as_slice(), b"\"remove\""] {
        if let Some(rest) = rest.strip_prefix(name) {
            let Some((b':', rest)) = rest.trim_ascii_start().split_first() else { return undecided() };
            return match rest.trim_ascii_start().first() {
                Some(b'[') => Some(Format::Json),
                Some(_) if name == b"\"entries\"" => Some(Format::Json),
                Some(_) => Some(Format::Ndjson),
                None => undecided(),
            };
        }
        if name.starts_with(rest) {
            return undecided();
        }
    }
    if rest.starts_with(b"}") { Some(Format::Json) } else { Some(Format::Ndjson) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENTRY_BYTES_MAX: usize = 32;

    fn scan(format: Format, members: Members, chunks: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let mut pieces = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            pieces.push(match piece {
                Piece::Entry(bytes) | Piece::Line(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Piece::Removal(bytes) => format!("-{}", String::from_utf8_lossy(bytes)),
                Piece::EntryTooLong => "too long".to_owned(),
            });
        };
        let mut scanner = Scanner::new(format, members, ENTRY_BYTES_MAX);
        for chunk in chunks {
            scanner.push(chunk, &mut sink)?;
        }
        scanner.finish(&mut sink)?;
        Ok(pieces)
    }

    fn whole(members: Members, body: &str) -> Result<Vec<String>, FrameError> {
        scan(Format::Sniff, members, &[body.as_bytes()])
    }

    #[test]
    fn object_is_cut_into_its_elements() {
        let body = r#" {"entries" : [ {"a":"]},{\"["} , 7,{"b":[1,{}]}] , "remove":["x" ]} "#;

        let pieces = whole(Members::EntriesAndRemove, body);

        assert_eq!(pieces.unwrap(), [r#"{"a":"]},{\"["}"#, "7", r#"{"b":[1,{}]}"#, r#"-"x""#]);
    }

    #[test]
    fn lines_are_cut_and_blank_ones_left_out() {
        let pieces = whole(Members::Entries, "{\"a\":1}\r\n\n  \nnonsense\n{\"remove\":\"x\"}");

        assert_eq!(pieces.unwrap(), ["{\"a\":1}", "nonsense", "{\"remove\":\"x\"}"]);
    }

    #[test]
    fn overlong_entry_is_one_bad_row() {
        let long = "y".repeat(ENTRY_BYTES_MAX);
        let object = format!("{{\"entries\":[1,\"{long}\",2]}}");
        let lines = format!("1\n\"{long}\"\n2\n");

        assert_eq!(whole(Members::Entries, &object).unwrap(), ["1", "too long", "2"]);
        assert_eq!(whole(Members::Entries, &lines).unwrap(), ["1", "too long", "2"]);
    }

    #[test]
    fn broken_frame_ends_the_call() {
        for (body, error) in [
            ("", FrameError::Empty),
            (" \n", FrameError::Empty),
            ("[]", FrameError::NotAnObject),
            ("{}", FrameError::EntriesMissing),
            ("{\"entries\":[{}", FrameError::Incomplete),
            ("{\"entries\":[{}]", FrameError::Incomplete),
            ("{\"entries\":{}}", FrameError::NotAnArray),
            ("{\"entries\":null}", FrameError::NotAnArray),
            ("{\"entries\":[1,]}", FrameError::Syntax(14)),
            ("{\"entries\":[]}x", FrameError::Syntax(14)),
            ("{\"entries\":[],\"entries\":[]}", FrameError::Member(24)),
            ("{\"entries\":[],\"other\":1}", FrameError::Member(22)),
        ] {
            assert_eq!(whole(Members::Entries, body), Err(error), "{body}");
        }
    }

    #[test]
    fn site_wire_skips_members_it_does_not_know() {
        let body = r#"{"v":{"a":[1,"}"]},"entries":[1],"remove":["x"],"w":null}"#;

        assert_eq!(scan(Format::Json, Members::Any, &[body.as_bytes()]).unwrap(), ["1"]);
    }

    #[test]
    fn delta_may_only_remove() {
        assert_eq!(whole(Members::EntriesAndRemove, r#"{"remove":["x"]}"#).unwrap(), [r#"-"x""#]);
        assert_eq!(whole(Members::EntriesAndRemove, r#"{"remove":"x"}"#).unwrap(), [r#"{"remove":"x"}"#]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_answered(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            for format in [Format::Json, Format::Ndjson, Format::Sniff] {
                let _ = scan(format, Members::EntriesAndRemove, &chunks);
            }
        }

        #[test]
        fn chunks_do_not_change_the_pieces(
            body in "(\\{\"entries\":\\[)?[\\[\\]{}\":,a-z\\\\ \n]{0,60}(\\]\\})?",
            cuts in proptest::collection::vec(0_usize..80, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.push(0);
            cuts.push(body.len());
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();

            let together = scan(Format::Sniff, Members::Any, &[body.as_bytes()]);

            prop_assert_eq!(scan(Format::Sniff, Members::Any, &chunks), together);
        }

        #[test]
        fn what_serde_writes_is_cut_as_serde_reads_it(
            entries in proptest::collection::vec("[a-z\"\\\\{},\\[\\] ]{0,8}", 0..6),
            pretty in any::<bool>(),
        ) {
            let document = serde_json::json!({ "entries": entries });
            let body = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) };

            let pieces = scan(Format::Json, Members::Entries, &[&body.unwrap()]).unwrap();

            let read: Vec<String> = pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
            prop_assert_eq!(read, entries);
        }
    }
}

//! Path patterns, as policies and mappings use them (contract A.3, D.1).
//!
//! `**` stands for any number of whole segments, `*` for one segment or for any text inside one, `?` for one
//! character. Matching takes time in proportion to pattern times path, whatever the pattern. What a mapping
//! may not use is refused in [`mapping`](super::mapping).

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::path::SecretPath;
use crate::limits::secrets as limits;

/// A pattern of paths, anchored at both ends.
///
/// A `**` at the very beginning takes at least one segment: `**` is every path, and `**/ssl/*` is not
/// `ssl/cert`, as the documented table has it. Anywhere else it may take none.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

/// Why a text is no pattern. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGlob {
    /// Nothing, or too much of it.
    #[error("has 1 to 512 characters")]
    Length,
    /// Too many segments.
    #[error("has at most 10 segments")]
    Segments,
    /// A slash at an end, two in a row, or a segment that is `.` or `..`.
    #[error("has no empty segment and none that is . or ..")]
    Segment,
    /// `**` beside text.
    #[error("has ** only as a segment of its own")]
    Glued,
    /// A character outside the set.
    #[error("holds only letters, digits, - _ . + = @ / and the wildcards ** * ?")]
    Character,
    /// Too much text around a wildcard.
    #[error("has at most 64 characters in a segment with a wildcard inside")]
    Wildcard,
    /// A mapping's first segment has a wildcard.
    #[error("begins with a segment without wildcards")]
    First,
    /// A mapping's `**` is not at the end.
    #[error("has ** only as its last segment")]
    NotLast,
}

/// One segment of a pattern, or of a backend's hierarchical template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text.
    Literal(String),
    /// One segment with a wildcard in it, or a wildcard itself.
    Glob(Glob),
    /// Any number of segments.
    Rest,
}

/// A text with wildcards, as the bytes it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Glob(pub(super) Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    One,
    Any,
}

impl Glob {
    pub(super) fn parse(text: &str) -> Self {
        Self(
            text.bytes()
                .map(|byte| match byte {
                    b'*' => Token::Any,
                    b'?' => Token::One,
                    byte => Token::Byte(byte),
                })
                .collect(),
        )
    }

    /// What each wildcard stands for in this text, each `*` as short as it can be, from the left. None when
    /// the text does not match. Only the last `*` is ever reconsidered, so this takes text times tokens.
    pub(super) fn captures(&self, text: &[u8]) -> Option<Vec<Range<usize>>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let (mut place, mut token) = (0, 0);
        let mut last = None;
        loop {
            let fits = match self.0.get(token) {
                Some(Token::Any) => {
                    last = Some((token, found.len()));
                    found.push(place..place);
                    true
                }
                Some(Token::One) if place < text.len() => {
                    found.push(place..place + 1);
                    place += 1;
                    true
                }
                Some(Token::Byte(byte)) if text.get(place) == Some(byte) => {
                    place += 1;
                    true
                }
                None if place == text.len() => return Some(found),
                Some(Token::One | Token::Byte(_)) | None => false,
            };
            if fits {
                token += 1;
                continue;
            }
            let (star, index) = last?;
            found.truncate(index + 1);
            let span = found.last_mut()?;
            if span.end >= text.len() {
                return None;
            }
            span.end += 1;
            (place, token) = (span.end, star + 1);
        }
    }

    fn matches(&self, text: &str) -> bool {
        self.captures(text.as_bytes()).is_some()
    }

    /// Whether some text that begins so matches.
    fn may_begin(&self, part: &str) -> bool {
        // What may come next, after each byte: every state can still reach the end.
        let mut states = vec![false; self.0.len() + 1];
        states[0] = true;
        for byte in part.bytes() {
            let mut next = vec![false; states.len()];
            for (place, token) in self.0.iter().enumerate() {
                match token {
                    Token::Any => {
                        next[place] |= states[place];
                        states[place + 1] |= states[place];
                    }
                    Token::One => next[place + 1] |= states[place],
                    Token::Byte(own) => next[place + 1] |= states[place] && *own == byte,
                }
            }
            states = next;
        }
        states.contains(&true)
    }

    /// A text that both match, if there is one and `steps` suffice to find it; none for two that are very
    /// long, which segments with wildcards never are. Where both would take any text, it has one `x`.
    pub(super) fn common(&self, other: &Self, steps: &mut usize) -> Option<Vec<u8>> {
        let (width, goal) = (other.0.len() + 1, (self.0.len(), other.0.len()));
        let places = (self.0.len() + 1) * width;
        if places > limits::COMMON_PLACES_MAX {
            return None;
        }
        let mut reached: Vec<Option<Move>> = vec![None; places];
        let mut queue = VecDeque::from([((0, 0), (0, 0), None)]);
        while let Some((at, from, byte)) = queue.pop_front() {
            *steps = steps.checked_sub(1)?;
            let cell = reached.get_mut(at.0 * width + at.1)?;
            if cell.is_some() {
                continue;
            }
            *cell = Some((from, byte));
            if at == goal {
                return Some(walk_back(&reached, width, goal));
            }
            let (left, right) = ((at.0 + 1, at.1), (at.0, at.1 + 1));
            let both = (at.0 + 1, at.1 + 1);
            let moves = match (self.0.get(at.0), other.0.get(at.1)) {
                (Some(Token::Any), Some(Token::Any)) => {
                    vec![(both, Some(b'x')), (left, None), (right, None)]
                }
                (Some(Token::Any), token) => follow(token, right, left),
                (token, Some(Token::Any)) => follow(token, left, right),
                (Some(Token::Byte(one)), Some(Token::Byte(two))) if one != two => Vec::new(),
                (Some(Token::Byte(byte)), Some(_)) | (Some(Token::One), Some(Token::Byte(byte))) => {
                    vec![(both, Some(*byte))]
                }
                (Some(Token::One), Some(Token::One)) => vec![(both, Some(b'x'))],
                (None, _) | (_, None) => Vec::new(),
            };
            queue.extend(moves.into_iter().map(|(to, byte)| (to, at, byte)));
        }
        None
    }
}

/// A step to or from a pair of places, and the byte that it takes.
type Move = ((usize, usize), Option<u8>);

/// What a `*` may do beside this token of the other side: take it, or end.
fn follow(token: Option<&Token>, take: (usize, usize), end: (usize, usize)) -> Vec<Move> {
    match token {
        Some(Token::Byte(byte)) => vec![(take, Some(*byte)), (end, None)],
        Some(Token::One) => vec![(take, Some(b'x')), (end, None)],
        Some(Token::Any) | None => vec![(end, None)],
    }
}

fn walk_back(reached: &[Option<Move>], width: usize, goal: (usize, usize)) -> Vec<u8> {
    let (mut at, mut text) = (goal, Vec::new());
    while at != (0, 0)
        && let Some((from, byte)) = reached[at.0 * width + at.1]
    {
        text.extend(byte);
        at = from;
    }
    text.reverse();
    text
}

impl Segment {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidGlob> {
        match text {
            "**" => Ok(Self::Rest),
            _ if text.contains("**") => Err(InvalidGlob::Glued),
            _ if !text.contains(['*', '?']) => Ok(Self::Literal(text.to_owned())),
            _ if text.len() > limits::WILDCARD_SEGMENT_BYTES_MAX => Err(InvalidGlob::Wildcard),
            _ => Ok(Self::Glob(Glob::parse(text))),
        }
    }

    fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => text == segment,
            Self::Glob(glob) => glob.matches(segment),
            Self::Rest => true,
        }
    }

    fn may_begin(&self, part: &str) -> bool {
        match self {
            Self::Literal(text) => text.starts_with(part),
            Self::Glob(glob) => glob.may_begin(part),
            Self::Rest => true,
        }
    }

    /// Whether one segment can match both.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rest, _) | (_, Self::Rest) => true,
            (Self::Literal(one), Self::Literal(two)) => one == two,
            (Self::Literal(text), Self::Glob(glob)) | (Self::Glob(glob), Self::Literal(text)) => {
                glob.matches(text)
            }
            (Self::Glob(one), Self::Glob(two)) => {
                let mut steps = usize::MAX;
                one.common(two, &mut steps).is_some()
            }
        }
    }
}

/// A set of places in a pattern, as bits; a pattern has at most ten segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places(u32);

impl PathPattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this path matches.
    pub fn matches(&self, path: &SecretPath) -> bool {
        let places = path.segments().fold(Places(1), |places, segment| self.step(places, segment));
        places.0 & (1 << self.segments.len()) != 0
    }

    /// Whether some path that starts with this text could match: for lists. The text may end inside a
    /// segment, and an empty one is the start of every path.
    pub fn may_match_below(&self, prefix: &str) -> bool {
        let (whole, part) =
            prefix.rsplit_once('/').map_or((None, prefix), |(whole, part)| (Some(whole), part));
        let mut places = Places(1);
        for segment in whole.iter().flat_map(|whole| whole.split('/')) {
            if segment.is_empty() {
                return false;
            }
            places = self.step(places, segment);
        }
        let mut open = self.segments.iter().enumerate().filter(|(place, _)| places.0 & (1 << place) != 0);
        open.any(|(_, segment)| segment.may_begin(part))
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments before the first wildcard.
    pub(super) fn literal_segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Glob(_) | Segment::Rest => None,
        })
    }

    /// Whether a path can match both; for patterns of mappings, whose `**` is last. It may say yes to a pair
    /// whose only common path would be too long or have a segment `..`, and never no to one that has any.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let head =
            |pattern: &Self| pattern.segments.iter().position(|segment| matches!(segment, Segment::Rest));
        let (one, two) = (head(self), head(other));
        let long_enough = match (one, two) {
            (None, None) => self.segments.len() == other.segments.len(),
            (Some(head), None) => head <= other.segments.len(),
            (None, Some(head)) => head <= self.segments.len(),
            (Some(_), Some(_)) => true,
        };
        long_enough && self.segments.iter().zip(&other.segments).all(|(one, two)| one.overlaps(two))
    }

    /// Where the pattern can be after one more segment of a path.
    fn step(&self, places: Places, segment: &str) -> Places {
        let mut next = 0;
        for (place, own) in self.segments.iter().enumerate() {
            if places.0 & (1 << place) == 0 || !own.matches(segment) {
                continue;
            }
            next |= match own {
                Segment::Rest => 1 << place,
                Segment::Literal(_) | Segment::Glob(_) => 1 << (place + 1),
            };
        }
        // A `**` may end here, or take nothing. At the start it may not, so the first place has no such step.
        for (place, own) in self.segments.iter().enumerate() {
            if next & (1 << place) != 0 && matches!(own, Segment::Rest) {
                next |= 1 << (place + 1);
            }
        }
        Places(next)
    }
}

impl FromStr for PathPattern {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        if text.is_empty() || text.len() > limits::PATH_BYTES_MAX {
            return Err(InvalidGlob::Length);
        }
        let known = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'=' | b'@' | b'/' | b'*' | b'?')
        };
        if !text.bytes().all(known) {
            return Err(InvalidGlob::Character);
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(InvalidGlob::Segment);
        }
        if text.split('/').count() > limits::PATH_SEGMENTS_MAX {
            return Err(InvalidGlob::Segments);
        }
        let segments = text.split('/').map(Segment::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// The segments follow from the text.
impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}

impl PartialOrd for PathPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Serialize for PathPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PathPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn documented_patterns_match_what_they_are_documented_to() {
        for (glob, path, matches) in [
            ("app/db/*", "app/db/user", true),
            ("app/db/*", "app/db/primary/password", false),
            ("app/db/*", "app/db", false),
            ("app/**", "app", true),
            ("app/**", "app/db", true),
            ("app/**", "app/db/primary/password", true),
            ("app/**", "apps/db", false),
            ("app", "app", true),
            ("app", "app/db", false),
            ("**", "app", true),
            ("**", "app/db", true),
            ("**/ssl/*", "ssl/cert", false),
            ("**/ssl/*", "app/ssl/cert", true),
            ("**/ssl/*", "a/b/ssl/cert", true),
            ("**/ssl/*", "a/ssl/b/cert", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c/z/y", false),
            ("a/**/**/z", "a/z", true),
            ("secrets/*.key", "secrets/tls.key", true),
            ("secrets/*.key", "secrets/tls.cert", false),
            ("db-?/x", "db-1/x", true),
            ("db-?/x", "db-10/x", false),
            ("db-?/x", "db-/x", false),
            ("a*b*c/x", "abbc/x", true),
            ("a*b*c/x", "abbd/x", false),
        ] {
            assert_eq!(pattern(glob).matches(&path.parse().unwrap()), matches, "{glob} {path}");
        }
    }

    #[test]
    fn list_asks_only_where_something_could_match() {
        for (glob, prefix, may) in [
            ("app/db/*", "", true),
            ("app/db/*", "ap", true),
            ("app/db/*", "app", true),
            ("app/db/*", "app/", true),
            ("app/db/*", "app/d", true),
            ("app/db/*", "app/e", false),
            ("app/db/*", "app/db/", true),
            ("app/db/*", "app/db/us", true),
            ("app/db/*", "app/db/user/", false),
            ("app/db", "app/db", true),
            ("app/db", "app/db/", false),
            ("app/**", "app/x/y/z", true),
            ("app/**", "apps", false),
            ("**/ssl/*", "ssl/", true),
            ("**/ssl/*", "a/b", true),
            ("a/x*y/c", "a/xz", true),
            ("a/x*y/c", "a/zz", false),
            ("a/x?y/c", "a/xzz", false),
            ("a/x?y/c", "a/xzy/c", true),
            ("a/**", "/a", false),
            ("a/**", "a//", false),
        ] {
            assert_eq!(pattern(glob).may_match_below(prefix), may, "{glob} below {prefix}");
        }
    }

    #[test]
    fn texts_that_are_no_pattern_say_why() {
        let (long, deep) = ("a".repeat(513), ["a"; 11].join("/"));
        let wide = format!("a/{}*", "b".repeat(64));
        for (text, refusal) in [
            ("", InvalidGlob::Length),
            (&*long, InvalidGlob::Length),
            (&deep, InvalidGlob::Segments),
            (&wide, InvalidGlob::Wildcard),
            ("/a", InvalidGlob::Segment),
            ("a/", InvalidGlob::Segment),
            ("a//b", InvalidGlob::Segment),
            ("a/../b", InvalidGlob::Segment),
            ("a/./b", InvalidGlob::Segment),
            ("a/b**", InvalidGlob::Glued),
            ("a/***", InvalidGlob::Glued),
            ("a/[bc]", InvalidGlob::Character),
            ("a/{b,c}", InvalidGlob::Character),
            ("!a", InvalidGlob::Character),
            ("a\\b", InvalidGlob::Character),
            ("a b", InvalidGlob::Character),
            ("ä", InvalidGlob::Character),
            ("a\0", InvalidGlob::Character),
        ] {
            assert_eq!(text.parse::<PathPattern>(), Err(refusal), "{text}");
        }
    }

    #[test]
    fn pattern_that_doubles_the_work_of_others_costs_this_one_no_more() {
        let stars = "*a".repeat(30);
        let glob = pattern(&format!("{stars}b/{stars}b/**/**/**/{stars}b/**/**/{stars}b"));
        let segment = "a".repeat(50);
        let path: SecretPath = [segment.as_str(); 10].join("/").parse().unwrap();

        // Seconds to centuries where every star is tried at every place; a fraction of a second here.
        for _ in 0..1_000 {
            assert!(!glob.matches(&path));
            assert!(!glob.may_match_below(path.as_str()));
        }
    }

    #[test]
    fn pattern_travels_as_its_text() {
        let json = serde_json::to_string(&pattern("a/**")).unwrap();

        assert_eq!(json, "\"a/**\"");
        assert_eq!(serde_json::from_str::<PathPattern>(&json).unwrap(), pattern("a/**"));
        assert!(serde_json::from_str::<PathPattern>("\"a/[\"").is_err());
    }

    /// The plain meaning of a pattern, by trying everything.
    fn plainly(glob: &[&str], path: &[&str], first: bool) -> bool {
        match (glob.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => {
                (!first && plainly(rest, path, false))
                    || (!path.is_empty()
                        && (plainly(rest, &path[1..], false) || plainly(glob, &path[1..], false)))
            }
            (Some((own, rest)), Some((segment, below))) => {
                text_plainly(own.as_bytes(), segment.as_bytes()) && plainly(rest, below, false)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    fn text_plainly(glob: &[u8], text: &[u8]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                text_plainly(rest, text) || (!text.is_empty() && text_plainly(glob, &text[1..]))
            }
            (Some((own, rest)), Some((byte, below))) => {
                (*own == b'?' || own == byte) && text_plainly(rest, below)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(
            glob in proptest::collection::vec("\\*\\*|[ab*?]{1,4}", 1..6),
            path in proptest::collection::vec("[ab]{1,4}", 1..6),
            cut in 0_usize..30,
        ) {
            prop_assume!(glob.iter().all(|segment| segment == "**" || !segment.contains("**")));
            let parts = |texts: &[String]| texts.join("/");
            let (compiled, whole) = (pattern(&parts(&glob)), parts(&path).parse::<SecretPath>().unwrap());
            let plain = plainly(
                &glob.iter().map(String::as_str).collect::<Vec<_>>(),
                &path.iter().map(String::as_str).collect::<Vec<_>>(),
                true,
            );

            prop_assert_eq!(compiled.matches(&whole), plain);
            if plain {
                let prefix = &whole.as_str()[..cut.min(whole.as_str().len())];
                prop_assert!(compiled.may_match_below(prefix));
            }
        }

        #[test]
        fn common_text_of_two_globs_matches_both(one in "[ab*?]{0,6}", two in "[ab*?]{0,6}", text in "[ab]{0,6}") {
            let (left, right) = (Glob::parse(&one), Glob::parse(&two));
            let mut steps = usize::MAX;
            let common = left.common(&right, &mut steps);

            if let Some(common) = &common {
                prop_assert!(left.captures(common).is_some() && right.captures(common).is_some());
            }
            if left.matches(&text) && right.matches(&text) {
                prop_assert!(common.is_some());
            }
        }

        #[test]
        fn any_text_is_a_pattern_or_is_refused(text in "[a-c*?/.\\[ä-]{0,20}", path in "[a-c]{1,3}(/[a-c]{1,3}){0,3}") {
            if let Ok(compiled) = text.parse::<PathPattern>() {
                let _ = (compiled.matches(&path.parse().unwrap()), compiled.may_match_below(&text));
            }
        }
    }
}

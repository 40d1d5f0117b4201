//! Which of a tenant's mappings a path belongs to (contract D.3).
//!
//! The most specific pattern wins, whatever the order in which backends and mappings were made; only the
//! winner is ever asked. Mappings are found by the segments before their first wildcard, so a path meets only
//! those that could be its own.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::id::BackendId;
use super::mapping::{Mapping, NoName, NoPath};
use super::path::SecretPath;
use super::pattern::{PathPattern, Segment, Token};
use crate::limits::secrets as limits;

/// All mappings of a tenant's enabled backends.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The most specific first.
    entries: Vec<Entry>,
    /// Places in `entries` by the segments before the first wildcard.
    by_prefix: BTreeMap<String, Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Entry {
    precedence: Precedence,
    backend: BackendId,
    mapping: Mapping,
}

/// Where a path goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The backend.
    pub backend: BackendId,
    /// Its mapping that won.
    pub mapping: &'a Mapping,
    /// The name there. Without one the path is not found: no other mapping is asked.
    pub name: Result<String, NoName>,
}

/// Two patterns that no rule tells apart, and that can match one path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern} of {backend} and {other_pattern} of {other_backend} can match one path, and neither is more specific"
)]
pub struct MappingConflict {
    /// The one.
    pub pattern: String,
    /// Its backend.
    pub backend: BackendId,
    /// The other.
    pub other_pattern: String,
    /// Its backend.
    pub other_backend: BackendId,
}

/// A rule by which one pattern is more specific than another, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A pattern without wildcards.
    Exact,
    /// More segments before the first wildcard.
    LiteralSegmentsFirst,
    /// More segments without wildcards in all.
    LiteralSegments,
    /// More characters that are no wildcards.
    LiteralCharacters,
    /// The narrower wildcard at the first place where they differ: `?`, then `*` inside a segment, then `*`,
    /// then `**`.
    Wildcards,
}

/// What becomes of a path, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The path.
    pub path: SecretPath,
    /// Whether any mapping matches: if so, a local secret of this path is hidden.
    pub federated: bool,
    /// Every mapping that matches, the most specific first: it is the one that is asked.
    pub mappings: Vec<Explained>,
}

/// One mapping of an [`Explanation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its backend.
    pub backend_id: BackendId,
    /// Its pattern.
    pub pattern: String,
    /// Its template.
    pub template: String,
    /// Whether it is the one that is asked.
    pub wins: bool,
    /// The name that the path has or would have.
    pub name: Option<String>,
    /// Why it has none.
    pub no_name: Option<String>,
    /// The rule by which the winner is more specific; none for the winner.
    pub lost_by: Option<Rule>,
}

/// A name of a backend that two paths lead to, each with its own policies: allowed, and worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// The backend.
    pub backend_id: BackendId,
    /// The pattern of the one mapping.
    pub pattern: String,
    /// The pattern of the other.
    pub other_pattern: String,
    /// A name that both reach.
    pub name: String,
    /// The path to it by the one.
    pub path: SecretPath,
    /// The path to it by the other.
    pub other_path: SecretPath,
}

/// How specific a pattern is; the smaller, the more. Members stand in the order of the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    has_wildcards: bool,
    literal_segments_first: Reverse<usize>,
    literal_segments: Reverse<usize>,
    literal_characters: Reverse<usize>,
    wildcards: Vec<Width>,
}

/// How much a wildcard takes. The end of a pattern stands before `**`, which might go on there, and after
/// all others, which must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    One,
    Inside,
    Segment,
    End,
    Rest,
}

impl Precedence {
    fn of(pattern: &PathPattern) -> Self {
        let (mut literal_segments, mut literal_characters, mut wildcards) = (0, 0, Vec::new());
        for segment in pattern.segments() {
            match segment {
                Segment::Literal(text) => {
                    literal_segments += 1;
                    literal_characters += text.len();
                }
                Segment::Glob(glob) => {
                    let any = if glob.0.len() == 1 { Width::Segment } else { Width::Inside };
                    for token in &glob.0 {
                        match token {
                            Token::Byte(_) => literal_characters += 1,
                            Token::One => wildcards.push(Width::One),
                            Token::Any => wildcards.push(any),
                        }
                    }
                }
                Segment::Rest => wildcards.push(Width::Rest),
            }
        }
        let has_wildcards = !wildcards.is_empty();
        wildcards.push(Width::End);
        Self {
            has_wildcards,
            literal_segments_first: Reverse(pattern.literal_segments().count()),
            literal_segments: Reverse(literal_segments),
            literal_characters: Reverse(literal_characters),
            wildcards,
        }
    }

    /// The first rule that tells two patterns apart.
    fn differ(&self, other: &Self) -> Option<Rule> {
        [
            (self.has_wildcards != other.has_wildcards, Rule::Exact),
            (self.literal_segments_first != other.literal_segments_first, Rule::LiteralSegmentsFirst),
            (self.literal_segments != other.literal_segments, Rule::LiteralSegments),
            (self.literal_characters != other.literal_characters, Rule::LiteralCharacters),
            (self.wildcards != other.wildcards, Rule::Wildcards),
        ]
        .into_iter()
        .find_map(|(differs, rule)| differs.then_some(rule))
    }
}

impl Entry {
    fn order(&self) -> (&Precedence, &str, &str, BackendId) {
        (&self.precedence, self.mapping.path_prefix(), self.mapping.pattern(), self.backend)
    }
}

impl Routes {
    /// Puts the mappings of these backends in order.
    ///
    /// # Errors
    /// Two patterns that no rule tells apart and that can match one path; the same two whatever the order.
    pub fn new(
        backends: impl IntoIterator<Item = (BackendId, Vec<Mapping>)>,
    ) -> Result<Self, MappingConflict> {
        let mut entries: Vec<Entry> = backends
            .into_iter()
            .flat_map(|(backend, mappings)| {
                mappings.into_iter().map(move |mapping| Entry {
                    precedence: Precedence::of(mapping.path_pattern()),
                    backend,
                    mapping,
                })
            })
            .collect();
        // Patterns that are equally specific never match one path, so their order shows nowhere else.
        entries.sort_by(|one, two| one.order().cmp(&two.order()));
        let is_rival = |one: &Entry, two: &Entry| {
            one.precedence == two.precedence && one.mapping.path_prefix() == two.mapping.path_prefix()
        };
        for rivals in entries.chunk_by(is_rival) {
            for (place, one) in rivals.iter().enumerate() {
                let overlaps = |two: &&Entry| one.mapping.path_pattern().overlaps(two.mapping.path_pattern());
                if let Some(two) = rivals[place + 1..].iter().find(overlaps) {
                    return Err(MappingConflict {
                        pattern: one.mapping.pattern().to_owned(),
                        backend: one.backend,
                        other_pattern: two.mapping.pattern().to_owned(),
                        other_backend: two.backend,
                    });
                }
            }
        }
        let mut by_prefix: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            by_prefix.entry(entry.mapping.path_prefix().to_owned()).or_default().push(place);
        }
        Ok(Self { entries, by_prefix })
    }

    /// No mappings: every path is local.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The mapping that this path belongs to; none when it is local.
    pub fn route(&self, path: &SecretPath) -> Option<Route<'_>> {
        let entry = self.winner(path)?;
        Some(Route { backend: entry.backend, mapping: &entry.mapping, name: entry.mapping.forward(path) })
    }

    /// The path of a name that a listing under this mapping showed: the whole law of contract D.4.
    ///
    /// # Errors
    /// See [`NoPath`].
    pub fn path_of(&self, backend: BackendId, mapping: &Mapping, name: &str) -> Result<SecretPath, NoPath> {
        let path = mapping.back(name)?;
        match self.winner(&path) {
            Some(winner) if winner.backend == backend && winner.mapping.pattern() == mapping.pattern() => {
                Ok(path)
            }
            Some(_) | None => Err(NoPath::OtherMapping),
        }
    }

    /// The mappings that could hold paths which start with this text, the most specific first.
    pub fn touching(&self, prefix: &str) -> Vec<(BackendId, &Mapping)> {
        self.entries
            .iter()
            .filter(|entry| entry.mapping.may_match_below(prefix))
            .map(|entry| (entry.backend, &entry.mapping))
            .collect()
    }

    /// Every mapping that matches this path, and why the winner wins.
    pub fn explain(&self, path: &SecretPath) -> Explanation {
        let mut places: Vec<usize> = self.candidates(path).collect();
        places.sort_unstable();
        let matching: Vec<&Entry> = places.into_iter().filter_map(|place| self.entries.get(place)).collect();
        let mappings: Vec<Explained> = matching
            .iter()
            .map(|entry| {
                let name = entry.mapping.forward(path);
                let lost_by = matching.first().and_then(|winner| winner.precedence.differ(&entry.precedence));
                Explained {
                    backend_id: entry.backend,
                    pattern: entry.mapping.pattern().to_owned(),
                    template: entry.mapping.template().to_owned(),
                    wins: lost_by.is_none(),
                    no_name: name.as_ref().err().map(ToString::to_string),
                    name: name.ok(),
                    lost_by,
                }
            })
            .collect();
        Explanation { path: path.clone(), federated: !mappings.is_empty(), mappings }
    }

    /// Names of one backend that two paths lead to, an example for each pair of mappings; at most sixteen.
    /// The search is bounded, so it may miss some.
    pub fn shadows(&self) -> Vec<Shadow> {
        let (mut shadows, mut steps) = (Vec::new(), limits::SHADOW_STEPS_MAX);
        for (place, one) in self.entries.iter().enumerate() {
            for two in self.entries[place + 1..].iter().filter(|two| two.backend == one.backend) {
                shadows.extend(self.shadow(one, two, &mut steps));
                if shadows.len() >= limits::SHADOWS_MAX || steps == 0 {
                    return shadows;
                }
            }
        }
        shadows
    }

    fn shadow(&self, one: &Entry, two: &Entry, steps: &mut usize) -> Option<Shadow> {
        for left in one.mapping.globs() {
            for right in two.mapping.globs() {
                let common = left.common(&right, steps).and_then(|name| String::from_utf8(name).ok());
                let Some(name) = common else { continue };
                let path = self.path_of(one.backend, &one.mapping, &name);
                let other = self.path_of(two.backend, &two.mapping, &name);
                if let (Ok(path), Ok(other_path)) = (path, other) {
                    return Some(Shadow {
                        backend_id: one.backend,
                        pattern: one.mapping.pattern().to_owned(),
                        other_pattern: two.mapping.pattern().to_owned(),
                        name,
                        path,
                        other_path,
                    });
                }
            }
        }
        None
    }

    fn winner(&self, path: &SecretPath) -> Option<&Entry> {
        self.candidates(path).min().and_then(|place| self.entries.get(place))
    }

    /// Places of the mappings that match.
    fn candidates<'a>(&'a self, path: &'a SecretPath) -> impl Iterator<Item = usize> + 'a {
        let text = path.as_str();
        let ends = text.match_indices('/').map(|(place, _)| place).chain([text.len()]);
        ends.take(if self.entries.is_empty() { 0 } else { usize::MAX })
            .filter_map(move |end| self.by_prefix.get(&text[..end]))
            .flatten()
            .copied()
            .filter(move |place| self.entries.get(*place).is_some_and(|entry| entry.mapping.matches(path)))
    }
}

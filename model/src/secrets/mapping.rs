//! One mapping: the name that a path has at a backend, and the way back (contract D.2, D.4, D.5).
//!
//! A name and a path belong together only when each leads to the other. Whatever does not come back as it
//! went is refused, so there is never a near miss. Which mapping a path belongs to is decided in
//! [`routes`](super::routes).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::backend::BackendKind;
use super::path::SecretPath;
use super::pattern::{Glob, InvalidGlob, PathPattern, Segment, Token};
use crate::limits::secrets as limits;

pub use super::routes::{Explained, Explanation, MappingConflict, Route, Routes, Rule, Shadow};

/// One pattern of paths and the template of their names, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    kind: BackendKind,
    separator: String,
    pattern: PathPattern,
    template: String,
    shape: Shape,
    listing_prefix: String,
    path_prefix: String,
}

/// A template, as names are matched with it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Names with slashes: Vault, AWS. [`Segment::Rest`] only at the end.
    Tree(Vec<Segment>),
    /// Names without: Azure, Google. What comes before `**`, and what joins the two unless `**` is nothing.
    Flat { head: Glob, rest: Option<String> },
}

/// What one wildcard stands for. The last of them may be that of `**`: segments with slashes between, or
/// nothing.
type Captures<'a> = Vec<&'a str>;

/// One side of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The paths.
    Pattern,
    /// The names.
    Template,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pattern => "pattern",
            Self::Template => "template",
        })
    }
}

/// Why a mapping is refused. It never repeats what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMapping {
    /// A side is no pattern at all: `invalid_glob`.
    #[error("the {0} {1}")]
    Glob(Side, InvalidGlob),
    /// The sides do not fit each other or the backend: `invalid_config`.
    #[error("{0}")]
    Config(&'static str),
}

/// Why a path has no name at the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NoName {
    /// It is none of this mapping's.
    #[error("the pattern does not match the path")]
    OtherPath,
    /// The template gives a place that has secrets below it and is none itself.
    #[error("the template leaves no name for this path")]
    Nothing,
    /// The name would be longer than the backend takes.
    #[error("the name would be longer than this backend takes")]
    Length,
    /// The name would hold a character that the backend does not have.
    #[error("the name would hold a character that this backend does not have")]
    Character,
    /// Azure tells no case apart, and one secret has one spelling.
    #[error("names of this backend are in lower case, so paths to them are")]
    Case,
    /// A segment of the name would be empty, `.` or `..`.
    #[error("a segment of the name would be empty, . or ..")]
    Segment,
    /// The name would lead back to another path.
    #[error("the name would lead back to another path")]
    OtherWay,
}

/// Why a name is no path's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NoPath {
    /// It is none of this mapping's: not one that a sync skips, for a listing may show the neighbours too.
    #[error("the template does not match the name")]
    OtherName,
    /// The path would break the grammar of paths.
    #[error("the path would not be a valid one")]
    Path,
    /// The path would lead to another name, or to none.
    #[error("the path would lead back to another name")]
    OtherWay,
    /// Another mapping is the one that the path belongs to.
    #[error("the path belongs to another mapping")]
    OtherMapping,
}

impl Mapping {
    /// Compiles a pattern and its template for a backend of this kind. `separator` stands for slashes in the
    /// names of Azure and Google.
    ///
    /// # Errors
    /// [`InvalidMapping`] says which answer the caller gets.
    pub fn compile(
        kind: BackendKind,
        separator: &str,
        pattern: &str,
        template: &str,
    ) -> Result<Self, InvalidMapping> {
        let pattern = parse_pattern(pattern).map_err(|error| InvalidMapping::Glob(Side::Pattern, error))?;
        if template.is_empty() {
            return Err(InvalidMapping::Config("the template is empty"));
        }
        if template.len() > limits::REMOTE_NAME_BYTES_MAX {
            return Err(InvalidMapping::Config("the template is longer than a name can be"));
        }
        check_template(template).map_err(|error| InvalidMapping::Glob(Side::Template, error))?;
        let shape = match kind {
            BackendKind::HashicorpVault | BackendKind::AwsSecretsManager => tree(kind, template)?,
            BackendKind::AzureKeyVault | BackendKind::GoogleSecretManager => {
                if separator.is_empty() || separator.len() > 3 || separator.bytes().any(|byte| byte != b'-') {
                    return Err(InvalidMapping::Config("the separator is one to three hyphens"));
                }
                flat(kind, separator, template)?
            }
        };
        if wildcards(&pattern) != shape.wildcards() {
            return Err(InvalidMapping::Config(
                "the template has the pattern's wildcards, each of the same kind and in the same order",
            ));
        }
        let path_prefix = pattern.literal_segments().collect::<Vec<_>>().join("/");
        let listing_prefix = shape.literal_prefix(kind);
        let template = template.to_owned();
        Ok(Self {
            kind,
            separator: separator.to_owned(),
            pattern,
            template,
            shape,
            listing_prefix,
            path_prefix,
        })
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// The template as it was written.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The kind of its backend.
    pub const fn kind(&self) -> BackendKind {
        self.kind
    }

    /// Whether this path is one of the pattern's; it may still have no name.
    pub fn matches(&self, path: &SecretPath) -> bool {
        self.pattern.matches(path)
    }

    /// Whether a path that starts with this text could be one of the pattern's.
    pub fn may_match_below(&self, prefix: &str) -> bool {
        self.pattern.may_match_below(prefix)
    }

    /// The name that this path has at the backend, which leads back to this path.
    ///
    /// # Errors
    /// [`NoName`] in words: to the reader of a secret it is not found.
    pub fn forward(&self, path: &SecretPath) -> Result<String, NoName> {
        let name = self.name_of(path)?;
        if self.path_of(&name).ok().as_ref() == Some(path) { Ok(name) } else { Err(NoName::OtherWay) }
    }

    /// The path whose name at the backend this is. A name of Azure may be spelled in any case.
    ///
    /// # Errors
    /// [`NoPath`]: the name is to be skipped, and counted unless it is another mapping's.
    pub fn back(&self, name: &str) -> Result<SecretPath, NoPath> {
        if name.len() > name_bytes_max(self.kind) {
            return Err(NoPath::Path);
        }
        let name = self.spelled(name);
        let path = self.path_of(&name)?;
        if self.name_of(&path).as_ref() == Ok(&name) { Ok(path) } else { Err(NoPath::OtherWay) }
    }

    /// What to list to see the names: text that each of them starts with, as the backend spells it. At Vault
    /// whole segments without a slash at the end, so it is a folder. For a template without wildcards it is
    /// the name itself.
    pub fn listing_prefix(&self) -> &str {
        &self.listing_prefix
    }

    /// Names that a listing does not show and that are to be asked for one by one: that of a template without
    /// wildcards, and at Vault the secret that is called like the folder that is listed.
    pub fn unlisted_name(&self) -> Option<&str> {
        let is_listed = match &self.shape {
            Shape::Tree(segments) => match segments.split_last() {
                Some((Segment::Rest, head)) => {
                    let is_exact = head.iter().all(|segment| matches!(segment, Segment::Literal(_)));
                    self.kind != BackendKind::HashicorpVault || !is_exact || is_mount(head)
                }
                Some((Segment::Literal(_) | Segment::Glob(_), _)) | None => !self.is_exact(),
            },
            Shape::Flat { .. } => !self.is_exact(),
        };
        (!is_listed).then_some(&self.listing_prefix)
    }

    /// What to list to see the names of those paths that start with this text: as [`Self::listing_prefix`], and
    /// as much narrower as the text allows. It may show others too.
    pub fn listing_prefix_below(&self, prefix: &str) -> String {
        let Some(known) = known_captures(self.pattern.segments(), prefix) else {
            return self.listing_prefix.clone();
        };
        match &self.shape {
            Shape::Tree(segments) => self.tree_prefix(segments, &known),
            Shape::Flat { head, rest } => {
                let plain: Vec<String> =
                    known.whole.iter().map(|capture| capture.replace('/', &self.separator)).collect();
                let (mut name, is_whole) = glob_start(head, &mut plain.iter().map(String::as_str));
                if let (true, Some(joint), Some(start)) = (is_whole, rest, &known.rest) {
                    name.push_str(joint);
                    name.push_str(&start.replace('/', &self.separator));
                }
                name
            }
        }
    }

    /// The start, with a slash at its end, of all paths whose names lie in this folder of Vault or AWS; none when
    /// no path's do, or the store has no folders. Which mapping those paths belong to is not asked.
    pub fn folder_of(&self, folder: &str) -> Option<String> {
        let Shape::Tree(segments) = &self.shape else { return None };
        let start = format!("{folder}/");
        let known = known_captures(segments, &start)?;
        let mut captures = known.whole.iter().copied();
        let mut out: Vec<String> = Vec::new();
        let mut is_path = true;
        for segment in self.pattern.segments() {
            let (text, is_whole) = match segment {
                Segment::Literal(text) => (text.clone(), true),
                Segment::Glob(glob) => glob_start(glob, &mut captures),
                Segment::Rest => {
                    out.extend(known.rest.iter().map(|rest| rest.trim_end_matches('/').to_owned()));
                    (String::new(), false)
                }
            };
            if !is_whole {
                is_path = false;
                break;
            }
            out.push(text);
        }
        if is_path {
            // All of it is known, so this is the path, and its folder is what is asked for.
            out.pop();
        }
        out.retain(|segment| !segment.is_empty());
        let path: SecretPath = out.join("/").parse().ok()?;
        Some(format!("{path}/"))
    }

    fn tree_prefix(&self, segments: &[Segment], known: &Known<'_>) -> String {
        let is_text = self.kind == BackendKind::AwsSecretsManager;
        let mut captures = known.whole.iter().copied();
        let mut out = String::new();
        for (place, segment) in segments.iter().enumerate() {
            let (text, is_whole) = match segment {
                Segment::Literal(text) => (text.clone(), true),
                Segment::Glob(glob) => glob_start(glob, &mut captures),
                Segment::Rest => match &known.rest {
                    Some(start) => (start.clone(), false),
                    None => return out,
                },
            };
            // A folder ends with a whole segment, a text anywhere.
            let text = match text.rsplit_once('/') {
                _ if is_whole || is_text => text.as_str(),
                Some((folder, _)) => folder,
                None => return out,
            };
            if place > 0 {
                out.push('/');
            }
            out.push_str(text);
            if !is_whole {
                return out;
            }
        }
        out
    }

    /// Whether there are no wildcards: one path, one name, nothing to list.
    pub fn is_exact(&self) -> bool {
        self.pattern.literal_segments().count() == self.pattern.segments().len()
    }

    /// The pattern's segments before its first wildcard: every path that matches begins with them.
    pub fn path_prefix(&self) -> &str {
        &self.path_prefix
    }

    pub(super) const fn path_pattern(&self) -> &PathPattern {
        &self.pattern
    }

    /// The template as one text with wildcards, with and without anything for `**`: to look for names that two
    /// templates share. It says more than the template does, so what is found has to be tried.
    pub(super) fn globs(&self) -> Vec<Glob> {
        match &self.shape {
            Shape::Flat { head, rest: None } => vec![head.clone()],
            Shape::Flat { head, rest: Some(joint) } => {
                let tail = joint.bytes().map(Token::Byte).chain([Token::Any]);
                vec![Glob(head.0.iter().copied().chain(tail).collect()), head.clone()]
            }
            Shape::Tree(_) => match self.template.strip_suffix("**") {
                None => vec![Glob::parse(&self.template)],
                Some(head) => {
                    vec![Glob::parse(&format!("{head}*")), Glob::parse(head.trim_end_matches('/'))]
                }
            },
        }
    }

    /// The template as names are matched with it: two that are equal lead every name back twice.
    fn has_template_of(&self, other: &Self) -> bool {
        self.shape == other.shape
    }

    /// The name, without trying the way back.
    fn name_of(&self, path: &SecretPath) -> Result<String, NoName> {
        let captures = segment_captures(self.pattern.segments(), path.as_str()).ok_or(NoName::OtherPath)?;
        let name = match &self.shape {
            Shape::Tree(segments) => {
                if self.kind == BackendKind::HashicorpVault
                    && let Some((Segment::Rest, head)) = segments.split_last()
                    && captures.last() == Some(&"")
                    && is_mount(head)
                {
                    return Err(NoName::Nothing);
                }
                fill_segments(segments, &captures)
            }
            Shape::Flat { head, rest } => {
                let plain: Vec<String> =
                    captures.iter().map(|capture| capture.replace('/', &self.separator)).collect();
                let mut plain = plain.iter().map(String::as_str);
                let mut name = fill_glob(head, &mut plain);
                match (rest, plain.next()) {
                    (Some(joint), Some(rest)) if !rest.is_empty() => {
                        name.push_str(joint);
                        name.push_str(rest);
                    }
                    (Some(_) | None, Some(_) | None) => {}
                }
                name
            }
        };
        check_name(self.kind, &name)?;
        Ok(name)
    }

    /// The path, without trying the way back.
    fn path_of(&self, name: &str) -> Result<SecretPath, NoPath> {
        let captures: Vec<String> = match &self.shape {
            Shape::Tree(segments) => segment_captures(segments, name)
                .ok_or(NoPath::OtherName)?
                .into_iter()
                .map(str::to_owned)
                .collect(),
            Shape::Flat { head, rest } => flat_captures(head, rest.as_deref(), name)
                .ok_or(NoPath::OtherName)?
                .into_iter()
                .map(|capture| capture.replace(&self.separator, "/"))
                .collect(),
        };
        let captures: Captures<'_> = captures.iter().map(String::as_str).collect();
        fill_segments(self.pattern.segments(), &captures).parse().map_err(|_| NoPath::Path)
    }

    /// The one spelling of a name.
    fn spelled(&self, name: &str) -> String {
        match self.kind {
            BackendKind::AzureKeyVault => name.to_ascii_lowercase(),
            BackendKind::HashicorpVault
            | BackendKind::AwsSecretsManager
            | BackendKind::GoogleSecretManager => name.to_owned(),
        }
    }
}

/// Compiles all mappings of one backend, in the order of their patterns.
///
/// # Errors
/// The first that is refused; also none at all, more than 256, and two with one template, whose names would
/// have two ways back.
pub fn compile_all(
    kind: BackendKind,
    separator: &str,
    path_mapping: &BTreeMap<String, String>,
) -> Result<Vec<Mapping>, InvalidMapping> {
    if path_mapping.is_empty() || path_mapping.len() > limits::MAPPINGS_MAX {
        return Err(InvalidMapping::Config("path_mapping has 1 to 256 entries"));
    }
    let mut mappings: Vec<Mapping> = Vec::with_capacity(path_mapping.len());
    for (pattern, template) in path_mapping {
        let mapping = Mapping::compile(kind, separator, pattern, template)?;
        if mappings.iter().any(|other| other.has_template_of(&mapping)) {
            return Err(InvalidMapping::Config(
                "two patterns have the same template: a name would have two ways back",
            ));
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

/// What mappings ask of a pattern beyond the grammar: the way back needs one `**` at most, at the end.
fn parse_pattern(text: &str) -> Result<PathPattern, InvalidGlob> {
    let pattern: PathPattern = text.parse()?;
    let segments = pattern.segments();
    if !matches!(segments.first(), Some(Segment::Literal(_))) {
        return Err(InvalidGlob::First);
    }
    let head = segments.split_last().map_or(&[][..], |(_, head)| head);
    if head.iter().any(|segment| matches!(segment, Segment::Rest)) {
        return Err(InvalidGlob::NotLast);
    }
    Ok(pattern)
}

/// The form of every template, whatever the backend.
fn check_template(text: &str) -> Result<(), InvalidGlob> {
    if text.chars().any(|letter| letter.is_control() || matches!(letter, '[' | ']' | '{' | '}' | '!' | '\\'))
    {
        return Err(InvalidGlob::Character);
    }
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(InvalidGlob::Segment);
    }
    match text.find("**") {
        Some(place) if text[place + 2..].starts_with('*') => Err(InvalidGlob::Glued),
        Some(place) if place + 2 != text.len() => Err(InvalidGlob::NotLast),
        Some(_) | None => Ok(()),
    }
}

/// The wildcards in order, by how they are written.
fn wildcards(pattern: &PathPattern) -> Vec<Wildcard> {
    pattern.segments().iter().flat_map(segment_wildcards).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    One,
    Any,
    Rest,
}

fn segment_wildcards(segment: &Segment) -> Vec<Wildcard> {
    match segment {
        Segment::Literal(_) => Vec::new(),
        Segment::Glob(glob) => glob_wildcards(glob),
        Segment::Rest => vec![Wildcard::Rest],
    }
}

fn glob_wildcards(glob: &Glob) -> Vec<Wildcard> {
    glob.0
        .iter()
        .filter_map(|token| match token {
            Token::Byte(_) => None,
            Token::One => Some(Wildcard::One),
            Token::Any => Some(Wildcard::Any),
        })
        .collect()
}

impl Shape {
    fn wildcards(&self) -> Vec<Wildcard> {
        match self {
            Self::Tree(segments) => segments.iter().flat_map(segment_wildcards).collect(),
            Self::Flat { head, rest } => {
                let rest = rest.iter().map(|_| Wildcard::Rest);
                glob_wildcards(head).into_iter().chain(rest).collect()
            }
        }
    }

    fn literal_prefix(&self, kind: BackendKind) -> String {
        let segments = match self {
            Self::Flat { head, .. } => return literal_start(head),
            Self::Tree(segments) => segments,
        };
        let mut prefix = String::new();
        for (place, segment) in segments.iter().enumerate() {
            let start = match segment {
                Segment::Literal(text) => text.clone(),
                Segment::Glob(glob) if kind == BackendKind::AwsSecretsManager => literal_start(glob),
                Segment::Glob(_) | Segment::Rest => break,
            };
            if place > 0 {
                prefix.push('/');
            }
            prefix.push_str(&start);
            if matches!(segment, Segment::Glob(_)) {
                break;
            }
        }
        prefix
    }
}

/// The bytes before the first wildcard, as far as they are whole characters.
fn literal_start(glob: &Glob) -> String {
    let bytes: Vec<u8> = glob
        .0
        .iter()
        .map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Any => None,
        })
        .collect();
    String::from_utf8(bytes).unwrap_or_default()
}

/// A template of Vault or AWS.
fn tree(kind: BackendKind, template: &str) -> Result<Shape, InvalidMapping> {
    let segments = template
        .split('/')
        .map(Segment::parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| InvalidMapping::Glob(Side::Template, error))?;
    let literal: String = template.chars().filter(|letter| !matches!(letter, '*' | '?')).collect();
    match kind {
        BackendKind::AwsSecretsManager => check_literal(kind, &literal)?,
        // Vault takes any text, and whatever it is, only below one mount: elsewhere begins its own interface.
        BackendKind::HashicorpVault | BackendKind::AzureKeyVault | BackendKind::GoogleSecretManager => {
            match segments.first() {
                Some(Segment::Literal(mount)) if matches!(mount.as_str(), "sys" | "auth" | "identity") => {
                    return Err(InvalidMapping::Config(
                        "the template begins with a part of Vault that holds no secrets",
                    ));
                }
                Some(Segment::Literal(_)) if segments.len() > 1 => {}
                Some(Segment::Literal(_) | Segment::Glob(_) | Segment::Rest) | None => {
                    return Err(InvalidMapping::Config(
                        "the template begins with the mount, without wildcards, and names secrets in it",
                    ));
                }
            }
        }
    }
    Ok(Shape::Tree(segments))
}

/// A template of Azure or Google: slashes are written as names have them.
fn flat(kind: BackendKind, separator: &str, template: &str) -> Result<Shape, InvalidMapping> {
    let mut text = template.replace('/', separator);
    if kind == BackendKind::AzureKeyVault {
        text.make_ascii_lowercase();
    }
    let (head, rest) = match text.strip_suffix("**") {
        None => (text.as_str(), None),
        Some("") => ("", Some(String::new())),
        Some(head) => match head.strip_suffix(separator) {
            Some(head) => (head, Some(separator.to_owned())),
            None => return Err(InvalidMapping::Glob(Side::Template, InvalidGlob::Glued)),
        },
    };
    let literal: String = text.chars().filter(|letter| !matches!(letter, '*' | '?')).collect();
    check_literal(kind, &literal)?;
    Ok(Shape::Flat { head: Glob::parse(head), rest })
}

/// What of a template is there whatever the wildcards stand for.
fn check_literal(kind: BackendKind, literal: &str) -> Result<(), InvalidMapping> {
    if literal.len() > name_bytes_max(kind) {
        return Err(InvalidMapping::Config("the template is longer than a name of this backend can be"));
    }
    if !literal.chars().all(|letter| may_hold(kind, letter)) {
        return Err(InvalidMapping::Config(
            "the template holds a character that names of this backend cannot",
        ));
    }
    Ok(())
}

const fn name_bytes_max(kind: BackendKind) -> usize {
    match kind {
        BackendKind::HashicorpVault => limits::REMOTE_NAME_BYTES_MAX,
        BackendKind::AwsSecretsManager => limits::AWS_NAME_BYTES_MAX,
        BackendKind::AzureKeyVault => limits::AZURE_NAME_BYTES_MAX,
        BackendKind::GoogleSecretManager => limits::GOOGLE_NAME_BYTES_MAX,
    }
}

const fn may_hold(kind: BackendKind, letter: char) -> bool {
    match kind {
        BackendKind::HashicorpVault => !letter.is_ascii_control(),
        BackendKind::AwsSecretsManager => {
            letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_' | '+' | '=' | '.' | '@' | '-')
        }
        BackendKind::AzureKeyVault => letter.is_ascii_alphanumeric() || letter == '-',
        BackendKind::GoogleSecretManager => letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'),
    }
}

/// Whether a name can be one of the backend's.
fn check_name(kind: BackendKind, name: &str) -> Result<(), NoName> {
    if name.is_empty() {
        return Err(NoName::Nothing);
    }
    if name.len() > name_bytes_max(kind) {
        return Err(NoName::Length);
    }
    if !name.chars().all(|letter| may_hold(kind, letter)) {
        return Err(NoName::Character);
    }
    match kind {
        BackendKind::AzureKeyVault if name.bytes().any(|byte| byte.is_ascii_uppercase()) => Err(NoName::Case),
        // A wildcard beside text can make a segment that no path has, and `..` would leave the mount.
        BackendKind::HashicorpVault | BackendKind::AwsSecretsManager
            if name.split('/').any(|segment| matches!(segment, "" | "." | "..")) =>
        {
            Err(NoName::Segment)
        }
        BackendKind::HashicorpVault
        | BackendKind::AwsSecretsManager
        | BackendKind::AzureKeyVault
        | BackendKind::GoogleSecretManager => Ok(()),
    }
}

/// Whether this is, as far as the template tells, a mount of Vault and not a place in one.
fn is_mount(head: &[Segment]) -> bool {
    match head {
        [] | [_] => true,
        [.., Segment::Literal(last)] => last == "data",
        [.., Segment::Glob(_) | Segment::Rest] => false,
    }
}

/// What the wildcards of these segments stand for in this text.
fn segment_captures<'a>(segments: &[Segment], text: &'a str) -> Option<Captures<'a>> {
    let mut captures = Vec::new();
    let mut rest = Some(text);
    for segment in segments {
        let (own, below) = match (segment, rest) {
            (Segment::Rest, rest) => {
                captures.push(rest.unwrap_or_default());
                return Some(captures);
            }
            (Segment::Literal(_) | Segment::Glob(_), None) => return None,
            (Segment::Literal(_) | Segment::Glob(_), Some(rest)) => {
                rest.split_once('/').map_or((rest, None), |(own, below)| (own, Some(below)))
            }
        };
        match segment {
            Segment::Literal(literal) if literal != own => return None,
            Segment::Literal(_) | Segment::Rest => {}
            Segment::Glob(glob) => captures.extend(texts(own, glob.captures(own.as_bytes())?)?),
        }
        rest = below;
    }
    rest.is_none().then_some(captures)
}

/// What is known of the wildcards when only the start of a text is.
struct Known<'a> {
    /// Those whose segment is there in full.
    whole: Captures<'a>,
    /// What begins the segments of `**`, when the text goes on past the slash before them.
    rest: Option<String>,
}

/// What the wildcards of these segments stand for in every text that starts so; none when none matches.
fn known_captures<'a>(segments: &[Segment], start: &'a str) -> Option<Known<'a>> {
    let (whole, part) = start.rsplit_once('/').map_or((None, start), |(whole, part)| (Some(whole), part));
    let mut texts = whole.into_iter().flat_map(|whole| whole.split('/'));
    let mut known = Known { whole: Vec::new(), rest: None };
    for segment in segments {
        match segment {
            Segment::Rest => {
                let below: String = texts.by_ref().flat_map(|text| [text, "/"]).collect();
                known.rest = Some(below + part);
            }
            Segment::Literal(literal) => match texts.next() {
                Some(text) if text != literal => return None,
                Some(_) => {}
                None => return Some(known),
            },
            Segment::Glob(glob) => match texts.next() {
                Some(text) => known.whole.extend(self::texts(text, glob.captures(text.as_bytes())?)?),
                None => return Some(known),
            },
        }
    }
    // Past its end, only `**` has something.
    known.rest.is_some().then_some(known)
}

/// What the wildcards of a flat template stand for in this name; for `**` rather something than nothing.
fn flat_captures<'a>(head: &Glob, rest: Option<&str>, name: &'a str) -> Option<Captures<'a>> {
    let Some(joint) = rest else { return texts(name, head.captures(name.as_bytes())?) };
    let tail = joint.bytes().map(Token::Byte).chain([Token::Any]);
    let whole = Glob(head.0.iter().copied().chain(tail).collect());
    match whole.captures(name.as_bytes()) {
        Some(spans) if spans.last().is_some_and(|span| !span.is_empty()) => texts(name, spans),
        Some(_) | None => {
            let mut captures = texts(name, head.captures(name.as_bytes())?)?;
            captures.push("");
            Some(captures)
        }
    }
}

/// The texts of these spans; none when one ends within a character.
fn texts(text: &str, spans: Vec<Range<usize>>) -> Option<Captures<'_>> {
    spans.into_iter().map(|span| text.get(span)).collect()
}

/// The segments with the wildcards replaced, as far as there is something for them.
fn fill_segments(segments: &[Segment], captures: &[&str]) -> String {
    let mut captures = captures.iter().copied();
    let mut out = String::new();
    for (place, segment) in segments.iter().enumerate() {
        let text = match segment {
            Segment::Literal(text) => text.clone(),
            Segment::Glob(glob) => fill_glob(glob, &mut captures),
            Segment::Rest => match captures.next() {
                // With no segments at all, the slash before them goes too.
                Some("") | None => break,
                Some(rest) => rest.to_owned(),
            },
        };
        if place > 0 {
            out.push('/');
        }
        out.push_str(&text);
    }
    out
}

/// The text up to the first wildcard that there is nothing for, and whether there is something for all.
fn glob_start<'a>(glob: &Glob, captures: &mut impl Iterator<Item = &'a str>) -> (String, bool) {
    let mut out = Vec::with_capacity(glob.0.len());
    let mut is_whole = true;
    for token in &glob.0 {
        match token {
            Token::Byte(byte) => out.push(*byte),
            Token::One | Token::Any => match captures.next() {
                Some(capture) => out.extend_from_slice(capture.as_bytes()),
                None => {
                    is_whole = false;
                    break;
                }
            },
        }
    }
    (String::from_utf8(out).unwrap_or_default(), is_whole)
}

fn fill_glob<'a>(glob: &Glob, captures: &mut impl Iterator<Item = &'a str>) -> String {
    let mut out = Vec::with_capacity(glob.0.len());
    for token in &glob.0 {
        match token {
            Token::Byte(byte) => out.push(*byte),
            Token::One | Token::Any => out.extend_from_slice(captures.next().unwrap_or_default().as_bytes()),
        }
    }
    // A template is text, and so is each capture.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;

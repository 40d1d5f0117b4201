//! Policies, who should hold them, and how far each site got.
//!
//! A policy's row belongs to the coordinator, an assignment to its site's actor. The field order is a stored
//! layout: fields are only added with a new version of the table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::RolloutId;
use crate::limits::policy as limits;
use crate::site::{InvalidSite, optional_text, required_text};
use crate::{SiteId, Timestamp};

/// A policy (contract B4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Chooses the connector at the site; any text, not blank.
    pub policy_type: String,
    /// Unique within its type, inactive ones included.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// A JSON object as text, the keys of every object sorted, no spaces.
    pub definition: String,
    /// From one; rises by one with every real change.
    pub version: u32,
    /// Deactivated policies are withdrawn from their sites and never come back.
    pub is_active: bool,
    /// Nothing of the present version goes to a site before a push or a rollout releases it there (ours).
    pub held: bool,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When an operator last changed it.
    pub updated_at: Timestamp,
}

/// How far a push of a policy to a site is (contract B4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushStatus {
    /// Never sent, or due again.
    Pending,
    /// The site has stored the version of `pushed_version`.
    Pushed,
    /// The site has said that this version is in force there.
    Acknowledged,
    /// The last try failed; the next one waits its time.
    Error,
    /// Refused for good too often; assign, push or repush revive it.
    Dead,
}

impl PushStatus {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pushed => "pushed",
            Self::Acknowledged => "acknowledged",
            Self::Error => "error",
            Self::Dead => "dead",
        }
    }
}

/// What a site should hold of a policy, and what it said (contract B4 and ours).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// When it was last assigned.
    pub assigned_at: Timestamp,
    /// Who assigned it.
    pub assigned_by: String,
    /// It was unassigned then: the row goes once the site has taken the withdrawal.
    pub unassigned_at: Option<Timestamp>,
    /// Rises with every reset, so that an answer to an earlier push settles nothing.
    pub round: u32,
    /// The version up to which a held policy was released to this site; zero for none.
    pub released_version: u32,
    /// See [`PushStatus`].
    pub push_status: PushStatus,
    /// When a push was last tried.
    pub last_push_attempt_at: Option<Timestamp>,
    /// Why the last push failed.
    pub last_push_error: Option<String>,
    /// The version that the site has stored.
    pub pushed_version: Option<u32>,
    /// Tries that failed since the last success or reset.
    pub push_attempts: u32,
    /// Those of them that the site refused for good; it is dead at the limit.
    pub refusals: u32,
    /// The last try was one of a withdrawal.
    pub withdrawing: bool,
    /// The site has taken the withdrawal of a deactivated policy.
    pub withdrawn_at: Option<Timestamp>,
    /// The version that is in force at the site, as it said.
    pub applied_version: Option<u32>,
    /// When that version came in force, by the site's clock.
    pub applied_at: Option<Timestamp>,
    /// The version that the site last tried to apply.
    pub tried_version: Option<u32>,
    /// Why that version is not in force; none when it is.
    pub apply_error: Option<String>,
}

/// What an operator gives for a new policy.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPolicy {
    /// Not blank; trimmed.
    pub policy_type: String,
    /// Not blank; trimmed.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// A JSON object.
    pub definition: Value,
}

/// A change of a policy: absent keeps, null clears.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyPatch {
    /// New name.
    pub name: Option<String>,
    /// New text.
    pub description: crate::host::Patch<String>,
    /// New definition.
    pub definition: Option<Value>,
}

/// A value that no policy may have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A text breaks a bound.
    #[error(transparent)]
    Text(#[from] InvalidSite),
    /// The definition is another kind of JSON.
    #[error("definition must be a JSON object")]
    NotAnObject,
    /// The definition is too large.
    #[error("definition may have at most {} bytes", limits::DEFINITION_BYTES_MAX)]
    DefinitionTooLarge,
}

/// Checks a policy's type.
///
/// # Errors
/// See [`InvalidPolicy`].
pub fn policy_type(text: &str) -> Result<String, InvalidPolicy> {
    Ok(required_text("policy_type", text, limits::TYPE_BYTES_MAX)?)
}

/// Checks a policy's name.
///
/// # Errors
/// See [`InvalidPolicy`].
pub fn policy_name(text: &str) -> Result<String, InvalidPolicy> {
    Ok(required_text("name", text, limits::NAME_BYTES_MAX)?)
}

/// Checks a policy's description; it may have several lines.
///
/// # Errors
/// See [`InvalidPolicy`].
pub fn description(text: Option<&str>) -> Result<Option<String>, InvalidPolicy> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    // The lines are checked as one text without their ends.
    optional_text(
        "description",
        Some(&text.replace(['\n', '\r', '\t'], " ")),
        limits::DESCRIPTION_BYTES_MAX,
    )?;
    Ok(Some(text.to_owned()))
}

/// A definition as text: an object, keys sorted at every depth, no spaces. Two definitions are the same
/// exactly when their texts are.
///
/// # Errors
/// See [`InvalidPolicy`].
pub fn canonical_definition(definition: &Value) -> Result<String, InvalidPolicy> {
    if !definition.is_object() {
        return Err(InvalidPolicy::NotAnObject);
    }
    let mut text = String::new();
    write_canonical(&mut text, definition);
    if text.len() > limits::DEFINITION_BYTES_MAX {
        return Err(InvalidPolicy::DefinitionTooLarge);
    }
    Ok(text)
}

/// Does not rely on the map's own order, which depends on features of the JSON library.
fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
        Value::Array(values) => {
            text.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write_canonical(text, value);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(text, value);
            }
            text.push('}');
        }
    }
}

/// What a wave of a rollout waits for before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WaitFor {
    /// Each site says that the version is in force.
    #[default]
    Acknowledged,
    /// Each site has stored the version: for sites that never say what they applied.
    Pushed,
}

impl WaitFor {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Pushed => "pushed",
        }
    }
}

/// The life of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutState {
    /// Waves go out.
    Running,
    /// It waits for a person: sites failed, or did not answer in time.
    Halted,
    /// Every site was told.
    Completed,
    /// An operator gave it up; the sites of later waves keep what they have.
    Aborted,
}

impl RolloutState {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Halted => "halted",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    /// Whether nothing will happen any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Aborted)
    }
}

/// One version of a policy on its way through the sites, wave by wave (ours).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Ours, version 7.
    pub id: RolloutId,
    /// The policy's version that goes out.
    pub version: u32,
    /// The sites, wave by wave; fixed at the start.
    pub waves: Vec<Vec<SiteId>>,
    /// The wave that is out now, from zero.
    pub wave: u32,
    /// See [`RolloutState`].
    pub state: RolloutState,
    /// Why it halted.
    pub reason: Option<String>,
    /// Failed sites at which it halts.
    pub halt_on_errors: u32,
    /// Seconds that a wave may take.
    pub wave_timeout_seconds: u32,
    /// See [`WaitFor`].
    pub wait_for: WaitFor,
    /// Who started it.
    pub started_by: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When the present wave went out, or was resumed.
    pub wave_started_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

/// The size of one wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveSize {
    /// So many sites.
    Sites(u32),
    /// This share of all sites of the rollout, rounded up.
    Percent(u8),
}

/// A text that is no size of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the size of a wave: give a number of sites such as 5, or a share such as 25%")]
pub struct InvalidWaveSize;

impl FromStr for WaveSize {
    type Err = InvalidWaveSize;

    fn from_str(text: &str) -> Result<Self, InvalidWaveSize> {
        match text.strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(InvalidWaveSize),
            },
            None => match text.parse() {
                Ok(sites) if sites > 0 => Ok(Self::Sites(sites)),
                _ => Err(InvalidWaveSize),
            },
        }
    }
}

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sites(sites) => write!(f, "{sites}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn key_order_alone_is_no_other_definition() {
        let one: Value = serde_json::from_str(r#"{"b":{"y":1,"x":[{"q":1,"p":2}]},"a":null}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{ "a":null, "b":{"x":[{"p":2,"q":1}],"y":1} }"#).unwrap();

        let text = canonical_definition(&one).unwrap();

        assert_eq!(text, r#"{"a":null,"b":{"x":[{"p":2,"q":1}],"y":1}}"#);
        assert_eq!(canonical_definition(&other), Ok(text));
    }

    #[test]
    fn only_objects_of_bounded_size_are_definitions() {
        for other in [json!([]), json!("x"), json!(7), json!(null)] {
            assert_eq!(canonical_definition(&other), Err(InvalidPolicy::NotAnObject));
        }
        let large = json!({ "x": "y".repeat(limits::DEFINITION_BYTES_MAX) });
        assert_eq!(canonical_definition(&large), Err(InvalidPolicy::DefinitionTooLarge));
    }

    #[test]
    fn description_may_have_lines_and_blank_is_none() {
        assert_eq!(description(Some(" a\nb\t ")), Ok(Some("a\nb".to_owned())));
        assert_eq!(description(Some(" \n ")), Ok(None));
        assert!(description(Some("a\u{7}b")).is_err());
        assert!(description(Some(&"x".repeat(limits::DESCRIPTION_BYTES_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_to_itself(names in prop::collection::vec("[a-c\"\\\\é]{0,3}", 0..6), depth in 0..3) {
            let mut value = json!({ "leaf": 1.5 });
            for _ in 0..depth {
                value = Value::Object(names.iter().map(|name| (name.clone(), value.clone())).collect());
            }
            if let Ok(text) = canonical_definition(&value) {
                let read: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(canonical_definition(&read), Ok(text));
                prop_assert_eq!(read, value);
            }
        }

        #[test]
        fn wave_size_reads_back_from_its_text(sites in 1_u32.., percent in 1_u8..=100) {
            for size in [WaveSize::Sites(sites), WaveSize::Percent(percent)] {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }
    }

    #[test]
    fn no_size_of_a_wave_is_empty_or_above_the_whole() {
        for text in ["0", "0%", "101%", "-1", "", "%", "1.5", "all"] {
            assert_eq!(text.parse::<WaveSize>(), Err(InvalidWaveSize), "{text}");
        }
    }
}

//! Changes of secrets, as audit entries hold them and as events tell them (contract C.4).

use std::collections::BTreeMap;

use crate::audit::{AuditDraft, Detail};

/// What became of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none, or none any more.
    Created,
    /// It has another version.
    Updated,
    /// It is read no more.
    Deleted,
}

impl Change {
    /// That of a version that was stored.
    pub const fn stored(is_new: bool) -> Self {
        if is_new { Self::Created } else { Self::Updated }
    }

    /// As the detail `change` of an audit entry has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }

    /// The event's kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Created => "secret.created",
            Self::Updated => "secret.updated",
            Self::Deleted => "secret.deleted",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Created, Self::Updated, Self::Deleted].into_iter().find(|change| change.as_str() == text)
    }
}

/// The entries that change secrets. Refused writes have no detail `change`.
const OPERATIONS: [&str; 3] = ["secret_write", "secret_delete", "secret_copied"];

/// The event of a changed secret: its kind and its details. None for other entries, which are told as they are.
pub(crate) fn told(entry: &AuditDraft) -> Option<(&'static str, BTreeMap<String, Detail>)> {
    if !OPERATIONS.contains(&entry.operation.as_str()) {
        return None;
    }
    let change = match entry.details.get("change") {
        Some(Detail::Text(change)) => Change::parse(change)?,
        Some(_) | None => return None,
    };
    let names =
        [("tenant", "tenant"), ("secret_path", "path"), ("version", "version"), ("backend_id", "backend_id")];
    let mut details: BTreeMap<String, Detail> = names
        .into_iter()
        .filter_map(|(kept, told)| Some((told.to_owned(), entry.details.get(kept)?.clone())))
        .collect();
    if let Some(identity) = &entry.actor_userid {
        details.insert("identity".to_owned(), identity.as_str().into());
    }
    // Nothing here rotates secrets by itself.
    details.insert("is_rotation".to_owned(), Detail::Bool(false));
    Some((change.kind(), details))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::EventDraft;
    use crate::{AuditId, Timestamp};

    fn entry(operation: &str, details: &[(&str, Detail)]) -> AuditDraft {
        AuditDraft {
            id: AuditId(Uuid::from_u128(7)),
            created_at: Timestamp::from_secs(5),
            operation: operation.to_owned(),
            actor_userid: Some("anna".to_owned()),
            target_site_id: None,
            target_site_name: None,
            target_host_id: None,
            details: details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    #[test]
    fn changed_secret_is_told_by_path_tenant_version_and_identity_alone() {
        let written = entry(
            "secret_write",
            &[
                ("change", "updated".into()),
                ("tenant", "default".into()),
                ("secret_path", "app/db".into()),
                ("version", Detail::Int(2)),
                ("user_agent", "curl".into()),
            ],
        );

        let event = EventDraft::from(&written);

        assert_eq!(event.kind, "secret.updated");
        assert_eq!(event.audit_entry, Some(written.id));
        let expected: BTreeMap<String, Detail> = [
            ("identity", Detail::from("anna")),
            ("is_rotation", Detail::Bool(false)),
            ("path", "app/db".into()),
            ("tenant", "default".into()),
            ("version", Detail::Int(2)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(event.details, expected);
    }

    #[test]
    fn other_entries_are_told_as_they_are() {
        for entry in [entry("secret_write", &[]), entry("federation_sync", &[("change", "updated".into())])] {
            let event = EventDraft::from(&entry);

            assert_eq!((event.kind, event.details), (entry.operation, entry.details));
        }
    }
}

//! Which engine stands behind a name, and of which version (contract D.6).

use std::sync::PoisonError;

use serde::Deserialize;

use hansa_model::limits::secrets as limits;
use hansa_model::secrets::backend::KvVersion;

use super::{Asked, Envelope, Vault, inner, parse};
use crate::driver::CallError;

/// A name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) mount: String,
    pub(super) kv: KvVersion,
    /// Below the mount, without the API's `data`; empty for the mount itself.
    pub(super) path: String,
}

impl Place {
    pub(super) fn mount(&self) -> String {
        self.mount.clone()
    }

    pub(super) fn path(&self) -> String {
        self.path.clone()
    }

    /// Where values of version 2 are.
    pub(super) fn data_path(&self) -> String {
        format!("{}/data/{}", self.mount, self.path)
    }
}

/// The mounts that have been asked for.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<(String, KvVersion)>);

impl Mounts {
    /// The longest mount that holds this name.
    fn holding(&self, name: &str) -> Option<(String, KvVersion)> {
        let holds = |mount: &str| {
            name.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().filter(|(mount, _)| holds(mount)).max_by_key(|(mount, _)| mount.len()).cloned()
    }

    fn remember(&mut self, mount: String, kv: KvVersion) {
        // Configurations name few mounts; names that a mapping makes up cannot fill the memory.
        if self.0.len() < limits::MAPPINGS_MAX && !self.0.iter().any(|(known, _)| *known == mount) {
            self.0.push((mount, kv));
        }
    }
}

#[derive(Deserialize)]
struct Mount {
    path: String,
    #[serde(default)]
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    version: Option<String>,
}

/// Takes a name apart; asks the store once a mount.
pub(super) async fn place(vault: &Vault, name: &str) -> Result<Place, CallError> {
    if name.split('/').any(|segment| matches!(segment, "" | "." | ".."))
        || name.len() > limits::REMOTE_NAME_BYTES_MAX
        || name.chars().any(char::is_control)
    {
        return Err(CallError::Name);
    }
    if let Some(kv) = vault.kv_version {
        return guess(name, Some(kv));
    }
    let known = vault.mounts.lock().unwrap_or_else(PoisonError::into_inner).holding(name);
    if let Some((mount, kv)) = known {
        return within(name, mount, kv);
    }
    let found = match ask(vault, name).await? {
        Some((mount, kv)) => within(name, mount, kv)?,
        None => guess(name, None)?,
    };
    vault.mounts.lock().unwrap_or_else(PoisonError::into_inner).remember(found.mount.clone(), found.kv);
    Ok(found)
}

/// The store's own word; none where it keeps that to itself.
async fn ask(vault: &Vault, name: &str) -> Result<Option<(String, KvVersion)>, CallError> {
    let answer =
        vault.call(|| Asked::get(format!("sys/internal/ui/mounts/{name}")), limits::ANSWER_BYTES_MAX).await?;
    if matches!(answer.status, 400 | 403 | 404 | 405) {
        return Ok(None);
    }
    vault.wire.judge(&answer)?;
    let envelope: Envelope<'_> = parse(&answer)?;
    let Some(mount) = inner::<Mount>(envelope.data)? else { return Ok(None) };
    let path = mount.path.trim_end_matches('/').to_owned();
    let is_above = name.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if path.is_empty() || !is_above {
        return Err(CallError::BadAnswer { reason: "it names a mount that was not asked for" });
    }
    let version = mount.options.and_then(|options| options.version);
    let kv = if version.as_deref() == Some("2") { KvVersion::Two } else { KvVersion::One };
    Ok(Some((path, kv)))
}

/// The rest of a name below its mount.
fn within(name: &str, mount: String, kv: KvVersion) -> Result<Place, CallError> {
    let rest = name.get(mount.len()..).unwrap_or_default().trim_start_matches('/');
    let path = match kv {
        KvVersion::One => rest.to_owned(),
        // Without `data` a version 2 answers 404 whatever there is: such a template is wrong.
        KvVersion::Two => match rest.strip_prefix("data") {
            Some(path) if path.is_empty() || path.starts_with('/') => path.trim_start_matches('/').to_owned(),
            Some(_) | None => return Err(CallError::Name),
        },
    };
    Ok(Place { mount, kv, path })
}

/// By the segment `data` in second or a later place, which only version 2 has.
fn guess(name: &str, kv: Option<KvVersion>) -> Result<Place, CallError> {
    let data = name.find("/data/").or_else(|| name.strip_suffix("/data").map(str::len));
    match (kv, data) {
        (Some(KvVersion::Two), None) => Err(CallError::Name),
        (Some(KvVersion::Two) | None, Some(end)) => {
            within(name, name.get(..end).unwrap_or_default().to_owned(), KvVersion::Two)
        }
        (Some(KvVersion::One), _) | (None, None) => {
            let mount = name.split('/').next().unwrap_or_default().to_owned();
            within(name, mount, KvVersion::One)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_in_a_later_place_means_version_two() {
        let place = |name: &str, kv| guess(name, kv).map(|place| (place.mount, place.kv, place.path));

        for (name, kv, expected) in [
            ("secret/data/app/db", None, Ok(("secret", KvVersion::Two, "app/db"))),
            ("team/kv/data/app", None, Ok(("team/kv", KvVersion::Two, "app"))),
            ("secret/data", None, Ok(("secret", KvVersion::Two, ""))),
            ("data/app", None, Ok(("data", KvVersion::One, "app"))),
            ("kv1/app/db", None, Ok(("kv1", KvVersion::One, "app/db"))),
            ("kv1/data/db", Some(KvVersion::One), Ok(("kv1", KvVersion::One, "data/db"))),
            ("secret/app", Some(KvVersion::Two), Err(CallError::Name)),
        ] {
            let expected = expected.map(|(mount, kv, path)| (mount.to_owned(), kv, path.to_owned()));
            assert_eq!(place(name, kv), expected, "{name}");
        }
    }

    #[test]
    fn longest_mount_holds_a_name() {
        let mut mounts = Mounts::default();
        mounts.remember("team".to_owned(), KvVersion::One);
        mounts.remember("team/kv".to_owned(), KvVersion::Two);

        assert_eq!(mounts.holding("team/kv/data/a"), Some(("team/kv".to_owned(), KvVersion::Two)));
        assert_eq!(mounts.holding("team/other"), Some(("team".to_owned(), KvVersion::One)));
        assert_eq!(mounts.holding("teams/a"), None);
    }
}

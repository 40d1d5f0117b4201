//! What a development folder was made with, and where its nodes listen: `dev.toml`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::failure::{Exit, Failure};

const FILE: &str = "dev.toml";

/// The ports of one node; zero takes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) quic: u16,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) seed: u64,
    pub(crate) hosts: u64,
    pub(crate) sites: usize,
    /// Sites know their coordinator by these, so they stay.
    pub(crate) coordinator: Option<Ports>,
    /// By site name; kept so that bookmarks and tokens' URLs go on working.
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, Ports>,
}

impl Memory {
    /// What the folder remembers; none for a new one.
    pub(crate) fn recall(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(FILE);
        let bad = |reason: String| {
            Failure::new(Exit::Failed, format!("{} is not valid: {reason}", path.display()))
                .next("remove the folder to begin anew")
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|error| bad(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// Writes the file whole or not at all.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(FILE);
        let failed = |reason: String| {
            Failure::new(Exit::Failed, format!("{} cannot be written: {reason}", path.display()))
        };
        let text = toml::to_string(self).map_err(|error| failed(error.to_string()))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(error.to_string()))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
        file.persist(&path).map_err(|error| failed(error.error.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_remembers_what_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory { seed: 7, hosts: 20, sites: 2, ..Memory::default() };
        memory.coordinator = Some(Ports { http: 1, quic: 2 });
        memory.ports.insert("site-1".to_owned(), Ports { http: 3, quic: 4 });

        memory.keep(folder.path()).unwrap();

        assert_eq!(Memory::recall(folder.path()), Ok(Some(memory)));
    }

    #[test]
    fn new_folder_remembers_nothing() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(Memory::recall(folder.path()), Ok(None));
    }
}

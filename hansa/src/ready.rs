//! The file that tells other programs that a node, or a whole development federation, can be used.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::cli::failure::{Exit, Failure};

/// Writes the file whole or not at all, mode 0600: it may hold tokens.
pub(crate) fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), Failure> {
    let failed = |reason: String| {
        Failure::new(Exit::Failed, format!("the ready file {} cannot be written: {reason}", path.display()))
    };
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut text = serde_json::to_string(content).map_err(|error| failed(error.to_string()))?;
    text.push('\n');
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(error.to_string()))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
    file.as_file().sync_all().map_err(|error| failed(error.to_string()))?;
    file.persist(path).map_err(|error| failed(error.error.to_string()))?;
    Ok(())
}

/// Removes what an earlier run left, so that nobody takes it for this one's.
pub(crate) fn clear(path: &Path) {
    // Absent is what is wanted; anything else shows when the file is written.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn ready_file_is_private_and_replaces_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        std::fs::write(&path, "old").unwrap();

        write(&path, &serde_json::json!({"pid": 1})).unwrap();

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"pid\":1}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

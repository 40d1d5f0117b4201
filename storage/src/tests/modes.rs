//! Files 0600 and folders 0700, whatever the umask (threat-model, test 28).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::DirDisk;

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        found.push((
            entry.file_name().into_string().unwrap(),
            entry.metadata().unwrap().permissions().mode() & 0o7777,
        ));
    }
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn sec_28_files_and_folders_are_private_under_any_umask() {
    let outside = tempfile::tempdir().unwrap();
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    let folder = outside.path().join("deep/data");
    let key = RootKey::load_or_create(&folder.join("root.key"), &SeededEntropy::new(1)).unwrap();
    let driver = Driver::Inline { latency: Arc::new(|| Duration::ZERO) };
    let disk = Arc::new(DirDisk::new(&folder).unwrap());
    let store =
        Store::open(StoreConfig::default(), disk, driver, &key, Arc::new(SeededEntropy::new(1))).unwrap();
    store.backup(&folder.join("copy.redb")).await.unwrap();
    store.close().await;
    rustix::process::umask(umask);

    let names = ["copy.redb", "hansa.lock", "hansa.redb", "root.key"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(modes(&folder), names);
    assert_eq!(modes(&outside.path().join("deep")), [("data".to_owned(), 0o700)]);
    assert_eq!(modes(outside.path()), [("deep".to_owned(), 0o700)]);
}

#[test]
fn shared_folder_with_other_files_is_neither_used_nor_closed_to_others() {
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(DirDisk::new(shared.path()).is_ok(), "an empty one is taken, and tightened");
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(shared.path().join("letter.txt"), "").unwrap();

    let refused = DirDisk::new(shared.path());

    assert!(refused.is_err());
    assert_eq!(shared.path().metadata().unwrap().permissions().mode() & 0o777, 0o755);
}

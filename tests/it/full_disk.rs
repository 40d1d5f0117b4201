//! A full disk: writes answer 507 with what to do, reads go on, nothing acknowledged is lost, and it heals.

use std::path::Path;

use hansa_model::enrollment::Role;
use hansa_tests::{Api, TestNode, TestProcess, host, rows_of};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Size of the file system; twice the reserve that a node keeps free.
const DISK_MIB: u64 = 160;

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where this process may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={DISK_MIB}m,mode=0700")).unwrap();
        rustix::mount::mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), options.as_c_str())
            .ok()?;
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all but `free` MiB.
    fn fill(&self, free: u64) {
        let state = rustix::fs::statvfs(self.path()).unwrap();
        let taken = (state.f_bavail * state.f_frsize).saturating_sub(free * 1024 * 1024);
        std::fs::write(self.path().join("filler"), vec![1; usize::try_from(taken).unwrap()]).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached: a process that is just ending may still hold a file.
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// What every refused write must say.
fn assert_says_what_to_do(answer: hansa_tests::Answer) {
    let body = answer.refused(507, "storage_full");
    assert!(body["detail"].as_str().unwrap().contains("free space"), "{body}");
}

async fn patch(api: &Api, number: u32) -> hansa_tests::Answer {
    api.patch("/api/v1/site/hosts", &json!({"entries": [host(1, number)]})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_on_a_full_disk_refuses_writes_serves_reads_and_heals() {
    let Some(disk) = SmallDisk::mount() else {
        println!("this process may not mount; the reserve is tried on the disk there is, below");
        return;
    };
    let mut site = TestProcess::start(disk.path(), "site").await;
    let api = site.api().await;
    for number in 0..20 {
        patch(&api, number).await.ok();
    }

    disk.fill(8);
    for number in 20..30 {
        assert_says_what_to_do(patch(&api, number).await);
    }
    let while_full = rows_of(&api, "/api/v1/site/hosts").await;
    let health = api.get("/livez").await.status;
    site.kill().await;
    disk.free();
    site.boot().await;
    patch(&api, 30).await.ok();

    assert_eq!((while_full.len(), health), (20, 200));
    let rows = rows_of(&api, "/api/v1/site/hosts").await;
    assert_eq!(rows.len(), 21);
    assert!(while_full.iter().all(|(id, row)| rows.get(id) == Some(row)));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_on_a_full_disk_works_again_without_a_restart() {
    let Some(disk) = SmallDisk::mount() else { return };
    let site = TestProcess::start(disk.path(), "site").await;
    let api = site.api().await;

    for round in 0..3 {
        patch(&api, round).await.ok();
        disk.fill(0);
        assert_says_what_to_do(patch(&api, 100).await);
        disk.free();
    }

    patch(&api, 100).await.ok();
    assert_eq!(rows_of(&api, "/api/v1/site/hosts").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_below_its_reserve_refuses_writes_and_serves_reads() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = TestNode::start_in(folder, Role::Coordinator, None, false).await;
    let body = |name: &str| json!({"name": name, "url": "https://site.example.com"});
    node.api().post("/api/v1/federation/sites", &body("before")).await.licensed();

    // A reserve that no disk has.
    node.set_reserve(Some(u64::MAX / 2));
    node.restart().await;
    let refused = node.api().post("/api/v1/federation/sites", &body("while full")).await;
    let listed = node.api().get("/api/v1/federation/sites").await.licensed();
    let searched = node.api().get("/api/v1/federation/hosts").await.licensed();
    node.set_reserve(None);
    node.restart().await;

    assert_says_what_to_do(refused);
    assert_eq!((&listed["sites"][0]["name"], &searched["total"]), (&Value::from("before"), &json!(0)));
    node.api().post("/api/v1/federation/sites", &body("after")).await.licensed();
}

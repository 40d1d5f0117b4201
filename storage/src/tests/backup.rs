//! Backup of a running store, restore, check.

use hansa_model::audit::{AuditEntry, BrokenChain};
use hansa_model::{Entropy, Secret};

use super::*;
use crate::check::verify_chain;
use crate::error::BackupError;
use crate::table::{Audit, Identity, IngestLog, Queue, QueueEntry, SiteNames, Sites};
use crate::{DirDisk, Lane, check_stopped, restore};

fn entropy() -> Arc<dyn Entropy> {
    Arc::new(SeededEntropy::new(5))
}

fn open_folder(folder: &std::path::Path, driver: Driver) -> Store {
    let disk = Arc::new(DirDisk::new(folder).unwrap());
    Store::open(StoreConfig::default(), disk, driver, &root_key(), entropy()).unwrap()
}

fn ingest(n: u8) -> Batch {
    let record = hansa_model::sync::IngestRecord {
        site: site_id(1),
        epoch: 1,
        sequence: u64::from(n),
        received_at: Timestamp::EPOCH,
        changes: Vec::new(),
    };
    batch(|b| {
        b.append::<IngestLog>(&record).audit(draft("ingested"));
    })
}

#[tokio::test]
async fn backup_of_a_running_store_restores_to_a_sound_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_folder(&folder.path().join("a"), Driver::Thread);
    let alpha = site(1, "alpha");
    let first = batch(|b| {
        b.put::<Sites>(&alpha.id, &alpha).put::<SiteNames>("alpha", &alpha.id);
        b.put_sealed::<Identity>("key", &Secret::new("private".to_owned()));
    });
    store.commit(Lane::Operator, first).await.unwrap();
    for n in 0..50 {
        store.commit(Lane::Ingest, ingest(n)).await.unwrap();
    }
    let writes = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 50..150 {
                store.commit(Lane::Ingest, ingest(n)).await.unwrap();
            }
        }
    });

    let backup = folder.path().join("backup.redb");
    store.backup(&backup).await.unwrap();
    writes.await.unwrap();
    assert!(matches!(store.backup(&backup).await, Err(BackupError::TargetExists)));
    store.close().await;
    restore(&backup, &folder.path().join("b")).unwrap();

    let report =
        check_stopped(&DirDisk::new(&folder.path().join("b")).unwrap(), &root_key(), entropy()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let restored = open_folder(&folder.path().join("b"), Driver::Thread);
    let view = restored.read().unwrap();
    let end = view.log_end::<IngestLog>().unwrap();
    assert!((50..=150).contains(&end), "{end}");
    assert_eq!(report.audit_entries, end);
    assert_eq!(view.get::<Sites>(&alpha.id).unwrap(), Some(alpha));
    assert_eq!(view.get_sealed::<Identity>("key").unwrap().unwrap().expose(), b"private");
    assert!(matches!(restore(&backup, &folder.path().join("b")), Err(BackupError::Source(OpenError::InUse))));
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("data");
    for content in [&b""[..], &[0; 5_000], b"redb"] {
        let file = folder.path().join("file");
        std::fs::write(&file, content).unwrap();

        assert!(matches!(restore(&file, &target), Err(BackupError::Source(_))));

        assert!(!DirDisk::new(&target).unwrap().exists().unwrap());
        let left: Vec<_> =
            std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["hansa.lock"]);
    }
}

#[tokio::test(start_paused = true)]
async fn check_names_an_index_that_does_not_agree() {
    let test = TestStore::new();
    let alpha = site(1, "alpha");
    let entry = QueueEntry {
        payload_type: "site_metadata".to_owned(),
        dedup_key: "metadata".to_owned(),
        payload: vec![],
        version: 1,
        created_at: Timestamp::EPOCH,
        attempts: 0,
        last_attempt_at: None,
        last_error: None,
    };
    let wrong = batch(|b| {
        b.put::<Sites>(&alpha.id, &alpha).put::<SiteNames>("beta", &alpha.id).put::<Queue>(&1, &entry);
    });
    test.store.commit(Lane::Operator, wrong).await.unwrap();

    let report = test.store.check().await.unwrap();

    let tables: Vec<_> = report.problems.iter().map(|problem| problem.table).collect();
    assert_eq!(tables, ["site_names", "site_names", "queue_keys"]);
}

#[tokio::test(start_paused = true)]
async fn damaged_page_is_found_by_the_check_of_a_stopped_store() {
    let test = TestStore::new();
    test.store
        .commit(
            Lane::Ingest,
            batch(|b| {
                b.append_bytes::<IngestLog>(vec![0x5a; 40_000]);
            }),
        )
        .await
        .unwrap();
    test.store.close().await;
    let mut bytes = test.disk.published();
    let body = bytes.windows(1_000).position(|window| window == [0x5a; 1_000]).unwrap();
    bytes[body + 500] ^= 1;
    test.disk.set_published(bytes);

    let answer = check_stopped(&test.disk, &root_key(), entropy());

    assert!(matches!(answer, Err(OpenError::Corrupt(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn sec_16_rewritten_audit_log_is_caught_at_its_first_bad_entry() {
    let test = TestStore::new();
    for n in 0..6 {
        test.store
            .commit(
                Lane::Operator,
                batch(|b| {
                    b.audit(draft(&format!("op {n}")));
                }),
            )
            .await
            .unwrap();
    }
    let entries: Vec<AuditEntry> =
        test.store.read().unwrap().all::<Audit>(..).unwrap().into_iter().map(|(_, entry)| entry).collect();
    let last = entries.last().unwrap().clone();
    let verify = |entries: Vec<AuditEntry>| verify_chain(entries, last.number, &last.hash);
    let rewritten = |change: &dyn Fn(&mut Vec<AuditEntry>)| {
        let mut copy = entries.clone();
        change(&mut copy);
        verify(copy)
    };

    assert_eq!(verify(entries.clone()), Ok(()));
    let changed = |number| Err(BrokenChain::Changed { number });
    let out_of_place = |number| Err(BrokenChain::OutOfPlace { number });
    assert_eq!(rewritten(&|log| log[2].draft.operation.push('x')), changed(3));
    assert_eq!(rewritten(&|log| log[3].hash[0] ^= 1), changed(4));
    assert_eq!(rewritten(&|log| drop(log.remove(1))), out_of_place(2));
    assert_eq!(rewritten(&|log| log.swap(3, 4)), out_of_place(4));
    assert_eq!(rewritten(&|log| log.insert(5, log[0].clone())), out_of_place(6));
    assert_eq!(rewritten(&|log| log.truncate(4)), out_of_place(5));
}

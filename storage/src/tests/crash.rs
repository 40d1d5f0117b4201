//! Power lost at every operation of a workload, in four ways, and again while recovering.
//!
//! The workload's keys and values are what an attacker might choose: empty, long, the engine's own magic,
//! pages of one byte (threat-model, test 30).

use super::*;
use crate::Lane;
use crate::table::{Audit, IngestLog, Outbox, Sites};
use crate::testing::Loss;

type Contents = Vec<(&'static str, Vec<u8>, Vec<u8>)>;

/// The workload's batches; the same each time.
fn workload() -> Vec<Batch> {
    let magic = b"redb\x1a\x0a\xa9\x0d\x0a".to_vec();
    let mut batches = vec![
        batch(|b| {
            b.put::<Outbox>("", &vec![]).put::<Outbox>("\0", &magic).audit(draft("first"));
        }),
        batch(|b| {
            b.append_bytes::<IngestLog>(vec![0xff; 3_000]).append_bytes::<IngestLog>(magic.repeat(20_000));
        }),
        batch(|b| {
            b.put::<Outbox>("\u{10ffff}".repeat(500).as_str(), &vec![0; 9_000]);
        }),
        batch(|b| {
            b.delete::<Outbox>("\0").delete_log::<IngestLog>(0..2).audit(draft("deleted"));
        }),
        batch(|b| {
            b.put::<Outbox>("", &vec![0xaa; 70_000]).append_bytes::<IngestLog>(vec![]);
        }),
    ];
    for n in 0..6u128 {
        let site = site(n << 100 | n, &format!("site {n}"));
        batches.push(batch(|b| {
            b.put::<Sites>(&site.id, &site).audit(draft("site")).append_bytes::<IngestLog>(vec![1; 900]);
        }));
    }
    batches.push(batch(|b| {
        b.delete_range::<Outbox>(..).delete_range::<Sites>(..site_id(3 << 100));
    }));
    batches
}

/// Commits batch after batch until one fails; answers with how many were acknowledged.
async fn work(store: &Store) -> usize {
    let mut acknowledged = 0;
    for batch in workload() {
        if store.commit(Lane::Operator, batch).await.is_err() {
            break;
        }
        acknowledged += 1;
    }
    acknowledged
}

/// What the store holds after each number of batches; the start of the list is the empty store.
async fn expected(empty: &MemoryDisk, config: &StoreConfig) -> (Vec<Contents>, u64) {
    let test = TestStore::with(copy(empty), config.clone());
    let mut states = vec![contents(&test.store.read().unwrap())];
    let before = test.disk.operations();
    for batch in workload() {
        test.store.commit(Lane::Operator, batch).await.unwrap();
        states.push(contents(&test.store.read().unwrap()));
    }
    (states, test.disk.operations() - before)
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::new();
    copy.set_published(disk.published());
    copy
}

async fn empty_disk() -> MemoryDisk {
    let test = TestStore::new();
    test.store.close().await;
    test.disk
}

fn assert_one_of(store: &Store, states: &[Contents], acknowledged: usize, case: &str) {
    let found = contents(&store.read().unwrap());
    let whole = states[acknowledged..].iter().take(2).any(|state| *state == found);
    assert!(whole, "{case}: neither the {acknowledged} acknowledged batches nor one more");
}

#[tokio::test(start_paused = true)]
async fn sec_30_power_lost_at_any_operation_loses_nothing_acknowledged_and_shows_nothing_partial() {
    let start_bytes = empty_disk().await.published_bytes();
    // Every commit notes its free pages; none does, and a start walks the file; and the file, which shrinks at
    // first, goes from the one to the other.
    for walk_bytes_max in [0, u64::MAX, start_bytes - 1] {
        lose_power_at_every_operation(&StoreConfig { walk_bytes_max, ..StoreConfig::default() }).await;
    }
}

async fn lose_power_at_every_operation(config: &StoreConfig) {
    let empty = empty_disk().await;
    let (states, operations) = expected(&empty, config).await;
    assert!(operations > 80, "{operations}");

    for operation in 1..=operations {
        for loss in Loss::ALL {
            let test = TestStore::with(copy(&empty), config.clone());
            test.disk.crash_at(test.disk.operations() + operation);
            let acknowledged = work(&test.store).await;
            drop(test.store);
            test.disk.lose_power(loss, operation);

            // Every third time the power goes again while recovering.
            if operation % 3 == 0 {
                test.disk.crash_at(test.disk.operations() + 1 + operation % 5);
                drop(open(&test.disk, config.clone(), &test.fatal));
                test.disk.lose_power(loss, operation + 1);
            }

            let again = open(&test.disk, config.clone(), &test.fatal).unwrap();
            let case = format!("walks {}, operation {operation}, {loss:?}", config.walk_bytes_max);
            assert_one_of(&again, &states, acknowledged, &case);
            if operation % 10 == 0 {
                let report = again.check().await.unwrap();
                assert!(report.problems.iter().all(|problem| problem.table != "audit"), "{report:?}");
                again
                    .commit(
                        Lane::Operator,
                        batch(|b| {
                            b.audit(draft("on"));
                        }),
                    )
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn power_lost_while_a_store_is_made_never_leaves_a_file_that_cannot_be_opened() {
    let fatal = Arc::new(AtomicU32::new(0));
    let mut operation = 0;
    loop {
        operation += 1;
        let mut made = 0;
        for (seed, loss) in Loss::ALL.into_iter().enumerate() {
            let disk = MemoryDisk::new();
            disk.crash_at(operation);
            made += usize::from(open(&disk, StoreConfig::default(), &fatal).is_ok());
            disk.lose_power(loss, seed as u64);

            let store = open(&disk, StoreConfig::default(), &fatal).unwrap();

            store
                .commit(
                    Lane::Operator,
                    batch(|b| {
                        b.audit(draft("on"));
                    }),
                )
                .await
                .unwrap();
            assert_eq!(store.read().unwrap().all::<Audit>(..).unwrap().len(), 1);
        }
        if made == Loss::ALL.len() {
            break;
        }
    }
    assert!(operation > 10, "{operation}");
}

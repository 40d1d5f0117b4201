//! Batches: whole or not at all, in order of urgency, grouped.

use super::*;
use crate::table::{Audit, IngestLog, Outbox, Settings, SiteNames, Sites};
use crate::{CommitError, Lane, ReadError, Retry};

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_read_back() {
    let test = TestStore::new();
    let alpha = site(1, "alpha");

    test.store
        .commit(
            Lane::Operator,
            batch(|b| {
                b.put::<Sites>(&alpha.id, &alpha).put::<SiteNames>("alpha", &alpha.id);
            }),
        )
        .await
        .unwrap();

    let view = test.store.read().unwrap();
    assert_eq!(view.get::<Sites>(&alpha.id).unwrap(), Some(alpha.clone()));
    assert_eq!(view.get::<SiteNames>("alpha").unwrap(), Some(alpha.id));
    assert!(!view.contains::<SiteNames>("beta").unwrap());
}

#[tokio::test(start_paused = true)]
async fn refused_precondition_refuses_its_batch_and_no_neighbour() {
    let test = TestStore::new();
    let put = |key: &str, value: &str| {
        batch(|b| {
            b.expect_absent::<Settings>(key).put::<Settings>(key, &value.to_owned());
        })
    };
    let changes_one = batch(|b| {
        b.expect::<Settings>("one", &"first".to_owned()).put::<Settings>("one", &"third".to_owned());
    });
    let changes_other = batch(|b| {
        b.expect_absent::<Settings>("three")
            .expect::<Settings>("two", &"unlike".to_owned())
            .put::<Settings>("two", &"unlike".to_owned());
    });

    let before = test.disk.operations();
    let answers = tokio::join!(
        test.store.commit(Lane::Operator, put("one", "first")),
        test.store.commit(Lane::Operator, put("one", "second")),
        test.store.commit(Lane::Operator, put("two", "second")),
        test.store.commit(Lane::Operator, changes_one),
        test.store.commit(Lane::Operator, changes_other),
    );

    assert!(answers.0.is_ok() && answers.2.is_ok() && answers.3.is_ok());
    let refused = answers.1.unwrap_err();
    assert!(matches!(refused, CommitError::PreconditionFailed { table: "settings", which: 0 }));
    assert_eq!(refused.retry(), Retry::Never);
    assert!(matches!(answers.4, Err(CommitError::PreconditionFailed { table: "settings", which: 1 })));
    let view = test.store.read().unwrap();
    assert_eq!(view.get::<Settings>("one").unwrap().as_deref(), Some("third"));
    assert_eq!(view.get::<Settings>("two").unwrap().as_deref(), Some("second"));
    // And all five went in one transaction.
    let one = test.disk.operations() - before;
    test.store.commit(Lane::Operator, put("four", "")).await.unwrap();
    let single = test.disk.operations() - before - one;
    assert!(one < single * 2, "{one} operations for five batches, {single} for one");
}

#[tokio::test(start_paused = true)]
async fn urgent_lanes_are_stored_first() {
    let config = StoreConfig { commit_batches_max: 1, ..StoreConfig::default() };
    let test = TestStore::with(MemoryDisk::new(), config);
    let order = std::sync::Mutex::new(Vec::new());
    let commit = async |lane| {
        test.store
            .commit(
                lane,
                batch(|b| {
                    b.audit(draft("x"));
                }),
            )
            .await
            .unwrap();
        order.lock().unwrap().push(lane);
    };

    tokio::join!(commit(Lane::Ingest), commit(Lane::Operator), commit(Lane::Push), commit(Lane::Control));

    assert_eq!(*order.lock().unwrap(), [Lane::Control, Lane::Push, Lane::Operator, Lane::Ingest]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_bounded_in_bytes_and_everything_still_goes() {
    let config = StoreConfig { commit_bytes_max: 10_000, ..StoreConfig::default() };
    let test = TestStore::with(MemoryDisk::new(), config);
    let append = |len| {
        test.store.commit(
            Lane::Ingest,
            batch(|b| {
                b.append_bytes::<IngestLog>(vec![1; len]);
            }),
        )
    };
    let start = tokio::time::Instant::now();

    let answers = tokio::join!(append(6_000), append(6_000), append(50_000), append(10));

    assert_eq!(
        [answers.0, answers.1, answers.2, answers.3].map(|answer| answer.unwrap().positions),
        [[1], [2], [3], [4]]
    );
    // Each group costs one latency, and no two of these fit into one.
    assert_eq!(start.elapsed().as_millis(), 4);
}

#[tokio::test(start_paused = true)]
async fn appends_are_numbered_and_visited_in_order_and_numbers_never_return() {
    let test = TestStore::new();
    let long = vec![7; 200_000];
    let receipt = test
        .store
        .commit(
            Lane::Ingest,
            batch(|b| {
                b.append_bytes::<IngestLog>(b"a".to_vec()).append_bytes::<IngestLog>(long.clone());
            }),
        )
        .await
        .unwrap();
    assert_eq!(receipt.positions, [1, 2]);

    test.store
        .commit(
            Lane::Control,
            batch(|b| {
                b.delete_log::<IngestLog>(0..3);
            }),
        )
        .await
        .unwrap();
    assert_eq!(test.store.read().unwrap().log_start::<IngestLog>().unwrap(), None);
    let next = batch(|b| {
        b.append_bytes::<IngestLog>(long.clone()).append_bytes::<IngestLog>(vec![]);
    });
    let receipt = test.store.commit(Lane::Ingest, next).await.unwrap();

    assert_eq!(receipt.positions, [3, 4]);
    let view = test.store.read().unwrap();
    let mut seen = Vec::new();
    view.for_each_from::<IngestLog>(0, |position, body| {
        seen.push((position, body.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [(3, long), (4, vec![])]);
    assert_eq!(view.log_end::<IngestLog>().unwrap(), 4);
    assert_eq!(view.log_start::<IngestLog>().unwrap(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn ranges_are_paged_from_either_end_and_deleted() {
    let test = TestStore::new();
    let all = batch(|b| {
        for n in 0..10u8 {
            b.put::<Outbox>(format!("k{n}").as_str(), &vec![n]);
        }
    });
    test.store.commit(Lane::Operator, all).await.unwrap();

    test.store
        .commit(
            Lane::Operator,
            batch(|b| {
                b.delete_range::<Outbox>("k3".to_owned().."k6".to_owned());
            }),
        )
        .await
        .unwrap();

    let view = test.store.read().unwrap();
    let keys = |order, limit| -> Vec<String> {
        view.page::<Outbox>(.., order, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(Order::Ascending, 4), ["k0", "k1", "k2", "k6"]);
    assert_eq!(keys(Order::Descending, 2), ["k9", "k8"]);
    assert_eq!(keys(Order::Ascending, 100).len(), 7);
    let nothing = view.page::<Outbox>("k9".to_owned().."k0".to_owned(), Order::Ascending, 9).unwrap();
    assert_eq!(nothing, []);
}

#[tokio::test(start_paused = true)]
async fn audit_entries_are_chained_inside_their_batch() {
    let test = TestStore::new();
    let refused = batch(|b| {
        b.expect::<Settings>("role", &String::new()).audit(draft("refused"));
    });

    let first = test
        .store
        .commit(
            Lane::Operator,
            batch(|b| {
                b.audit(draft("one")).audit(draft("two"));
            }),
        )
        .await;
    let second = test.store.commit(Lane::Operator, refused).await;
    let third = test
        .store
        .commit(
            Lane::Operator,
            batch(|b| {
                b.audit(draft("three"));
            }),
        )
        .await;

    assert_eq!(first.unwrap().audit, [1, 2]);
    assert!(second.is_err());
    assert_eq!(third.unwrap().audit, [3]);
    let view = test.store.read().unwrap();
    let operations: Vec<_> =
        view.all::<Audit>(..).unwrap().into_iter().map(|(_, entry)| entry.draft.operation).collect();
    assert_eq!(operations, ["one", "two", "three"]);
    let report = test.store.check().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.audit_entries, 3);
}

#[tokio::test(start_paused = true)]
async fn closing_stores_what_waits_and_refuses_the_rest() {
    let test = TestStore::new();
    let other = test.store.clone();
    let waiting = other.commit(
        Lane::Ingest,
        batch(|b| {
            b.audit(draft("waiting"));
        }),
    );

    let (stored, ()) = tokio::join!(waiting, test.store.close());

    assert!(stored.is_ok());
    let refused = other
        .commit(
            Lane::Control,
            batch(|b| {
                b.audit(draft("late"));
            }),
        )
        .await;
    assert!(matches!(refused, Err(CommitError::Closed)));
    assert!(matches!(other.read(), Err(ReadError::Closed)));
    let again = TestStore::on(test.disk);
    assert_eq!(again.store.read().unwrap().all::<Audit>(..).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_not_used_twice_at_once() {
    let test = TestStore::new();

    let second = open(&test.disk, StoreConfig::default(), &test.fatal);

    assert!(matches!(second, Err(OpenError::InUse)));
}

#[tokio::test(start_paused = true)]
async fn newer_format_is_refused() {
    let test = TestStore::new();
    test.store.clone().close().await;
    let database = redb::Database::builder()
        .create_with_backend(crate::backend::Backend::new(
            crate::disk::Disk::open(&test.disk).unwrap().unwrap(),
            Arc::default(),
        ))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(crate::schema::definition(crate::schema::META))
        .unwrap()
        .insert(crate::generation::FORMAT_KEY, 2u64.to_be_bytes().as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);

    let answer = open(&test.disk, StoreConfig::default(), &test.fatal);

    assert!(matches!(answer, Err(OpenError::NewerFormat { found: 2, known: 1 })));
}

#[tokio::test]
async fn the_writers_own_thread_serves_many_tasks() {
    let disk: Arc<dyn crate::Disk> = Arc::new(MemoryDisk::new());
    let entropy = Arc::new(SeededEntropy::new(1));
    let store = Store::open(StoreConfig::default(), disk, Driver::Thread, &root_key(), entropy).unwrap();
    let commits = (0..200).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .commit(
                    Lane::Ingest,
                    batch(|b| {
                        b.append_bytes::<IngestLog>(vec![0; 300]);
                    }),
                )
                .await
        })
    });

    let mut positions = Vec::new();
    for commit in commits.collect::<Vec<_>>() {
        positions.extend(commit.await.unwrap().unwrap().positions);
    }

    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>());
    store.close().await;
}

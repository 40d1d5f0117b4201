//! Disks that are full, and disks that fail.

use super::*;
use crate::table::{Audit, IngestLog, Settings};
use crate::{CommitError, Lane, ReadError, Retry};

const MIB: u64 = 1024 * 1024;

fn append(len: usize) -> Batch {
    batch(|b| {
        b.append_bytes::<IngestLog>(vec![1; len]);
    })
}

fn setting(value: &str) -> Batch {
    batch(|b| {
        b.put::<Settings>("k", &value.to_owned()).audit(draft("set"));
    })
}

#[tokio::test(start_paused = true)]
async fn below_the_reserve_bulk_and_operators_are_refused_and_urgent_work_goes_on() {
    let test = TestStore::new();
    test.store.commit(Lane::Operator, setting("old")).await.unwrap();
    test.disk.set_free_bytes(Some(MIB));

    let (ingest, operator, push, control) = tokio::join!(
        test.store.commit(Lane::Ingest, append(10)),
        test.store.commit(Lane::Operator, setting("new")),
        test.store.commit(Lane::Push, append(10)),
        test.store.commit(Lane::Control, append(10)),
    );

    let refused = operator.unwrap_err();
    assert!(matches!(refused, CommitError::Full { reserve_bytes } if reserve_bytes == 64 * MIB));
    assert_eq!(refused.retry(), Retry::Later);
    assert!(matches!(ingest, Err(CommitError::Full { .. })));
    assert!(push.is_ok() && control.is_ok());
    assert_eq!(test.store.read().unwrap().get::<Settings>("k").unwrap().as_deref(), Some("old"));
    test.disk.set_free_bytes(Some(100 * MIB));
    assert!(test.store.commit(Lane::Operator, setting("new")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn full_disk_refuses_writes_serves_reads_and_heals_when_there_is_space() {
    let test = TestStore::new();
    let mut acknowledged = 0;
    for _ in 0..20 {
        acknowledged += test.store.commit(Lane::Ingest, append(100_000)).await.unwrap().positions.len();
    }
    test.disk.set_capacity(Some(test.disk.published_bytes()));

    let mut refusals = 0;
    for _ in 0..60 {
        match test.store.commit(Lane::Ingest, append(100_000)).await {
            Ok(receipt) => acknowledged += receipt.positions.len(),
            Err(CommitError::Full { .. }) => refusals += 1,
            Err(other) => panic!("{other:?}"),
        }
    }

    assert!(refusals > 10, "{refusals}");
    assert_eq!(kept(&test), acknowledged);
    test.disk.set_capacity(None);
    for _ in 0..5 {
        acknowledged += test.store.commit(Lane::Ingest, append(100_000)).await.unwrap().positions.len();
    }
    assert_eq!(kept(&test), acknowledged);
    assert_eq!(test.fatal_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn sec_15_mutation_whose_audit_entry_finds_no_room_changes_nothing() {
    let test = TestStore::new();
    test.store.commit(Lane::Operator, setting("old")).await.unwrap();
    let before = contents(&test.store.read().unwrap());
    test.disk.set_capacity(Some(test.disk.published_bytes()));
    let mut entry = draft("grant\n2 forged\u{0}");
    entry.actor_userid = Some("x".repeat(4_000_000));
    let mutation = batch(|b| {
        b.put::<Settings>("k", &"new".to_owned()).audit(entry.clone());
    });

    let refused = test.store.commit(Lane::Operator, mutation.clone()).await;

    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert_eq!(contents(&test.store.read().unwrap()), before);
    test.disk.set_capacity(None);
    assert_eq!(test.store.commit(Lane::Operator, mutation).await.unwrap().audit, [2]);
    let stored = test.store.read().unwrap().all::<Audit>(..).unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[1].1.draft, entry, "control characters stay inside the one entry");
}

#[tokio::test(start_paused = true)]
async fn urgent_batch_is_stored_although_its_bulky_neighbour_does_not_fit() {
    let test = TestStore::new();
    test.store.commit(Lane::Operator, setting("old")).await.unwrap();
    test.disk.set_capacity(Some(test.disk.published_bytes()));

    let (bulk, urgent) = tokio::join!(
        test.store.commit(Lane::Ingest, append(5_000_000)),
        test.store.commit(Lane::Control, setting("new")),
    );

    assert!(matches!(bulk, Err(CommitError::Full { .. })));
    assert!(urgent.is_ok(), "{urgent:?}");
    assert_eq!(test.store.read().unwrap().get::<Settings>("k").unwrap().as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn snapshot_from_before_a_reopening_is_whole_or_says_that_it_ended() {
    let test = TestStore::new();
    for _ in 0..60 {
        test.store.commit(Lane::Ingest, append(100_000)).await.unwrap();
    }
    let old = test.store.read().unwrap();
    test.disk.set_capacity(Some(test.disk.published_bytes()));
    let _ = test.store.commit(Lane::Ingest, append(7_000_000)).await;
    test.disk.set_capacity(None);
    for _ in 0..20 {
        test.store.commit(Lane::Ingest, append(100_000)).await.unwrap();
    }

    let mut seen = 0;
    let outcome = old.for_each_from::<IngestLog>(0, |_, body| {
        assert_eq!(body, vec![1; 100_000]);
        seen += 1;
        ControlFlow::Continue(())
    });

    match outcome {
        Ok(()) => assert_eq!(seen, 60),
        Err(error) => {
            assert!(matches!(error, ReadError::SnapshotEnded), "{error:?}");
            assert_eq!(error.retry(), Retry::Now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failed_sync_ends_the_writer_and_is_told_once() {
    let test = TestStore::new();
    test.store.commit(Lane::Operator, setting("old")).await.unwrap();
    test.disk.fail_syncs(true);

    let first = test.store.commit(Lane::Operator, setting("new")).await;
    test.disk.fail_syncs(false);
    let second = test.store.commit(Lane::Operator, setting("new")).await;

    assert!(matches!(first, Err(CommitError::Io(_))), "{first:?}");
    assert!(matches!(second, Err(CommitError::Closed)));
    assert_eq!(test.fatal_calls(), 1);
}

fn kept(test: &TestStore) -> usize {
    let mut kept = 0;
    test.store
        .read()
        .unwrap()
        .for_each_from::<IngestLog>(0, |_, _| {
            kept += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    kept
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_writer_is_told_and_callers_are_answered() {
    let test = TestStore::new();
    test.disk.panic_when_asked_for_space();

    let answer = test.store.commit(Lane::Operator, setting("new")).await;

    assert!(matches!(answer, Err(CommitError::Closed)));
    assert_eq!(test.fatal_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_failing_operation_gives_an_honest_answer_and_a_store_that_goes_on() {
    let mut outcomes = [0; 3];
    for operation in 1..100 {
        let test = TestStore::new();
        test.store.commit(Lane::Operator, setting("old")).await.unwrap();
        let old = test.store.read().unwrap();
        let before = test.disk.operations();
        test.disk.fail_at(before + operation);

        let answer = test.store.commit(Lane::Operator, setting("new")).await;

        if test.disk.operations() < before + operation {
            break;
        }
        if test.fatal_calls() > 0 {
            assert!(matches!(answer, Err(CommitError::Io(_))), "{operation}: {answer:?}");
            outcomes[2] += 1;
            continue;
        }
        let now = test.store.read().unwrap().get::<Settings>("k").unwrap();
        let told = if answer.is_ok() { "new" } else { "old" };
        assert_eq!(now.as_deref(), Some(told), "{operation}: {answer:?}");
        outcomes[usize::from(answer.is_ok())] += 1;
        test.store.commit(Lane::Operator, setting("newer")).await.unwrap();
        drop(old);
        assert_eq!(test.store.read().unwrap().get::<Settings>("k").unwrap().as_deref(), Some("newer"));
        assert!(test.store.check().await.unwrap().is_sound());
    }
    assert!(outcomes[0] > 0 && outcomes[2] > 0, "refused, stored, fatal: {outcomes:?}");
}

//! Another root key for a running store: readable at each moment, and after power was lost at each moment.

use hansa_model::Secret;

use super::*;
use crate::check_stopped;
use crate::error::ReadError;
use crate::rotation::{Place, Rotation, RotationError};
use crate::seal::Envelope;
use crate::table::{Identity, OutboundBearers, Settings};
use crate::testing::Loss;
use crate::{Lane, restore};

fn new_key() -> RootKey {
    RootKey::new([4; 32])
}

/// What the key file holds while a rotation runs.
fn both_keys() -> RootKey {
    new_key().after(&root_key())
}

fn open_with(disk: &MemoryDisk, root: &RootKey) -> Result<Store, OpenError> {
    let config =
        StoreConfig { cache_bytes: 1024 * 1024, on_fatal: Arc::new(|_| {}), ..StoreConfig::default() };
    let driver = Driver::Inline { latency: Arc::new(|| Duration::from_millis(1)) };
    Store::open(config, Arc::new(disk.clone()), driver, root, Arc::new(SeededEntropy::new(9)))
}

fn value(n: u32) -> Secret<String> {
    Secret::new(format!("value-{n}"))
}

/// Keys of so many sealed records, in two tables.
async fn fill(store: &Store, count: u32) {
    for n in 0..count {
        let batch = batch(|b| {
            b.put_sealed::<Identity>(format!("{n:04}").as_str(), &value(n))
                .put_sealed::<OutboundBearers>(&site_id(u128::from(n)), &value(n));
        });
        store.commit(Lane::Operator, batch).await.unwrap();
    }
}

fn assert_readable(store: &Store, count: u32, case: &str) {
    let view = store.read().unwrap();
    for n in 0..count {
        let name = format!("{n:04}");
        let one = view.get_sealed::<Identity>(name.as_str()).unwrap().unwrap();
        let other = view.get_sealed::<OutboundBearers>(&site_id(u128::from(n))).unwrap().unwrap();
        for found in [one, other] {
            assert_eq!(found.expose().as_slice(), value(n).expose().as_bytes(), "{case}: {n}");
        }
    }
}

/// Makes every step that is left; answers with the records wrapped anew.
async fn finish(store: &Store) -> Result<u64, RotationError> {
    let (mut place, mut rewrapped) = (Some(Place::default()), 0);
    while let Some(from) = place {
        let step = store.rewrap(from).await?;
        assert_eq!(step.unreadable, 0);
        rewrapped += step.rewrapped;
        place = step.next;
    }
    store.end_rotation(Batch::new()).await?;
    Ok(rewrapped)
}

fn envelopes(store: &Store) -> Vec<Envelope> {
    store.read().unwrap().all::<Identity>(..).unwrap().into_iter().map(|(_, envelope)| envelope).collect()
}

#[tokio::test(start_paused = true)]
async fn rotation_wraps_every_data_key_anew_and_leaves_the_values_as_they_are() {
    let test = TestStore::new();
    fill(&test.store, 200).await;
    let before = envelopes(&test.store);
    let fingerprint = test.store.read().unwrap().fingerprint("a", b"b");

    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    assert_eq!(test.store.rotation(), Rotation::Running);
    let rewrapped = finish(&test.store).await.unwrap();

    assert_eq!((rewrapped, test.store.sealed_records().unwrap()), (400, 400));
    assert_eq!(test.store.rotation(), Rotation::None);
    for (before, after) in before.iter().zip(&envelopes(&test.store)) {
        assert!(before.0[1..61] != after.0[1..61] && before.0[61..] == after.0[61..]);
    }
    test.store.close().await;
    assert!(matches!(open_with(&test.disk, &root_key()), Err(OpenError::WrongRootKey)));
    let again = open_with(&test.disk, &new_key()).unwrap();
    assert_readable(&again, 200, "after");
    assert_eq!(again.read().unwrap().fingerprint("a", b"b"), fingerprint);
    assert!(again.check().await.unwrap().is_sound());
}

#[tokio::test(start_paused = true)]
async fn values_stored_changed_and_deleted_while_a_rotation_runs_are_what_was_last_said() {
    let test = TestStore::new();
    fill(&test.store, 300).await;
    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    let (started, too_early) = (test.store.sealers.present(), test.store.clone());

    let first = test.store.rewrap(Place::default()).await.unwrap();
    let change = batch(|b| {
        b.put_sealed::<Identity>("0000", &value(7)).put_sealed::<Identity>("0299", &value(8));
        b.delete::<Identity>("0001").delete::<Identity>("0298");
    });
    too_early.commit(Lane::Operator, change).await.unwrap();
    let mut place = first.next;
    while let Some(from) = place {
        place = test.store.rewrap(from).await.unwrap().next;
    }
    test.store.end_rotation(Batch::new()).await.unwrap();

    assert!(started.is_rotating());
    let view = test.store.read().unwrap();
    let found = ["0000", "0299"].map(|key| view.get_sealed::<Identity>(key).unwrap().unwrap());
    assert_eq!(found.map(|value| value.expose().clone()), [b"value-7".to_vec(), b"value-8".to_vec()]);
    assert!(["0001", "0298"].iter().all(|key| !view.contains::<Identity>(*key).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn value_sealed_before_a_rotation_and_written_after_it_opens() {
    let test = TestStore::new();
    fill(&test.store, 1).await;
    let mut late = batch(|b| {
        b.put_sealed::<Identity>("late", &value(9));
    });
    late.seal(&test.store.sealers.present());

    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    finish(&test.store).await.unwrap();
    test.store.commit(Lane::Operator, late).await.unwrap();

    let found = test.store.read().unwrap().get_sealed::<Identity>("late").unwrap().unwrap();
    assert_eq!(found.expose().as_slice(), value(9).expose().as_bytes());
}

#[tokio::test(start_paused = true)]
async fn second_rotation_waits_for_the_first_and_a_key_without_the_present_one_is_refused() {
    let test = TestStore::new();
    fill(&test.store, 1).await;

    let unprepared = test.store.begin_rotation(&new_key(), Batch::new()).await;
    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    let second = test.store.begin_rotation(&RootKey::new([5; 32]).after(&new_key()), Batch::new()).await;

    assert!(matches!(unprepared, Err(RotationError::Unprepared)));
    assert!(matches!(second, Err(RotationError::Running)));
    finish(&test.store).await.unwrap();
    test.store.begin_rotation(&RootKey::new([5; 32]).after(&new_key()), Batch::new()).await.unwrap();
    finish(&test.store).await.unwrap();
    assert_readable(&test.store, 1, "twice");
}

#[tokio::test(start_paused = true)]
async fn lost_former_key_leaves_its_values_closed_until_it_is_put_back() {
    let test = TestStore::new();
    fill(&test.store, 200).await;
    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    let first = test.store.rewrap(Place::default()).await.unwrap();
    assert_eq!(first.rewrapped, 128);
    test.store.close().await;

    let without = open_with(&test.disk, &new_key()).unwrap();
    let view = without.read().unwrap();
    assert_eq!(without.rotation(), Rotation::FormerKeyLost);
    assert!(view.get_sealed::<Identity>("0000").unwrap().is_some());
    assert!(matches!(view.get_sealed::<Identity>("0199"), Err(ReadError::Sealed { .. })));
    drop(view);
    let step = without.rewrap(first.next.unwrap()).await.unwrap();
    assert_eq!((step.rewrapped, step.unreadable), (0, 128));
    assert_eq!(without.check().await.unwrap().problem_count, 272);
    without.close().await;

    let with = open_with(&test.disk, &both_keys()).unwrap();
    assert_eq!(finish(&with).await.unwrap(), 272);
    assert_readable(&with, 200, "put back");
}

#[tokio::test(start_paused = true)]
async fn backup_taken_while_a_rotation_runs_opens_with_the_new_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestStore::new();
    fill(&test.store, 200).await;
    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    test.store.rewrap(Place::default()).await.unwrap();

    test.store.backup(&folder.path().join("copy")).await.unwrap();

    let data = folder.path().join("data");
    restore(&folder.path().join("copy"), &data).unwrap();
    let disk = crate::DirDisk::new(&data).unwrap();
    let entropy = Arc::new(SeededEntropy::new(1));
    assert!(check_stopped(&disk, &new_key(), entropy).unwrap().is_sound());
}

#[tokio::test(start_paused = true)]
async fn deleted_value_does_not_open_again_though_its_record_was_copied_before_a_rotation() {
    let test = TestStore::new();
    fill(&test.store, 1).await;
    let stolen = envelopes(&test.store).remove(0);
    test.store
        .commit(
            Lane::Operator,
            batch(|b| {
                b.delete::<Identity>("0000");
            }),
        )
        .await
        .unwrap();
    test.store.begin_rotation(&both_keys(), Batch::new()).await.unwrap();
    finish(&test.store).await.unwrap();

    // Whoever has the disk's free pages and the key of today puts the record back in its place.
    let put_back = batch(|b| {
        b.put::<Identity>("0000", &stolen);
    });
    test.store.commit(Lane::Operator, put_back).await.unwrap();

    let view = test.store.read().unwrap();
    assert!(matches!(view.get_sealed::<Identity>("0000"), Err(ReadError::Sealed { .. })));
}

/// A rotation of a small store, from its start on or from where it was left; tells of its beginning.
async fn rotate(store: &Store) -> Result<(), RotationError> {
    if store.rotation() == Rotation::None {
        let begun = batch(|b| {
            b.put::<Settings>("begun", &"yes".to_owned());
        });
        store.begin_rotation(&both_keys(), begun).await?;
    }
    finish(store).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn power_lost_at_any_operation_of_a_rotation_leaves_all_readable_and_it_goes_on() {
    let start = TestStore::new();
    fill(&start.store, 70).await;
    start.store.close().await;
    let copy = |disk: &MemoryDisk| {
        let copy = MemoryDisk::new();
        copy.set_published(disk.published());
        copy
    };
    let whole = copy(&start.disk);
    let store = open_with(&whole, &root_key()).unwrap();
    let before = whole.operations();
    rotate(&store).await.unwrap();
    let operations = whole.operations() - before;
    drop(store);
    assert!(operations > 15, "{operations}");

    for operation in 1..=operations {
        for loss in Loss::ALL {
            let case = format!("operation {operation}, {loss:?}");
            let disk = copy(&start.disk);
            let store = open_with(&disk, &root_key()).unwrap();
            disk.crash_at(disk.operations() + operation);
            let ended = rotate(&store).await;
            drop(store);
            disk.lose_power(loss, operation);

            // Which of the two files of a key opens the store tells whether the rotation had begun.
            let (again, begun) = match open_with(&disk, &root_key()) {
                Ok(again) => (again, false),
                Err(_) => (open_with(&disk, &both_keys()).unwrap(), true),
            };
            assert_readable(&again, 70, &case);
            let noted = again.read().unwrap().get::<Settings>("begun").unwrap().is_some();
            assert_eq!(noted, begun, "{case}");
            assert!(begun || ended.is_err(), "{case}");
            if !begun || again.rotation() == Rotation::Running {
                rotate(&again).await.unwrap();
            }
            assert_readable(&again, 70, &case);
            again.close().await;
            drop(open_with(&disk, &new_key()).unwrap());
        }
    }
}

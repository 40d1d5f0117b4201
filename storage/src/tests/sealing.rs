//! Sealed values, and what a thief of the disk sees.

use hansa_model::Secret;

use super::*;
use crate::seal::RootKey;
use crate::table::{Identity, OutboundBearers, SyncBearerSecret, Table as _};
use crate::{Lane, ReadError};

const CANARY: &str = "canary-7f31c0de-secret";

fn canary() -> Secret<String> {
    Secret::new(CANARY.to_owned())
}

#[tokio::test(start_paused = true)]
async fn sec_13_sealed_value_opens_and_its_bytes_are_nowhere_on_the_disk() {
    let test = TestStore::new();

    let batch = batch(|b| {
        b.put_sealed::<Identity>("key", &canary()).put_sealed::<SyncBearerSecret>("self", &canary());
    });
    let printed = format!("{batch:?} {:?} {:?}", test.store, root_key());
    test.store.commit(Lane::Operator, batch).await.unwrap();

    let value = test.store.read().unwrap().get_sealed::<Identity>("key").unwrap().unwrap();
    assert_eq!(value.expose().as_slice(), CANARY.as_bytes());
    assert_eq!(format!("{value:?}"), "[redacted]");
    assert!(!printed.contains("canary") && printed.contains("RootKey([redacted])"), "{printed}");
    let disk = test.disk.published();
    assert!(!disk.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    assert!(!disk.windows(32).any(|window| window == [3; 32]));
}

#[tokio::test(start_paused = true)]
async fn equal_values_are_sealed_unlike() {
    let test = TestStore::new();
    let both = batch(|b| {
        b.put_sealed::<Identity>("a", &canary()).put_sealed::<Identity>("b", &canary());
    });
    test.store.commit(Lane::Operator, both).await.unwrap();

    let view = test.store.read().unwrap();
    let [a, b] = ["a", "b"].map(|key| view.get::<Identity>(key).unwrap().unwrap().0);

    assert_eq!(a.len(), b.len());
    assert!(a[1..].iter().zip(&b[1..]).filter(|(a, b)| a == b).count() < a.len() / 4);
}

#[tokio::test(start_paused = true)]
async fn moved_or_changed_record_does_not_open() {
    let test = TestStore::new();
    let seal = batch(|b| {
        b.put_sealed::<Identity>("a", &canary()).put_sealed::<OutboundBearers>(&site_id(1), &canary());
    });
    test.store.commit(Lane::Operator, seal).await.unwrap();
    let view = test.store.read().unwrap();
    let envelope = view.get::<Identity>("a").unwrap().unwrap();
    let mut changed = envelope.clone();
    *changed.0.last_mut().unwrap() ^= 1;

    let moves = batch(|b| {
        b.put::<Identity>("b", &envelope)
            .put::<OutboundBearers>(&site_id(1), &envelope)
            .put::<Identity>("a", &changed);
    });
    test.store.commit(Lane::Operator, moves).await.unwrap();

    let view = test.store.read().unwrap();
    for key in ["a", "b"] {
        assert!(matches!(view.get_sealed::<Identity>(key), Err(ReadError::Sealed { table: Identity::NAME })));
    }
    assert!(view.get_sealed::<OutboundBearers>(&site_id(1)).is_err());
    let report = test.store.check().await.unwrap();
    assert_eq!(report.problem_count, 3, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn store_does_not_open_with_another_root_key() {
    let test = TestStore::new();
    test.store.close().await;
    let driver = Driver::Inline { latency: Arc::new(|| Duration::ZERO) };

    let answer = Store::open(
        StoreConfig::default(),
        Arc::new(test.disk),
        driver,
        &RootKey::new([4; 32]),
        Arc::new(SeededEntropy::new(1)),
    );

    assert!(matches!(answer, Err(OpenError::WrongRootKey)));
}

#[test]
fn key_file_is_made_once_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/root.key");
    let text = |path| std::fs::read_to_string(path).unwrap();

    RootKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
    let first = text(&path);
    RootKey::load_or_create(&path, &SeededEntropy::new(2)).unwrap();

    assert_eq!(text(&path), first);
    for damaged in ["", "hansa-root-key-1 00", &first.replace('-', " "), &first.replace("key-1 ", "key-1 +")]
    {
        std::fs::write(&path, damaged).unwrap();
        assert!(RootKey::load_or_create(&path, &SeededEntropy::new(3)).is_err(), "{damaged}");
    }
}

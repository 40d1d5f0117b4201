//! Another root key for a node that serves: nothing becomes unreadable, whenever it is killed.

use std::path::Path;

use hansa_model::enrollment::Role;
use hansa_tests::{Api, OpenBao, TestNode, TestProcess, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

const ROOT_KEY: &str = "/api/v1/root-key";
const ROTATE: &str = "/api/v1/root-key/rotate";

/// Bytes of a value, so that a rotation has a good many steps.
const VALUE_BYTES: usize = 250_000;
const SECRETS: usize = 48;

/// A folder with a configuration that leaves rates alone.
fn configured(more: &str) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hansa.toml");
    std::fs::write(&config, format!("[secret_rates]\nwrite_secrets = 0\nread_secrets = 0\n{more}")).unwrap();
    (folder, config)
}

fn value(number: usize) -> String {
    format!("{number:04}").repeat(VALUE_BYTES / 4)
}

async fn store_secrets(api: &Api) {
    for number in 0..SECRETS {
        let body = json!({"data": {"value": value(number)}});
        api.put(&format!("/v1/secrets/app/s{number}"), &body).await.ok();
    }
}

async fn assert_readable(api: &Api) {
    for number in 0..SECRETS {
        let read = api.get(&format!("/v1/secrets/app/s{number}")).await.ok();
        assert!(read["data"]["value"] == value(number), "secret {number}");
    }
}

fn key_file(node: &TestProcess) -> String {
    std::fs::read_to_string(node.data_dir().join("root.key")).unwrap()
}

async fn identity(api: &Api) -> Value {
    api.get("/api/v1/federation/identity-key").await.ok()["fingerprint"].clone()
}

/// How often the audit log tells of an operation.
async fn told(api: &Api, operation: &str) -> usize {
    let page = api.get(&format!("/api/v1/federation/audit?operation={operation}")).await.ok();
    page["entries"].as_array().expect("entries").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_key_is_rotated_while_the_node_serves_and_the_former_key_opens_nothing() {
    let (folder, config) = configured("");
    let mut node = TestProcess::start_configured(folder.path(), "site", &config).await;
    let api = node.api().await;
    let before = identity(&api).await;
    store_secrets(&api).await;
    let former = key_file(&node);

    let reading = async {
        let read = async || assert_readable(&api).await;
        read().await;
        read().await;
    };
    let rotating = node.run(&["root-key", "rotate", "-o", "json"]);
    let ((), shown) = tokio::join!(reading, rotating);

    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["kept_as"], &shown["rotation"]), (&json!("key_file"), &Value::Null));
    assert!(shown["rotated_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{shown}");
    eventually("the former key is forgotten", async || (key_file(&node).lines().count() == 1).then_some(()))
        .await;
    let present = key_file(&node);
    assert_ne!(present, former);
    assert_mode(&node.data_dir().join("root.key"), 0o600);
    for operation in ["root_key_rotation_started", "root_key_rotated"] {
        assert_eq!(told(&api, operation).await, 1, "{operation}");
    }

    node.kill().await;
    std::fs::write(node.data_dir().join("root.key"), &former).unwrap();
    let refusal = node.refusal().await;
    assert!(refusal.contains("root key does not open this store"), "{refusal}");
    std::fs::write(node.data_dir().join("root.key"), &present).unwrap();
    node.boot().await;
    assert_readable(&api).await;
    assert_eq!(identity(&api).await, before);
}

fn assert_mode(path: &Path, expected: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, expected, "{}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_killed_in_the_middle_of_a_rotation_reads_everything_and_goes_on_with_it() {
    let (folder, config) = configured("");
    let mut node = TestProcess::start_configured(folder.path(), "site", &config).await;
    let api = node.api().await;
    store_secrets(&api).await;

    let begun = api.act(ROTATE).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    let again = api.act(ROTATE).await;
    again.refused(409, "root_key_rotating");
    eventually("a step is made", async || {
        let rotation = api.get(ROOT_KEY).await.ok()["rotation"].clone();
        (rotation["looked_at"].as_u64()? > 4).then_some(())
    })
    .await;
    node.kill().await;

    assert_eq!(key_file(&node).lines().count(), 2, "both keys are known");
    let former_alone = key_file(&node).lines().next().unwrap().to_owned();
    // A copy of the key file without the former key: what hangs on that says so, the rest is readable.
    let whole = key_file(&node);
    std::fs::write(node.data_dir().join("root.key"), format!("{former_alone}\n")).unwrap();
    node.boot().await;
    let last = eventually("the pass has ended", async || {
        let rotation = api.get(ROOT_KEY).await.ok()["rotation"].clone();
        (rotation["looked_at"].as_u64()? >= SECRETS as u64).then_some(rotation)
    })
    .await;
    assert_eq!(last["former_key_lost"], true, "{last}");
    let lost = last["unreadable"].as_u64().unwrap();
    assert!(lost > 0 && lost < SECRETS as u64, "{last}");
    let mut closed = 0;
    for number in 0..SECRETS {
        let answer = api.get(&format!("/v1/secrets/app/s{number}")).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{}", answer.text);
            assert_eq!(answer.body["error"]["details"]["reason"], "root_key_lost", "{}", answer.text);
            closed += 1;
        }
    }
    assert_eq!(closed, lost);
    let stuck = node.run(&["root-key", "status"]).await;
    assert!(stuck.contains("the former key is lost"), "{stuck}");
    node.kill().await;

    std::fs::write(node.data_dir().join("root.key"), whole).unwrap();
    node.boot().await;
    assert_readable(&api).await;
    eventually("the rotation has ended", async || {
        let ended = api.get(ROOT_KEY).await.ok()["rotation"].is_null();
        (ended && key_file(&node).lines().count() == 1).then_some(())
    })
    .await;
    assert!(node.log().contains("the rotation of the root key goes on"), "{}", node.log());
    assert_readable(&api).await;
    node.kill().await;
    let checked = node.run(&["check", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&checked).unwrap()["sound"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_tries_the_key_that_a_rotation_prepared_and_puts_the_right_one_in_place() {
    let (folder, config) = configured("");
    let mut node = TestProcess::start_configured(folder.path(), "site", &config).await;
    let api = node.api().await;
    let former = key_file(&node);
    let [file, next] = ["root.key", "root.key.next"].map(|name| node.data_dir().join(name));
    node.run(&["root-key", "rotate"]).await;
    eventually("the former key is forgotten", async || (key_file(&node).lines().count() == 1).then_some(()))
        .await;
    node.kill().await;

    // Killed after the store hung on the next key, before that had its name.
    std::fs::rename(&file, &next).unwrap();
    std::fs::write(&file, &former).unwrap();
    let checked = node.run(&["check", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&checked).unwrap()["sound"], true);
    node.boot().await;
    assert!(!next.exists());
    assert_ne!(key_file(&node), former);
    node.kill().await;

    // Killed before the store heard of the next key.
    std::fs::write(&next, &former).unwrap();
    node.boot().await;
    assert!(!next.exists());
    assert_ne!(key_file(&node), former);
    identity(&api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passphrase_is_made_first_and_followed_by_another() {
    let (folder, config) = configured("");
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    std::fs::write(&first, "correct horse\n").unwrap();
    std::fs::write(&second, "battery staple\n").unwrap();
    let [first_file, second_file] = [&first, &second].map(|path| path.to_str().unwrap());
    let environment = |path: &str| vec![("HANSA_ROOT_KEY_PASSPHRASE_FILE".to_owned(), path.to_owned())];
    let mut node = TestProcess::stopped_in(folder.path(), "site", &config, environment(first_file));
    node.run(&["root-key", "init", "--passphrase-file", first_file]).await;
    node.boot().await;
    let token = node.run(&["token", "mint", "--scope", "all"]).await;
    let api = Api::new(node.url()).bearer(token.trim());
    store_secrets(&api).await;

    api.act(ROTATE).await.refused(409, "root_key_refused");
    let shown = node.run(&["root-key", "rotate", "--passphrase-file", second_file]).await;
    assert!(shown.contains("passphrase"), "{shown}");
    node.kill().await;

    let refusal = node.refusal().await;
    assert!(
        refusal.contains("not the one of this root key") && refusal.contains("after a rotation"),
        "{refusal}"
    );
    let files = std::fs::read_to_string(node.data_dir().join("root.key")).unwrap();
    assert!(!files.contains("battery") && files.starts_with("hansa-root-key-argon2id-1 "), "{files}");
    let mut node = TestProcess::stopped_in(folder.path(), "site", &config, environment(second_file));
    node.boot().await;
    assert_readable(&Api::new(node.url()).bearer(token.trim())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_a_transit_engine_wraps_is_rotated_and_wrapped_by_it_too() {
    let bao = OpenBao::start().await;
    bao.with_transit("keys", "node-r").await;
    bao.with_policy("rotating", &["keys/encrypt/node-r", "keys/decrypt/node-r"]).await;
    let token = bao.token(&["rotating"]).await;
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token_file.path(), token).unwrap();
    let transit = format!(
        "[root_key_transit]\naddress = '{}'\nmount = 'keys'\nkey = 'node-r'\ntoken_file = '{}'\n",
        bao.url(),
        token_file.path().display()
    );
    let (folder, config) = configured(&transit);
    let mut node = TestProcess::start_configured(folder.path(), "site", &config).await;
    let api = node.api().await;
    store_secrets(&api).await;
    let wrapped = node.data_dir().join("root.key.transit");
    let former = std::fs::read_to_string(&wrapped).unwrap();

    api.post(ROTATE, &json!({"passphrase": "x"})).await.refused(409, "root_key_refused");
    let shown = node.run(&["root-key", "rotate", "-o", "json"]).await;

    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["kept_as"], "transit");
    eventually("the former key is forgotten", async || {
        (std::fs::read_to_string(&wrapped).unwrap().lines().count() == 1).then_some(())
    })
    .await;
    assert_ne!(std::fs::read_to_string(&wrapped).unwrap(), former);
    node.kill().await;
    node.boot().await;
    assert_readable(&api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_is_for_admins_and_a_node_without_a_place_for_its_key_says_so() {
    let node = TestNode::start(Role::None).await;
    let bad = json!({"passphrase": 1});

    assert_eq!(node.anonymous().post(ROTATE, &bad).await.status, 401);
    assert_eq!(node.anonymous().get(ROOT_KEY).await.status, 401);
    node.api().post(ROTATE, &bad).await.refused(400, "invalid_body");
    node.api().act(ROTATE).await.refused(409, "root_key_refused");
    let shown = node.api().get(ROOT_KEY).await.ok();
    assert_eq!(shown, json!({"kept_as": "none", "rotated_at": null, "rotation": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_key_is_made_once_and_never_for_data_that_hangs_on_another() {
    let (folder, config) = configured("");
    let mut node = TestProcess::stopped_in(folder.path(), "site", &config, Vec::new());

    let path = node.run(&["root-key", "init"]).await;
    let second = node.failed(&["root-key", "init"]).await;
    node.boot().await;
    node.kill().await;
    std::fs::remove_file(path.trim()).unwrap();
    let third = node.failed(&["root-key", "init"]).await;

    assert!(second.contains("exists already") && second.contains("try: hansa root-key rotate"), "{second}");
    assert!(third.contains("sealed under a key that is not there"), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_waits_is_unlocked_by_the_right_passphrase_alone() {
    let (folder, config) = configured("");
    std::fs::write(&config, "root_key_await_unlock = true\n").unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| folder.path().join(name));
    std::fs::write(&right, "correct horse\n").unwrap();
    std::fs::write(&wrong, "canary-battery\n").unwrap();
    let [right, wrong] = [&right, &wrong].map(|path| path.to_str().unwrap());
    let owner = TestProcess::stopped_in(folder.path(), "site", &config, Vec::new());
    let mut node = TestProcess::stopped_in(folder.path(), "site", &config, Vec::new());
    let unlock = async |file: &str| owner.failed(&["root-key", "unlock", "--passphrase-file", file]).await;
    let nobody = unlock(right).await;
    assert!(nobody.contains("no node waits") && nobody.contains("hansa serve --await-unlock"), "{nobody}");
    owner.run(&["root-key", "init", "--passphrase-file", right]).await;

    // The first start makes the store, the second finds it.
    for _ in 0..2 {
        let unlocking = async {
            let socket = owner.data_dir().join("unlock.sock");
            eventually("the node waits", async || socket.exists().then_some(())).await;
            assert_mode(&socket, 0o600);
            let refusal = unlock(wrong).await;
            assert!(refusal.contains("not the one of this root key"), "{refusal}");
            assert!(refusal.contains("try: the right passphrase"), "{refusal}");
            owner.run(&["root-key", "unlock", "--passphrase-file", right]).await;
        };
        tokio::join!(node.boot(), unlocking);
        assert!(!node.data_dir().join("unlock.sock").exists());
        let shown = owner.run(&["root-key", "status", "-o", "json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["kept_as"], "passphrase");
        node.kill().await;
    }
    assert!(!node.log().contains("canary-battery") && !node.log().contains("correct horse"));
}

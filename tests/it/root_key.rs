//! A root key that a transit engine wraps, with a real OpenBao and the real program.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa::system::SystemEntropy;
use hansa_storage::{DirDisk, Driver, RootKey, Store, StoreConfig, table};
use hansa_tests::{OpenBao, TestProcess, binary};
use serde_json::json;
use tempfile::TempDir;

const TOKEN_FILE: &str = "vault-token";
const IDENTITY: &str = "/api/v1/federation/identity-key";

/// A folder with a configuration that names the server, and a file with a token.
fn configured(bao: &OpenBao, token: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(TOKEN_FILE), format!("{token}\n")).unwrap();
    let login = format!("token_file = '{}'", folder.path().join(TOKEN_FILE).display());
    let config = configuration(folder.path(), bao, &login);
    (folder, config)
}

fn configuration(folder: &Path, bao: &OpenBao, login: &str) -> PathBuf {
    let path = folder.join("hansa.toml");
    let text =
        format!("[root_key_transit]\naddress = '{}'\nmount = 'keys'\nkey = 'node-1'\n{login}\n", bao.url());
    std::fs::write(&path, text).unwrap();
    path
}

/// A server with the key, and a token that may wrap and unwrap by it and nothing else.
async fn engine() -> (OpenBao, String) {
    let bao = OpenBao::start().await;
    bao.with_transit("keys", "node-1").await;
    bao.with_policy("hansa", &["keys/encrypt/node-1", "keys/decrypt/node-1"]).await;
    let token = bao.token(&["hansa"]).await;
    (bao, token)
}

/// A command on a node that does not run, with this configuration.
async fn command(config: &Path, arguments: &[&str]) -> Output {
    let running = tokio::process::Command::new(binary())
        .args(arguments)
        .env("HANSA_CONFIG", config)
        .stdin(Stdio::null())
        .output();
    running.await.unwrap()
}

async fn identity(node: &TestProcess) -> String {
    node.api().await.get(IDENTITY).await.ok()["fingerprint"].as_str().unwrap().to_owned()
}

/// All bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes_below(&path));
        } else if path.is_file() {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn assert_mode(path: &Path, expected: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, expected, "{}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapped_root_key_opens_the_node_at_each_start_and_is_not_needed_while_it_runs() {
    let (mut bao, token) = engine().await;
    let (folder, config) = configured(&bao, &token);
    let mut node = TestProcess::start_configured(folder.path(), "coordinator", &config).await;
    let before = identity(&node).await;

    node.kill().await;
    node.boot().await;
    let after = identity(&node).await;
    bao.stop().await;
    let without = node
        .api()
        .await
        .post("/api/v1/federation/sites", &json!({"name": "a", "url": "https://a.example.com"}))
        .await;

    assert_eq!(before, after);
    without.ok();
    assert_mode(&node.data_dir().join("root.key.transit"), 0o600);
    assert!(!node.data_dir().join("root.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn start_says_what_to_do_about_each_way_that_the_engine_fails() {
    let (mut bao, token) = engine().await;
    let (folder, config) = configured(&bao, &token);
    let mut node = TestProcess::start_configured(folder.path(), "site", &config).await;
    node.kill().await;
    let wrapped = node.data_dir().join("root.key.transit");
    let original = std::fs::read(&wrapped).unwrap();
    let token_file = folder.path().join(TOKEN_FILE);
    let says = async |node: &TestProcess, words: &[&str]| {
        let refusal = node.refusal().await;
        assert!(words.iter().all(|word| refusal.contains(word)), "{words:?} in {refusal}");
        assert!(refusal.contains("try: "), "{refusal}");
        refusal
    };

    std::fs::write(&token_file, "s.canary9d1e").unwrap();
    let refusal = says(&node, &["refuses", "token", "update on keys/encrypt/node-1"]).await;
    assert!(!refusal.contains("canary9d1e"), "{refusal}");
    let other = bao.token(&["default"]).await;
    std::fs::write(&token_file, &other).unwrap();
    says(&node, &["refuses", "may not use keys/node-1"]).await;
    std::fs::write(&token_file, &token).unwrap();

    std::fs::remove_file(&wrapped).unwrap();
    says(&node, &["root.key.transit", "lost"]).await;
    std::fs::write(&wrapped, "hansa-root-key-transit-1 vault:v1:AAAA").unwrap();
    says(&node, &["wrapped by another key"]).await;
    std::fs::write(&wrapped, &original).unwrap();

    bao.seal().await;
    says(&node, &["sealed", "unseal"]).await;
    bao.stop().await;
    says(&node, &[&bao.url(), "cannot be reached"]).await;

    // The same address and names, and neither engine nor key.
    bao.boot().await;
    std::fs::write(&token_file, bao.root_token()).unwrap();
    says(&node, &["no such engine", "bao secrets enable -path=keys transit"]).await;
    bao.write("sys/mounts/keys", &json!({"type": "transit"})).await;
    says(&node, &["has no key node-1", "keys/keys/node-1"]).await;
    bao.write("keys/keys/node-1", &json!({})).await;
    says(&node, &["wrapped by another key"]).await;
    assert_eq!(std::fs::read(&wrapped).unwrap(), original);
}

#[tokio::test(flavor = "multi_thread")]
async fn stolen_data_folder_gives_no_secret_without_the_engine() {
    let (bao, token) = engine().await;
    let (folder, config) = configured(&bao, &token);
    let mut node = TestProcess::start_configured(folder.path(), "coordinator", &config).await;
    node.kill().await;
    let data = node.data_dir();

    // What the engine's owner can have: the key, and with it what is sealed.
    let wrapped = std::fs::read_to_string(data.join("root.key.transit")).unwrap();
    let ciphertext = wrapped.trim().strip_prefix("hansa-root-key-transit-1 ").unwrap();
    let answer = bao.write("keys/decrypt/node-1", &json!({"ciphertext": ciphertext})).await;
    let encoded = answer["data"]["plaintext"].as_str().unwrap();
    let root_key: [u8; 32] = STANDARD.decode(encoded).unwrap().try_into().unwrap();
    let secrets = sealed_values(&data, &RootKey::new(root_key)).await;
    assert!(!secrets.is_empty());
    // What a thief has: the folder.
    let mut canaries = vec![root_key.to_vec(), encoded.as_bytes().to_vec(), token.into_bytes()];
    canaries.push(root_key.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    canaries.extend(secrets.into_iter().filter(|secret| secret.len() >= 16));
    for (path, bytes) in bytes_below(&data) {
        for canary in &canaries {
            assert!(memchr::memmem::find(&bytes, canary).is_none(), "{}", path.display());
        }
    }
    let without = command(Path::new("/dev/null"), &["check", "--data-dir", data.to_str().unwrap()]).await;
    let words = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && words.contains("[root_key_transit]"), "{words}");
}

async fn sealed_values(data: &Path, root_key: &RootKey) -> Vec<Vec<u8>> {
    let disk = Arc::new(DirDisk::new(data).unwrap());
    let config = StoreConfig::default();
    let store = Store::open(config, disk, Driver::Thread, root_key, Arc::new(SystemEntropy)).unwrap();
    let view = store.read().unwrap();
    let names = view.all::<table::Identity>(..).unwrap();
    let secrets = names
        .into_iter()
        .map(|(name, _)| view.get_sealed::<table::Identity>(&name).unwrap().unwrap().expose().clone())
        .collect();
    drop(view);
    store.close().await;
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn node_moves_from_a_key_file_to_an_engine_and_logs_in_by_approle() {
    let (bao, _) = engine().await;
    let (role_id, secret_id) = bao.approle("hansa", &["hansa"]).await;
    let folder = tempfile::tempdir().unwrap();
    let files = ["role-id", "secret-id"].map(|name| folder.path().join(name));
    std::fs::write(&files[0], role_id).unwrap();
    std::fs::write(&files[1], secret_id).unwrap();
    let [role_id_file, secret_id_file] = files.each_ref().map(|path| path.display());
    let login = format!("role_id_file = '{role_id_file}'\nsecret_id_file = '{secret_id_file}'");
    let config = configuration(folder.path(), &bao, &login);
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    let mut plain =
        TestProcess::start_configured(folder.path(), "site", &folder.path().join("empty.toml")).await;
    let before = identity(&plain).await;
    plain.kill().await;
    let key_file = plain.data_dir().join("root.key");

    let mut moved = TestProcess::start_configured(folder.path(), "site", &config).await;
    assert!(moved.log().contains("remove the key file"), "{}", moved.log());
    std::fs::remove_file(&key_file).unwrap();
    moved.kill().await;
    moved.boot().await;
    let after = identity(&moved).await;
    moved.kill().await;
    let data = moved.data_dir();
    let checked = command(&config, &["check", "-o", "json", "--data-dir", data.to_str().unwrap()]).await;
    let shown =
        command(&config, &["identity", "show", "-o", "json", "--data-dir", data.to_str().unwrap()]).await;

    assert_eq!(before, after);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&report["sound"], &report["root_key_beside_data"]), (&json!(true), &json!(false)));
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&before));
    std::fs::write(files[1].as_path(), "wrong").unwrap();
    let refusal = moved.refusal().await;
    assert!(refusal.contains("does not take the AppRole"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_file_of_another_node_is_never_wrapped_in_place_of_the_right_one() {
    let (bao, token) = engine().await;
    let (folder, config) = configured(&bao, &token);
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    let mut plain =
        TestProcess::start_configured(folder.path(), "site", &folder.path().join("empty.toml")).await;
    plain.kill().await;
    let key_file = plain.data_dir().join("root.key");
    let right = std::fs::read(&key_file).unwrap();
    std::fs::write(&key_file, format!("hansa-root-key-1 {}\n", "5".repeat(64))).unwrap();

    let data = plain.data_dir();
    let refused =
        command(&config, &["serve", "--data-dir", data.to_str().unwrap(), "--listen=127.0.0.1:0"]).await;

    assert!(!refused.status.success());
    assert!(!data.join("root.key.transit").exists());
    std::fs::write(&key_file, right).unwrap();
    TestProcess::start_configured(folder.path(), "site", &config).await.kill().await;
    assert!(data.join("root.key.transit").exists());
}

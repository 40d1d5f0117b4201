//! A stolen data folder without its root key gives no secret value, no bearer and no private key: every file is
//! searched for canaries, in five encodings (threat-model, T8).
//!
//! The five: as they are; hexadecimal in either case; base64 in both alphabets and at each of the three places
//! where a value may begin in it; UTF-16 in both orders of bytes; percent-encoded in either case.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hansa::system::SystemEntropy;
use hansa_storage::{DirDisk, Driver, RootKey, Store, StoreConfig, table};
use hansa_tests::{Api, OpenBao, TestProcess, eventually};
use serde_json::{Value, json};

/// A secret, and what it is for whoever reads a failure.
type Canary = (&'static str, Vec<u8>);

/// The five encodings, each with its spellings.
fn encodings(secret: &[u8]) -> [(&'static str, Vec<Vec<u8>>); 5] {
    let each = |spell: &dyn Fn(&u8) -> String| secret.iter().map(spell).collect::<String>().into_bytes();
    let wide = |order: fn(u16) -> [u8; 2]| secret.iter().flat_map(|byte| order(u16::from(*byte))).collect();
    let mut base64 = Vec::new();
    for before in 0..3 {
        let bytes = [vec![0; before], secret.to_vec()].concat();
        // The digits that this secret alone decides, whatever stands around it.
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            base64.push(text.as_bytes()[from..to].to_vec());
        }
    }
    [
        ("as it is", vec![secret.to_vec()]),
        ("hexadecimal", vec![each(&|byte| format!("{byte:02x}")), each(&|byte| format!("{byte:02X}"))]),
        ("base64", base64),
        ("UTF-16", vec![wide(u16::to_le_bytes), wide(u16::to_be_bytes)]),
        ("percent", vec![each(&|byte| format!("%{byte:02x}")), each(&|byte| format!("%{byte:02X}"))]),
    ]
}

/// All files below a folder, but the root key, which the thief does not have.
fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.is_file() && path.file_name().is_some_and(|name| name != "root.key") {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// What is found, and where.
fn search(folder: &Path, canaries: &[Canary]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, bytes) in files_below(folder) {
        for (name, canary) in canaries {
            for (encoding, spellings) in encodings(canary) {
                if spellings.iter().any(|spelling| memchr::memmem::find(&bytes, spelling).is_some()) {
                    found.push(format!("{name}, {encoding}, in {}", path.display()));
                }
            }
        }
    }
    found
}

fn assert_nothing_in(folder: &Path, canaries: &[Canary], when: &str) {
    let bytes: usize = files_below(folder).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes > 100_000, "{when}: the folder holds a store: {bytes} bytes");
    assert_eq!(search(folder, canaries), Vec::<String>::new(), "{when}");
}

/// The private keys that a stopped node keeps, as whoever has the root key reads them.
async fn private_keys(data: &Path) -> Vec<Canary> {
    let disk = DirDisk::new(data).unwrap();
    let key = RootKey::load_or_create(&data.join("root.key"), &SystemEntropy).unwrap();
    let entropy = Arc::new(SystemEntropy);
    let store = Store::open(StoreConfig::default(), Arc::new(disk), Driver::Thread, &key, entropy).unwrap();
    let view = store.read().unwrap();
    let names = view.all::<table::Identity>(..).unwrap();
    let mut canaries: Vec<Canary> = names
        .into_iter()
        .map(|(name, _)| view.get_sealed::<table::Identity>(&name).unwrap().unwrap().expose().clone())
        .map(|bytes| ("a private key", bytes))
        .collect();
    let identity = view.get_sealed::<table::Identity>("identity-ed25519").unwrap().unwrap();
    canaries.push(("the seed of the identity", identity.expose()[16..48].to_vec()));
    drop(view);
    store.close().await;
    canaries.push(("the root key", key.bytes().expose().to_vec()));
    canaries
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("{name} in {answer}"))
}

fn canary(name: &'static str, text: &str) -> Canary {
    (name, text.as_bytes().to_vec())
}

/// Makes one secret of each kind and uses it, over the API.
async fn use_secrets(api: &Api, bao: &OpenBao) -> Vec<Canary> {
    let rules = "path \"secret/*\" { capabilities = [\"read\", \"list\"] }";
    bao.write("sys/policies/acl/thief", &json!({"policy": rules})).await;
    let token = bao.token(&["thief"]).await;
    let mut canaries = vec![
        canary("a secret's value", "canary-local-4fd1b7aa09"),
        canary("a secret's older value", "canary-older-1c9e55d270"),
        canary("a synced value", "canary-synced-83ab20fe61"),
        canary("a password", "canary-password-77b1c0de"),
        canary("a backend's token", &token),
    ];
    for value in ["canary-older-1c9e55d270", "canary-local-4fd1b7aa09"] {
        api.put("/v1/secrets/app/db", &json!({"data": {"password": value}})).await.ok();
    }
    api.put("/v1/secrets/infra/bao", &json!({"data": {"token": token}})).await.ok();
    bao.write("secret/data/shop/db", &json!({"data": {"password": "canary-synced-83ab20fe61"}})).await;
    let backend = json!({
        "name": "bao", "type": "hashicorp-vault", "mode": "sync", "sync_interval": "1h",
        "config": {"endpoint": bao.url(), "auth_method": "token", "auth_config_path": "infra/bao"},
        "path_mapping": {"external/shop/**": "secret/data/shop/**"},
    });
    let made = api.post("/v1/federation/backends", &backend).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let sync = format!("/v1/federation/backends/{}/sync", text(&made.body, "id"));
    eventually("the copy is there", async || {
        api.post(&sync, &json!({})).await;
        let read = api.get("/v1/secrets/external/shop/db").await;
        (read.status == 200).then_some(())
    })
    .await;

    let key = api.post("/api/v1/api-keys", &json!({"name": "ci", "scopes": ["hosts:read"]})).await;
    assert_eq!(key.status, 201, "{}", key.text);
    canaries.push(canary("an API key", text(&key.body, "key")));
    let user = json!({"userid": "ada@example.com", "password": "canary-password-77b1c0de", "scopes": ["hosts:read"]});
    let made = api.post("/api/v1/users", &user).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let login = json!({"userid": "ada@example.com", "password": "canary-password-77b1c0de"});
    api.anonymous().post("/api/v1/login", &login).await.ok();

    api.post("/v1/approles", &json!({"name": "ci"})).await;
    let made = api.post("/v1/approles/ci/secret-id", &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    canaries.push(canary("an AppRole's secret id", text(&made.body, "secret_id")));
    let ids = json!({"role_id": made.body["role_id"], "secret_id": made.body["secret_id"]});
    let login = api.anonymous().post("/vault/v1/auth/approle/login", &ids).await.ok();
    canaries.push(canary("a Vault token", text(&login["auth"], "client_token")));

    let site = json!({"name": "berlin", "url": "https://berlin.example.com"});
    let invited = api.post("/api/v1/federation/sites", &site).await;
    canaries.push(canary("an enrollment token", text(&invited.body, "enrollment_token")));
    canaries
}

#[tokio::test(flavor = "multi_thread")]
async fn stolen_folder_gives_no_secret_in_any_of_five_encodings_at_any_time() {
    let bao = OpenBao::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hansa.toml");
    std::fs::write(&config, "[backends]\nallowed_addresses = ['127.0.0.0/8']\nhttp_to_loopback = true\n")
        .unwrap();
    let mut node = TestProcess::start_configured(folder.path(), "coordinator", &config).await;
    let api = node.api().await;
    let data = node.data_dir();

    let mut canaries = use_secrets(&api, &bao).await;
    assert_nothing_in(&data, &canaries, "while it runs");
    api.act("/api/v1/backup").await;
    node.kill().await;
    canaries.extend(private_keys(&data).await);
    assert_nothing_in(&data, &canaries, "after a kill, with a backup");

    node.boot().await;
    node.run(&["root-key", "rotate"]).await;
    assert_nothing_in(&data, &canaries, "after a rotation");
    for path in ["app/db", "infra/bao", "external/shop/db"] {
        api.delete(&format!("/v1/secrets/{path}")).await;
        api.delete(&format!("/v1/secrets/{path}?hard=true")).await;
    }
    api.delete("/v1/approles/ci").await;
    node.kill().await;
    canaries.extend(private_keys(&data).await);
    assert_nothing_in(&data, &canaries, "after all was deleted");
}

#[test]
fn search_finds_a_secret_in_each_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let secret = b"canary-\x00\xff-4fd1b7aa";
    for (number, (encoding, spellings)) in encodings(secret).into_iter().enumerate() {
        for spelling in spellings {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, [b"before", spelling.as_slice(), b"after"].concat()).unwrap();

            let found = search(folder.path(), &[("it", secret.to_vec())]);

            assert!(found.iter().any(|found| found.contains(encoding)), "{encoding}: {found:?}");
            std::fs::remove_file(path).unwrap();
        }
    }
    for before in ["", "a", "ab"] {
        let text = STANDARD_NO_PAD.encode([before.as_bytes(), secret, b"xyz"].concat());
        std::fs::write(folder.path().join("nested"), text).unwrap();

        assert_eq!(search(folder.path(), &[("it", secret.to_vec())]).len(), 1, "{before:?}");
    }
}

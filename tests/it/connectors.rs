//! Connectors: real programs and webhooks, with their limits, and a whole federation on top.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hansa::config::ConnectorLayer;
use hansa::connector::Declared;
use hansa_actors::{Connectors, NoConnectors, Outcome, Task, Work, WorkHost};
use hansa_model::HostId;
use hansa_model::enrollment::Role;
use hansa_model::id::CommandId;
use hansa_tests::{TestFederation, TestNode, eventually, host};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

fn script(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn layer(program: &Path, more: &str) -> ConnectorLayer {
    let text =
        format!("name = 'test'\nkinds = ['command:*']\nprogram = ['{}', 'fixed']\n{more}", program.display());
    toml::from_str(&text).unwrap()
}

fn declared(layers: Vec<ConnectorLayer>) -> Declared {
    let connectors = layers.into_iter().map(|layer| layer.resolve().unwrap()).collect();
    Declared::new(connectors).unwrap()
}

fn work(hosts: u128) -> Work {
    work_with(hosts, "{}".to_owned())
}

fn work_with(hosts: u128, parameters: String) -> Work {
    let host = |number| WorkHost {
        host_id: HostId(Uuid::from_u128(number)),
        fqdn: format!("host-{number}"),
        ipv4: None,
        ipv6: None,
    };
    let task = Task::Command { id: CommandId(Uuid::nil()), command_type: "run".to_owned(), parameters };
    Work { task, hosts: (0..hosts).map(host).collect() }
}

async fn outcome(text: &str, more: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let never = folder.path().join("never");
    let script_of_the_coordinator = format!("$(touch {0}); `touch {0}`", never.display());
    let program = script(&folder, "program", text);
    let work = work_with(2, json!({"text": script_of_the_coordinator}).to_string());
    let outcome = declared(vec![layer(&program, more)]).carry_out(work).await;
    assert!(!never.exists());
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn program_reads_json_and_answers_with_json() {
    let outcome = outcome(
        r#"input=$(cat); id=$(printf %s "$input" | sed 's/.*"host_id":"\([^"]*\)".*/\1/')
        printf '{"success":false,"detail":"%s %s","results":{"%s":{"success":true,"detail":"done"}}}' "$#" "$1" "$id""#,
        "",
    )
    .await;

    assert_eq!((outcome.success, outcome.detail.as_str()), (false, "1 fixed"));
    assert_eq!(outcome.results.len(), 1);
    assert!(outcome.results.values().all(|result| result.success && result.detail == "done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn program_sees_hardly_an_environment_and_no_word_of_the_coordinator_as_an_argument() {
    let outcome =
        outcome(r#"printf '{"detail":"%s"}' "$(env | cut -d= -f1 | sort | tr '\n' ' ') $*""#, "").await;

    let names: Vec<&str> = outcome.detail.split_whitespace().collect();
    assert!(
        names.iter().all(|name| ["LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "fixed"].contains(name)),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_and_noise_are_failures_with_what_the_program_said() {
    let failed = outcome("echo 'disk on fire' >&2; exit 3", "").await;
    let liar = outcome(r#"echo '{"success":true}'; exit 1"#, "").await;
    let noise = outcome("echo done", "").await;
    let silent = outcome("exit 0", "").await;

    assert!(
        !failed.success && failed.detail.contains("disk on fire") && failed.detail.contains('3'),
        "{failed:?}"
    );
    assert!(!liar.success && !noise.success && silent.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let text = format!("(sleep 3; touch {}) & sleep 60", mark.display());
    let started = Instant::now();

    let outcome = outcome(&text, "wait_seconds = 1").await;

    assert!(!outcome.success && outcome.detail.contains("longer than 1 s"), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!mark.exists(), "a process of the group lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_says_too_much_fails() {
    let outcome = outcome("head -c 6000000 /dev/zero | tr '\\0' 'a'", "").await;

    assert!(!outcome.success && outcome.detail.contains("more than"), "{}", outcome.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_run_takes_its_processes_along() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let program = script(&folder, "program", &format!("sleep 2; touch {}", mark.display()));
    let declared = declared(vec![layer(&program, "")]);

    let cut = tokio::time::timeout(Duration::from_millis(500), declared.carry_out(work(1))).await;

    assert!(cut.is_err());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!mark.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn program_runs_as_the_user_that_is_named() {
    if !rustix::process::geteuid().is_root() {
        let own = rustix::process::geteuid().as_raw();
        let layer = layer(Path::new("/bin/true"), "user = 'root'");
        assert!(layer.resolve().is_err(), "user {own} cannot become root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = script(&folder, "program", r#"printf '{"detail":"%s"}' "$(id -u)""#);

    let outcome = declared(vec![layer(&program, "user = 'nobody'")]).carry_out(work(1)).await;

    let (nobody, _) = (65_534, ());
    assert_eq!(outcome.detail, nobody.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn first_connector_that_serves_a_kind_is_taken_and_others_are_refused() {
    let echo: ConnectorLayer =
        toml::from_str("name = 'e'\nbuiltin = 'echo'\nkinds = ['command:echo', 'lease:*']").unwrap();
    let all = layer(Path::new("/bin/true"), "per_host = true");
    let declared = declared(vec![echo, all]);

    let served = |kind: &str| declared.serves(kind).map(|service| service.name);

    assert_eq!(served("command:echo").as_deref(), Some("e"));
    assert_eq!(served("command:reboot").as_deref(), Some("test"));
    assert_eq!(served("policy:echo"), None);
    assert!(declared.serves("command:reboot").unwrap().per_host);
    assert_eq!(declared.declared().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_is_posted_the_same_json_with_its_bearer() {
    let node = TestNode::start(Role::Site).await;
    let folder = tempfile::tempdir().unwrap();
    let bearer = folder.path().join("bearer");
    std::fs::write(&bearer, "not-a-token\n").unwrap();
    let text = format!(
        "name = 'hook'\nkinds = ['command:*']\nwebhook = '{}/api/v1/federation/site/leave'\nbearer_file = '{}'",
        node.url(),
        bearer.display()
    );
    let hook: ConnectorLayer = toml::from_str(&text).unwrap();

    let refused = declared(vec![hook.clone()]).carry_out(work(1)).await;
    std::fs::remove_file(&bearer).unwrap();
    let unreadable = declared(vec![hook]).carry_out(work(1)).await;

    assert_eq!(refused.detail, "the webhook answered HTTP 401");
    assert!(!unreadable.success && unreadable.detail.contains("bearer"), "{unreadable:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_of_a_real_coordinator_runs_a_real_program_at_each_host() {
    let folder = tempfile::tempdir().unwrap();
    let program =
        script(&folder, "program", r#"cat > /dev/null; echo '{"success":true,"detail":"rebooted"}'"#);
    let mut layer = layer(&program, "per_host = true");
    layer.kinds = vec!["command:reboot".to_owned()];
    let connectors: Arc<dyn Connectors> = Arc::new(declared(vec![layer]));
    let federation = TestFederation::start(0).await;
    let node = TestNode::start_connected(Role::Site, connectors).await;
    let id = federation.join(&node, "worker").await;
    node.api()
        .put("/api/v1/site/hosts", &json!({"entries": [host(1, 1), host(1, 2), host(1, 3)]}))
        .await
        .ok();

    let dispatch =
        json!({"command_type": "reboot", "target_site_id": id, "parameters": null, "target_host_ids": []});
    let answer = federation.api().post("/api/v1/federation/commands/dispatch", &dispatch).await.licensed();
    let path = format!("/api/v1/federation/commands/{}", answer["command"]["id"].as_str().unwrap());

    let done: Value = eventually("the result is back", async || {
        let command = federation.api().get(&path).await.licensed()["command"].clone();
        (command["status"] == "completed").then_some(command)
    })
    .await;
    assert!(done["completed_at"].is_string(), "{done}");
    let left = node.api().post("/api/v1/federation/site/leave", &json!({})).await.licensed();
    assert_eq!(left["notified"], true);
    assert_eq!(federation.site(&id).await["status"], "removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_that_no_connector_takes_is_refused_at_once_and_the_lease_fails() {
    let federation = TestFederation::start(0).await;
    let node = TestNode::start_connected(Role::Site, Arc::new(NoConnectors)).await;
    federation.join(&node, "bare").await;
    let wish = json!({
        "host_id": "web-1", "secret_name": "orders", "backend_role": "reader", "kind": "database",
        "ttl_seconds": 600,
    });

    assert_eq!(node.api().post("/api/v1/site/secret-requests", &wish).await.status, 201);

    let lease: Value = eventually("the coordinator knows that the lease failed", async || {
        let listed = federation.api().get("/api/v1/federation/secret-leases").await.licensed();
        listed["leases"].as_array()?.iter().find(|lease| lease["status"] == "failed").cloned()
    })
    .await;
    let error = lease["last_error"].as_str().unwrap();
    assert_eq!(error, "the site refused it: no connector is declared at this site for lease:database");
    assert!(lease["delivered_at"].is_null(), "{lease}");
}

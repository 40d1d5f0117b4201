//! `hansa dev`: a federation in one process that a stranger can try, and find again.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;

use hansa_tests::{Api, binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

async fn start(folder: &Path) -> (Child, Value) {
    let ready = folder.join("ready.json");
    let child = Command::new(binary())
        .args(["dev", "--sites", "2", "--hosts", "40", "--data-dir"])
        .arg(folder.join("dev"))
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let content = eventually("the ready file", async || {
        std::fs::read_to_string(&ready).ok().map(|text| serde_json::from_str(&text).expect("written whole"))
    })
    .await;
    (child, content)
}

async fn interrupt(mut child: Child) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT).unwrap();
    let status = tokio::time::timeout(hansa_tests::WAIT_MAX, child.wait()).await.expect("it stops").unwrap();
    assert!(status.success(), "{status}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn development_federation_is_searchable_when_it_says_so_and_carries_on_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();

    let (child, ready) = start(folder.path()).await;
    let coordinator = &ready["coordinator"];
    let api = Api::new(text(&coordinator["url"])).bearer(text(&coordinator["token"]));
    let first = api.get("/api/v1/federation/hosts?limit=1").await.licensed();
    let sites = api.get("/api/v1/federation/sites?status=enrolled").await.licensed();
    assert_eq!(ready["pid"].as_u64(), child.id().map(u64::from));
    assert_eq!(sites["sites"].as_array().map(Vec::len), Some(2));
    for site in ready["sites"].as_array().unwrap() {
        for member in ["name", "site_id", "url", "quic", "token", "data_dir"] {
            assert!(!text(&site[member]).is_empty(), "{member}");
        }
        let own = Api::new(text(&site["url"])).bearer(text(&site["token"]));
        let held = own.get("/api/v1/site/hosts?limit=1").await.ok()["total"].as_u64().unwrap();
        let path = format!("/api/v1/federation/hosts?limit=1&site_id={}", text(&site["site_id"]));
        let found = api.get(&path).await.licensed()["total"].as_u64().unwrap();
        assert!(held > 0 && found > 0, "{} of {held} found", found);
        // Operators of the centre are strangers at a site.
        let foreign = Api::new(text(&site["url"])).bearer(text(&coordinator["token"]));
        foreign.get("/api/v1/site/hosts").await.refused(401, "token_invalid");
    }
    interrupt(child).await;
    let (child, again) = start(folder.path()).await;
    let api = Api::new(text(&again["coordinator"]["url"])).bearer(text(&again["coordinator"]["token"]));
    let second = api.get("/api/v1/federation/hosts?limit=1").await.licensed();
    interrupt(child).await;

    assert!(first["total"].as_u64() > Some(0) && second["total"].as_u64() > Some(0));
    let ids = |ready: &Value| {
        let sites = ready["sites"].as_array().unwrap().clone();
        sites.iter().map(|site| text(&site["site_id"]).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&again), ids(&ready));
}

#[tokio::test(flavor = "multi_thread")]
async fn development_federation_moves_when_the_coordinator_s_port_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (child, before) = start(folder.path()).await;
    interrupt(child).await;
    let url = text(&before["coordinator"]["url"]);
    let quic: SocketAddr = text(&before["coordinator"]["quic"]).parse().unwrap();
    let _http = TcpListener::bind(url.strip_prefix("http://").unwrap()).unwrap();
    let _quic = UdpSocket::bind(quic).unwrap();

    let (child, after) = start(folder.path()).await;

    assert_ne!(text(&after["coordinator"]["url"]), url);
    for (site, was) in after["sites"].as_array().unwrap().iter().zip(before["sites"].as_array().unwrap()) {
        let own = Api::new(text(&site["url"])).bearer(text(&site["token"]));
        let status = own.get("/api/v1/federation/site/enrollment-status").await.licensed();
        assert_eq!(site["site_id"], was["site_id"]);
        assert_eq!(status["coordinator"]["coordinator_url"], after["coordinator"]["url"]);
        assert_eq!(status["coordinator"]["quic_address"], after["coordinator"]["quic"]);
        eventually("the site is linked again", async || {
            let status = own.get("/api/v1/federation/site/sync-status").await.licensed();
            (status["state"] == "online").then_some(())
        })
        .await;
    }
    interrupt(child).await;
}

//! `kill -9` of either process at any moment: every host that the site acknowledged arrives, once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hansa_tests::{Api, Dice, TestProcess, eventually, host, host_id, rows_of};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

const MOMENTS: usize = 50;

/// Every host that the site has acknowledged, with the status it was given.
type Acknowledged = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_host_arrives_once_through_fifty_kills() {
    let dice = Dice::of_environment();
    let (centre, member) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut coordinator = TestProcess::start(centre.path(), "coordinator").await;
    let mut site = TestProcess::start(member.path(), "site").await;
    let (coordinator_api, site_api) = (coordinator.api().await, site.api().await);
    join(&coordinator_api, &site_api).await;

    let stop = AtomicBool::new(false);
    let acknowledged = Mutex::new(Acknowledged::new());
    let killing = async {
        for moment in 0..MOMENTS {
            let wait = dice.wait(Duration::from_millis(150));
            let victim = dice.roll(2);
            println!("moment {moment}: after {wait:?} {}", ["coordinator", "site"][usize::from(victim == 1)]);

            tokio::time::sleep(wait).await;
            let process = if victim == 0 { &mut coordinator } else { &mut site };
            process.kill().await;
            process.boot().await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(killing, write(&site_api, &acknowledged, &stop));

    let expected = acknowledged.into_inner();
    eventually("the coordinator holds what the site acknowledged", async || {
        let depth = site_api.get("/api/v1/federation/site/sync-queue/depth").await.ok();
        let total = coordinator_api.get("/api/v1/federation/hosts?limit=1").await.ok();
        (depth["depth"] == 0 && total["total"] == expected.len()).then_some(())
    })
    .await;
    println!("{} hosts acknowledged", expected.len());
    let held = statuses(&coordinator_api, "/api/v1/federation/hosts").await;
    assert_eq!(statuses(&site_api, "/api/v1/site/hosts").await, expected);
    assert_eq!(held, expected);
}

/// Adds, changes and removes hosts without a pause. A call without an answer is repeated until it has one.
async fn write(api: &Api, acknowledged: &Mutex<Acknowledged>, stop: &AtomicBool) {
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let first = round * 3;
        let change = host(1, first.saturating_sub(4));
        let mut changed = change.clone();
        changed["status"] = json!(format!("round-{round}"));
        let entries: Vec<Value> = (first..first + 3).map(|number| host(1, number)).collect();
        let removed = (round > 10 && round.is_multiple_of(7)).then(|| host_id(1, first - 21));
        let mut all = entries.clone();
        if round > 2 {
            all.push(changed.clone());
        }
        let body = json!({"entries": all, "remove": removed.iter().collect::<Vec<_>>()}).to_string();
        loop {
            let sent =
                api.try_send(Method::PATCH, "/api/v1/site/hosts", Some(body.clone().into()), &[]).await;
            if let Ok(answer) = sent
                && answer.is_success()
            {
                assert_eq!(answer.body["skipped"], json!([]), "{}", answer.text);
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut acknowledged = acknowledged.lock().await;
        for entry in all {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            acknowledged.insert(text("host_id"), text("status"));
        }
        if let Some(removed) = removed {
            acknowledged.remove(&removed);
        }
        round += 1;
    }
}

async fn statuses(api: &Api, path: &str) -> Acknowledged {
    let rows = rows_of(api, path).await;
    rows.into_iter().map(|(id, row)| (id, row["status"].as_str().unwrap_or_default().to_owned())).collect()
}

async fn join(coordinator: &Api, site: &Api) {
    let key = site.get("/api/v1/federation/identity-key").await.ok();
    let body = json!({
        "name": "mortal",
        "url": site.base(),
        "site_identity_public_key_pem": key["public_key_pem"],
    });
    let invitation = coordinator.post("/api/v1/federation/sites", &body).await.licensed();
    let identity = coordinator.get("/api/v1/federation/identity-key").await.ok();
    let body = json!({
        "coordinator_url": coordinator.base(),
        "enrollment_token": invitation["enrollment_token"],
        "coordinator_identity_public_key_pem": identity["public_key_pem"],
    });
    site.post("/api/v1/federation/site/enroll", &body).await.licensed();
}

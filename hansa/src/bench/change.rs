//! A change at a site until the coordinator's search shows it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{self, Connection};
use super::process::NodeProcess;
use super::{Plan, failed, quantiles};
use crate::cli::failure::{Exit, Failure};
use crate::client::Client;

/// Changes of the figure.
const CHANGES: u32 = 200;
/// A change that is not there by then is a defect.
const SHOWN_WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let coordinator = NodeProcess::start(&plan.folder.join("coordinator"), "coordinator").await?;
    let site = NodeProcess::start(&plan.folder.join("site"), "site").await?;
    join(&coordinator, &site).await?;
    let mut at_site = Connection::open(&site.ready.url, &http::token(&site.data_dir).await?).await?;
    let token = http::token(&coordinator.data_dir).await?;
    let mut at_coordinator = Connection::open(&coordinator.ready.url, &token).await?;

    let (mut shown, mut accepted) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let mark = format!("mark-{change}");
        let entry = json!({"entries": [{
            "host_id": "00000000-0000-7000-8000-000000000001",
            "fqdn": "bench.example.com",
            "status": mark,
        }]});
        let started = Instant::now();
        at_site.patch("/api/v1/site/hosts", &entry).await?;
        accepted.push(started.elapsed());
        let path = format!("/api/v1/federation/hosts?status={mark}&limit=1");
        while at_coordinator.json(&path).await?["total"] != json!(1) {
            if started.elapsed() > SHOWN_WAIT_MAX {
                return Err(Failure::new(Exit::Failed, "a change did not arrive"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shown.push(started.elapsed());
    }
    site.kill().await?;
    coordinator.kill().await?;
    let (accepted, _) = quantiles(&mut accepted);
    let (p50, p99) = quantiles(&mut shown);
    Ok(vec![json!({
        "what": "change at a site until the coordinator's search shows it",
        "p50_ms": p50,
        "p99_ms": p99,
        "durable_at_site_p50_ms": accepted,
    })])
}

/// Joins the two nodes by the documented handshake.
async fn join(coordinator: &NodeProcess, site: &NodeProcess) -> Result<(), Failure> {
    let (hq, branch) = (Client::at_socket(&coordinator.data_dir)?, Client::at_socket(&site.data_dir)?);
    let identity = branch.get("/api/v1/federation/identity-key", &[]).await?;
    let body = json!({
        "name": "bench",
        "url": site.ready.url,
        "site_identity_public_key_pem": identity.json["public_key_pem"],
    });
    let invited = hq.send_json(Method::POST, "/api/v1/federation/sites", Some(&body)).await?;
    let key = hq.get("/api/v1/federation/identity-key", &[]).await?;
    let body = json!({
        "coordinator_url": coordinator.ready.url,
        "enrollment_token": invited.json["enrollment_token"],
        "coordinator_identity_public_key_pem": key.json["public_key_pem"],
    });
    let joined = branch.send_json(Method::POST, "/api/v1/federation/site/enroll", Some(&body)).await?;
    let enrolled = joined.json["status"] == json!("enrolled");
    if enrolled { Ok(()) } else { Err(failed(&"the site did not enroll")) }
}

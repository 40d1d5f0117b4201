//! Dashboard, totals and report over a thousand sites.
//!
//! The sites are registered and enrolled over HTTP and push what the documented routes take: ten hosts each, a
//! host rollup, three baselines, counted findings.

use hansa_model::enrollment::Role;
use hansa_model::{WallClock as _, limits};
use hansa_transport::certificate::sign_proof;
use hansa_transport::{IdentityKey, TlsCertificate};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{self, Connection};
use super::process::NodeProcess;
use super::{Plan, failed, feeder, quantiles};
use crate::cli::failure::Failure;
use crate::client::Client;
use crate::system::{SystemClock, SystemEntropy};

/// Sites of the aim.
const SITES: u64 = 1_000;
/// Hosts of each, for the breakdowns.
const HOSTS_OF_SITE: u64 = 10;
/// Requests of one latency figure.
const REQUESTS: usize = 500;
const _: () = assert!(SITES <= limits::site::SITES_MAX as u64, "a coordinator takes as many sites");

pub(super) async fn run(plan: &Plan) -> Result<Vec<Value>, Failure> {
    let folder = plan.folder.join("coordinator");
    let node = NodeProcess::start(&folder, "coordinator").await?;
    let token = http::token(&node.data_dir).await?;
    let mut connection = Connection::open(&node.ready.url, &token).await?;
    let overview = connection.json("/api/v1/federation/rollups/dashboard").await?;
    if overview["totals"]["site_count"].as_u64().unwrap_or_default() < SITES {
        load(&node).await?;
        // Loading takes longer than an idle connection may.
        connection = Connection::open(&node.ready.url, &token).await?;
    }
    let sites = connection.json("/api/v1/federation/sites?status=enrolled&limit=1").await?;
    let site = sites["sites"][0]["id"].as_str().unwrap_or_default().to_owned();

    let mut figures = Vec::new();
    for (what, path) in [
        ("dashboard of one site", format!("/api/v1/federation/rollups/dashboard?site_id={site}")),
        ("totals and breakdowns", "/api/v1/federation/rollups/dashboard".to_owned()),
        ("report row of one site", format!("/api/v1/federation/reports/rollup?site_ids={site}")),
        ("report over all sites", "/api/v1/federation/reports/rollup".to_owned()),
        ("latest host rollups, 100", "/api/v1/federation/rollups/hosts".to_owned()),
        ("latest scores, 1,000", "/api/v1/federation/rollups/compliance?limit=1000".to_owned()),
    ] {
        let bytes = connection.get(&path).await?.len();
        let mut times = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let asked = Instant::now();
            connection.get(&path).await?;
            times.push(asked.elapsed());
        }
        let (p50, p99) = quantiles(&mut times);
        figures.push(json!({ "what": what, "bytes": bytes, "p50_ms": p50, "p99_ms": p99 }));
    }
    let overview = connection.json("/api/v1/federation/rollups/dashboard").await?;
    figures.push(json!({ "what": "totals over", "totals": overview["totals"] }));
    node.kill().await?;
    Ok(figures)
}

/// Registers the sites and pushes for each of them.
async fn load(node: &NodeProcess) -> Result<(), Failure> {
    let client = Client::at_socket(&node.data_dir)?;
    let tls = TlsCertificate::generate("bench", SystemClock.now(), &SystemEntropy).map_err(|e| failed(&e))?;
    for index in 0..SITES {
        let identity = IdentityKey::generate(&SystemEntropy);
        let body = json!({
            "name": format!("bench-{index:04}-{}", &identity.public().fingerprint()[..8]),
            "url": "http://127.0.0.1:9",
            "site_identity_public_key_pem": identity.public().to_pem(),
        });
        let site = client.send_json(Method::POST, "/api/v1/federation/sites", Some(&body)).await?.json;
        let (id, token) = (&site["site"]["id"], &site["enrollment_token"]);
        let (id, token) = (id.as_str().unwrap_or_default(), token.as_str().unwrap_or_default());
        let proof =
            sign_proof(&identity, Role::Site, tls.certificate_pem()).map_err(|error| failed(&error))?;
        let body = json!({ "tls_cert_pem": tls.certificate_pem(), "identity_proof": proof });
        let path = format!("/api/v1/federation/sites/enrollment/{token}/complete");
        let enrolled = client.send_json(Method::POST, &path, Some(&body)).await?.json;
        let bearer = enrolled["sync_bearer_token"].as_str().unwrap_or_default();
        let mut connection = Connection::open(&node.ready.url, bearer).await?;
        for (suffix, body) in pushes(index) {
            connection.post(&format!("/api/v1/federation/sites/{id}/{suffix}"), &body).await?;
        }
    }
    Ok(())
}

/// What a site pushes.
fn pushes(index: u64) -> Vec<(&'static str, Value)> {
    let entries: Vec<Value> = feeder::hosts_of(index, HOSTS_OF_SITE)
        .map(|host| {
            json!({
                "host_id": host.host_id, "fqdn": host.fqdn, "status": host.status,
                "os_family": host.os_family, "geo_country_code": host.geo_country_code,
            })
        })
        .collect();
    let rollup = json!({
        "host_count": HOSTS_OF_SITE, "active_count": HOSTS_OF_SITE - 1,
        "os_breakdown": {"debian": 6, "ubuntu": 3, "windows": 1}, "status_breakdown": {"up": 9, "down": 1},
    });
    let findings = json!({
        "critical_count": index % 3, "high_count": index % 7, "medium_count": 5, "low_count": 11,
        "affected_host_count": 4, "top_cve_ids": ["CVE-2026-0815", "CVE-2025-4711"],
    });
    let mut pushes = vec![
        ("host-directory", json!({ "entries": entries })),
        ("rollups/hosts", rollup),
        ("rollups/vulnerabilities", findings),
    ];
    for (baseline, score) in [("CIS", 60 + index % 40), ("PCI", 50 + index % 50), ("own", 100)] {
        pushes.push((
            "rollups/compliance",
            json!({
                "baseline": baseline, "score_percent": score, "hosts_in_scope": HOSTS_OF_SITE,
                "hosts_compliant": 3, "hosts_noncompliant": 7,
            }),
        ));
    }
    pushes
}

//! The HTTP listener with TLS: a node with a certificate of its own, and what is refused without one.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hansa_tests::{TestProcess, binary};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use serde_json::Value;

const SHOWN: &str = "/api/v1/federation-role";

/// A certificate for this machine's own name and loopback address, as PEM files in a folder.
fn certificate(folder: &Path) -> rcgen::Certificate {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    certificate
}

fn client(trusted: Option<&rcgen::Certificate>) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    if let Some(certificate) = trusted {
        roots.add(certificate.der().clone()).unwrap();
    }
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .tls_backend_preconfigured(tls)
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn node_with_a_certificate_is_reached_by_https_alone() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let config = folder.path().join("hansa.toml");
    let text = format!("[tls]\ncert = '{}'\nkey = '{}'\n", files[0].display(), files[1].display());
    std::fs::write(&config, text).unwrap();
    let node = TestProcess::start_configured(folder.path(), "coordinator", &config).await;
    let ready: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("ready.json")).unwrap()).unwrap();
    let url = ready["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let token = node.run(&["token", "mint", "--scope", "all", "--ttl", "1h"]).await;
    let knowing = client(Some(&trusted));

    let live = knowing.get(format!("{url}/livez")).send().await.unwrap();
    let role = knowing.get(format!("{url}{SHOWN}")).bearer_auth(token.trim()).send().await.unwrap();
    let nobody = knowing.get(format!("{url}{SHOWN}")).send().await.unwrap();
    let stranger = client(None).get(format!("{url}/livez")).send().await;
    let plain = client(None).get(format!("{}/livez", url.replace("https", "http"))).send().await;

    assert_eq!((live.status().as_u16(), nobody.status().as_u16()), (200, 401));
    assert_eq!(role.status().as_u16(), 200);
    assert!(role.text().await.unwrap().contains("coordinator"));
    assert!(stranger.unwrap_err().is_connect(), "a certificate that nobody vouches for is refused");
    assert!(plain.is_err(), "plain HTTP is not spoken beside TLS");
    // The command line takes the authority from a file.
    let shown = tokio::process::Command::new(binary())
        .args(["host", "search", "--addr", &url, "--token", token.trim(), "-o", "json", "--cacert"])
        .arg(&files[0])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let page: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    assert_eq!(page["total"], 0, "{}", String::from_utf8_lossy(&shown.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_beyond_loopback_needs_to_be_spelled_out() {
    // An address of this machine that is not loopback, if it has one; nothing is sent.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let address = socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .and_then(|()| socket.local_addr())
        .map_or_else(|_| "0.0.0.0".to_owned(), |address| address.ip().to_string());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");

    let refused = tokio::process::Command::new(binary())
        .args(["serve", "--listen", &format!("{address}:0"), "--data-dir"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();

    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains("--insecure-http") && words.contains("--tls-cert"), "{words}");
    assert!(!data.exists(), "nothing was made");
}

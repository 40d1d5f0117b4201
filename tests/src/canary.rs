//! Looking for values that must never be seen, in everything that two processes leave behind.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hansa_model::secret::hex;

use crate::http::Api;
use crate::lessee::LEASES;
use crate::pair::TestPair;

/// Where one of these values stands, in any of five spellings: answers, metrics and audit logs of both, then,
/// killed, their logs and every file of their data folders. Of a user's name and a password, the password.
///
/// # Panics
/// The logs do not say all there is to say: start the pair with the filter `trace`.
pub async fn seen_canaries(
    pair: &mut TestPair,
    coordinator: &Api,
    site: &Api,
    canaries: &[String],
) -> Vec<String> {
    let mut shown = Vec::new();
    for api in [coordinator, site] {
        for path in
            ["/metrics", "/api/v1/federation/audit?limit=1000", LEASES, "/api/v1/site/secret-requests"]
        {
            shown.push((path.to_owned(), api.get(path).await.text));
        }
    }
    for process in [&mut pair.coordinator, &mut pair.site] {
        process.kill().await;
        let log = process.log();
        assert!(log.contains("TRACE"), "the log says all there is to say");
        shown.push(("log".to_owned(), log));
        files(&process.data_dir(), &mut shown);
    }
    let spellings: Vec<String> = canaries.iter().flat_map(|canary| spellings(canary)).collect();
    let seen = shown.into_iter().filter(|(_, text)| spellings.iter().any(|spelling| text.contains(spelling)));
    seen.map(|(place, _)| place).collect()
}

fn spellings(canary: &str) -> [String; 5] {
    // A database credential begins with its user's name, which is no secret.
    let secret = canary.split_once(':').map_or(canary, |(_, password)| password);
    [
        secret.to_owned(),
        hex(secret.as_bytes()),
        whole_digits(canary),
        whole_digits(secret),
        format!("{:?}", secret.as_bytes())[1..].trim_end_matches(']').to_owned(),
    ]
}

/// The last digits hang on what follows.
fn whole_digits(text: &str) -> String {
    let whole = text.len() / 3 * 3;
    STANDARD.encode(&text.as_bytes()[..whole])
}

/// The files of a folder, as text: what is no character is replaced, and no spelling has such a one.
fn files(folder: &Path, shown: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("the data folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, shown);
        } else if let Ok(bytes) = std::fs::read(&path) {
            shown.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

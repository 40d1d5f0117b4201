//! Third-party programs, where `./scripts/test tools` puts them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// A program by its place in the folder of tools: `$HANSA_TEST_TOOLS`, or the one in the target folder.
pub fn program(place: &str) -> PathBuf {
    let installed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools"));
    std::env::var_os("HANSA_TEST_TOOLS").map_or_else(|| installed.to_owned(), PathBuf::from).join(place)
}

/// Runs a script of `tests/judges` with the Python of this tool, and gives what it printed.
///
/// # Panics
/// It does not run, takes longer than two minutes, or ends with an error: what it said is in the message.
pub async fn judge(tool: &str, script: &str, arguments: &[&str]) -> String {
    let python = program(tool).join("bin/python3");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges").join(script);
    let run = tokio::process::Command::new(&python)
        .arg(&path)
        .args(arguments)
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.expect("the judge ends in time");
    let output = output.unwrap_or_else(|error| {
        panic!("{} does not start ({error}): ./scripts/test tools installs it", python.display())
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

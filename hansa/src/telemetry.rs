//! Logs: lines for people on a terminal, JSON otherwise, always to standard error.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `human` on a terminal, `json` otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A filter that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} does not parse: use a level such as `info`, or `hansa_actors=debug,info`")]
pub struct InvalidFilter {
    /// The filter as given.
    pub filter: String,
}

/// Starts logging; a second call in one process keeps the first.
///
/// # Errors
/// The filter does not parse.
pub fn start(filter: &str, format: LogFormat) -> Result<(), InvalidFilter> {
    let parsed = EnvFilter::try_new(filter).map_err(|_| InvalidFilter { filter: filter.to_owned() })?;
    let is_terminal = std::io::stderr().is_terminal();
    let is_json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let lines = fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    // A test may have started logging already; its choice stands.
    let _ = if is_json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(is_coloured).with_target(false).try_init()
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_that_does_not_parse_is_refused_by_name() {
        let error = start("hansa=nonsense=x", LogFormat::Human).unwrap_err();

        assert!(error.to_string().contains("hansa=nonsense=x"));
    }
}

//! The fourteen cases that every driver of a secret store is held to, as a table of what is asked and answered.

use std::sync::Arc;

use hansa_backends::{CallError, Driver, Found, ReadVersion};

use crate::scripted::{Scripted, ScriptedServer};
use crate::stores::list_all;

/// What a case asks.
#[derive(Debug, Clone)]
pub enum Ask {
    /// The newest value.
    Read(&'static str),
    /// One version by its number.
    Number(&'static str, u64),
    /// One version by the store's name of it.
    Named(&'static str, String),
    /// Every page below a prefix.
    List(&'static str),
    /// The newest value, while the next calls are answered so.
    Spoiled(Vec<Scripted>, &'static str),
}

/// Asks every case of the table and compares; names the first that is answered otherwise.
///
/// # Panics
/// One is answered otherwise.
pub async fn hold_to(
    store: &Arc<dyn Driver>,
    front: &ScriptedServer,
    table: impl IntoIterator<Item = (&'static str, Ask, &str)>,
) {
    for (case, ask, expected) in table {
        assert_eq!(outcome_of(store, front, ask).await, expected, "{case}");
    }
}

/// What asking comes to, in one line.
pub async fn outcome_of(store: &Arc<dyn Driver>, front: &ScriptedServer, ask: Ask) -> String {
    match ask {
        Ask::Read(name) => outcome(store.read(name, ReadVersion::Current).await),
        Ask::Number(name, number) => outcome(store.read(name, ReadVersion::Number(number)).await),
        Ask::Named(name, version) => outcome(store.read(name, ReadVersion::Named(&version)).await),
        Ask::List(prefix) => {
            let (names, pages) = list_all(store, prefix).await;
            format!("{} on {pages}", names.join(" ")).trim().to_owned()
        }
        Ask::Spoiled(answers, name) => {
            front.queue(answers);
            outcome(store.read(name, ReadVersion::Current).await)
        }
    }
}

/// A value and its number, or the error.
pub fn outcome(found: Result<Found, CallError>) -> String {
    match found {
        Ok(found) => {
            let (data, _) = found.secret.value.unfold();
            match found.secret.version {
                Some(version) => format!("{} #{version}", data.expose()),
                None => data.expose().to_owned(),
            }
        }
        Err(CallError::Throttled { retry_after: Some(wait) }) => format!("throttled for {}", wait.as_secs()),
        Err(CallError::Throttled { retry_after: None }) => "throttled".to_owned(),
        Err(CallError::Unavailable { reason, .. }) => format!("unavailable: {reason}"),
        Err(error) => error.to_string(),
    }
}

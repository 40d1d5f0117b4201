//! Waiting for a state.

use std::time::Duration;

use tokio::time::Instant;

/// How long a state may take. Generous: a slow machine is not a defect.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and gives it.
///
/// # Panics
/// After [`WAIT_MAX`] without one.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", WAIT_MAX.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

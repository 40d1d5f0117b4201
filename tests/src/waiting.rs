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
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(WAIT_MAX, what, condition).await
}

/// The same for a state that takes its time by design.
///
/// # Panics
/// After `wait_max` without an answer.
pub async fn eventually_within<T>(
    wait_max: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + wait_max;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", wait_max.as_secs());
        tokio::time::sleep(POLL).await;
    }
}

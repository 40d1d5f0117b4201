//! What fails a run: broken invariants, panics anywhere on its thread, and every `error!` line.
//!
//! A host whose disk was made to fail may well cry for a person, so its `error!` lines are excused until it
//! is started anew. Its panics are not.
//!
//! tokio swallows a task's panic and a supervisor restarts a panicked actor, so both are caught where they
//! begin, in the panic hook.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::disk::SimDisk;

/// One broken run can break thousands of times; the first few say it all.
const VIOLATIONS_MAX: usize = 20;

thread_local! {
    static WATCHED: RefCell<Option<Violations>> = const { RefCell::new(None) };
    /// The disk of the host whose code runs on this thread now.
    static DISK: RefCell<Option<SimDisk>> = const { RefCell::new(None) };
}

/// Says whose disk may be to blame from here on.
pub(crate) fn set_disk(disk: Option<&SimDisk>) {
    DISK.with(|current| *current.borrow_mut() = disk.cloned());
}

fn is_excused() -> bool {
    DISK.with(|disk| disk.borrow().as_ref().is_some_and(|disk| disk.is_dead() || disk.has_failed()))
}

/// Everything that went wrong in a run, in order. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Violations(Arc<Mutex<Vec<String>>>);

impl Violations {
    /// Fails the run, and says why.
    pub fn report(&self, reason: impl fmt::Display) {
        let mut reasons = self.lock();
        if reasons.len() < VIOLATIONS_MAX {
            reasons.push(reason.to_string());
        }
    }

    /// True while nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The reasons so far, at most the first twenty.
    pub fn reasons(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches this thread until the guard is dropped.
///
/// With `verbose`, log lines also go to standard error.
pub fn watch(violations: &Violations, verbose: bool) -> WatchGuard {
    static HOOK: Once = Once::new();
    HOOK.call_once(report_panics);
    WATCHED.with(|watched| *watched.borrow_mut() = Some(violations.clone()));
    let errors = ErrorLines(violations.clone());
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::ERROR };
    let lines =
        verbose.then(|| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr));
    let subscriber = tracing_subscriber::registry().with(level).with(errors).with(lines);
    WatchGuard(tracing::subscriber::set_default(subscriber))
}

/// Keeps a thread watched; see [`watch`].
#[must_use = "the thread is no longer watched when this is dropped"]
pub struct WatchGuard(#[expect(dead_code, reason = "held for its drop")] DefaultGuard);

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchGuard")
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        WATCHED.with(|watched| *watched.borrow_mut() = None);
    }
}

/// Puts a hook before the present one that reports the panics of watched threads.
fn report_panics() {
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let watched = WATCHED.try_with(|watched| watched.borrow().clone()).ok().flatten();
        if let Some(violations) = watched {
            violations.report(panicked);
        }
        earlier(panicked);
    }));
}

/// The layer that turns `error!` lines into violations.
struct ErrorLines(Violations);

impl<S: Subscriber> Layer<S> for ErrorLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR && !is_excused() {
            let mut line = format!("error line of {}:", event.metadata().target());
            event.record(&mut Fields(&mut line));
            self.0.report(line);
        }
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lines_fail_the_run_and_warnings_do_not() {
        let violations = Violations::default();
        let guard = watch(&violations, false);

        tracing::warn!("a peer's fault");
        assert!(violations.is_empty());
        tracing::error!(site = 3, "a person must look");

        drop(guard);
        tracing::error!("nobody watches any more");
        let reasons = violations.reasons();
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].contains("a person must look") && reasons[0].contains("site=3"), "{reasons:?}");
    }

    #[test]
    fn a_host_whose_disk_failed_may_cry_for_a_person() {
        let violations = Violations::default();
        let _guard = watch(&violations, false);
        let disk = SimDisk::new(1, 0);
        set_disk(Some(&disk));
        disk.fail_next(1);
        assert!(disk.mount().sync().is_err());

        tracing::error!("the disk is broken");
        assert!(violations.is_empty());

        set_disk(None);
        tracing::error!("and now?");
        assert!(!violations.is_empty());
    }

    #[test]
    fn a_panic_that_a_runtime_swallows_is_reported() {
        let violations = Violations::default();
        let _guard = watch(&violations, false);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        let outcome = runtime.block_on(async { tokio::spawn(async { panic!("overboard") }).await });

        assert!(outcome.is_err());
        assert!(violations.reasons()[0].contains("overboard"));
    }
}

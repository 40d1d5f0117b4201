//! How a command ends when it does not succeed: what failed, why, what to type next, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed for a reason that no other code names.
    Failed = 1,
    /// The command line or a value in it is wrong.
    Usage = 2,
    /// What was asked for does not exist, or the caller may not see it.
    NotFound = 3,
    /// No token, a bad one, or one without the scope.
    NotAllowed = 4,
    /// The present state does not allow it.
    Conflict = 5,
    /// Nobody answered, or not in time.
    Unreachable = 7,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The code for an answer with this HTTP status.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Done,
            400 | 413 | 414 | 415 | 422 => Self::Usage,
            401 | 403 => Self::NotAllowed,
            404 | 410 => Self::NotFound,
            409 | 412 | 428 => Self::Conflict,
            408 | 425 | 429 | 502 | 503 | 504 => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, in the words of whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process ends with this.
    pub exit: Exit,
    /// What failed and why; lower case, no full stop.
    pub what: String,
    /// What to type next.
    pub next: Option<String>,
    /// The id under which the node's log has more.
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None, request_id: None }
    }

    /// A wrong command line or value.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The same failure with the next thing to type.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(next) = &self.next {
            write!(f, "\n  try: {next}")?;
        }
        if let Some(request_id) = &self.request_id {
            write!(f, "\n  request: {request_id}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(Exit::Failed, chain(&*error)),
        }
    }
}

impl std::error::Error for Failure {}

/// An error with everything below it, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_documented_exit_code() {
        let expected = [
            (200, 0),
            (201, 0),
            (400, 2),
            (422, 2),
            (401, 4),
            (403, 4),
            (404, 3),
            (409, 5),
            (412, 5),
            (428, 5),
            (429, 7),
            (502, 7),
            (503, 7),
            (500, 1),
            (507, 1),
        ];

        for (status, code) in expected {
            assert_eq!(Exit::of_status(status) as u8, code, "{status}");
        }
    }

    #[test]
    fn failure_says_what_then_what_to_type_then_the_request() {
        let mut failure = Failure::new(Exit::NotFound, "there is no site hq").next("hansa site list");
        failure.request_id = Some("0190".to_owned());

        let text = failure.to_string();

        assert_eq!(text, "error: there is no site hq\n  try: hansa site list\n  request: 0190");
    }
}

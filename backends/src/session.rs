//! One login that all calls to a store share.
//!
//! Callers that come together wait for one login. A refused one is not tried again for a while, longer each
//! time, and everybody is told its refusal meanwhile: a store locks a role that is tried too often, and some
//! logins may be used only so many times. Every wait is a lock: whoever is dropped midway leaves it to the next.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use hansa_model::Secret;
use hansa_model::limits::secrets as limits;

use crate::driver::CallError;

/// What a login gave.
pub(crate) struct Ticket {
    pub(crate) token: Secret<String>,
    /// For how long; none for ever.
    pub(crate) lease: Option<Duration>,
    /// How long it was when it was new.
    pub(crate) full: Option<Duration>,
    /// Whether its life can be prolonged.
    pub(crate) renewable: bool,
    /// How many calls it takes; none for any number.
    pub(crate) uses: Option<u64>,
}

/// A login in use.
pub(crate) struct Session {
    pub(crate) ticket: Ticket,
    since: Instant,
    /// Calls that it has been given to.
    used: AtomicU64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("lease", &self.ticket.lease).finish_non_exhaustive()
    }
}

/// How a store is logged in to.
pub(crate) trait Login: Send + Sync {
    /// Logs in.
    fn login(&self) -> impl Future<Output = Result<Ticket, CallError>> + Send;

    /// Prolongs a login; none when the store asks for a new one instead.
    fn renew(&self, ticket: &Ticket) -> impl Future<Output = Result<Option<Ticket>, CallError>> + Send;
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    current: Mutex<Option<Arc<Session>>>,
    /// Held by whoever logs in.
    turn: tokio::sync::Mutex<Pause>,
}

/// The refusal that is still believed.
#[derive(Debug, Default)]
struct Pause {
    refused: Option<CallError>,
    until: Option<Instant>,
    length: Duration,
}

impl Session {
    fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What is left of its life; none for ever.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.ticket.lease.map(|lease| lease.saturating_sub(self.age()))
    }

    /// Past two thirds of its life.
    fn is_due(&self) -> bool {
        self.ticket.lease.is_some_and(|lease| self.age() >= lease.mul_f64(2.0 / 3.0))
    }

    fn is_over(&self) -> bool {
        self.ticket.lease.is_some_and(|lease| self.age() >= lease)
            || self.ticket.uses.is_some_and(|uses| self.used.load(Ordering::Relaxed) >= uses)
    }
}

impl Sessions {
    /// The login to use for one call, made or prolonged when it is time.
    pub(crate) async fn session(&self, login: &impl Login) -> Result<Arc<Session>, CallError> {
        let session = match self.current() {
            Some(session) if !session.is_over() && !session.is_due() => session,
            Some(session) if !session.is_over() => {
                // One caller prolongs it, the others go on with what still works.
                match self.turn.try_lock() {
                    Ok(mut pause) => self.prolong(login, session, &mut pause).await?,
                    Err(_) => session,
                }
            }
            Some(_) | None => {
                let mut pause = self.turn.lock().await;
                match self.current() {
                    Some(session) if !session.is_over() => session,
                    Some(_) | None => self.log_in(login, &mut pause).await?,
                }
            }
        };
        session.used.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// Another login than this one, which the store refuses. None when it was replaced so a short while ago,
    /// without success: then the refusal is meant.
    pub(crate) async fn replace(
        &self,
        login: &impl Login,
        refused: &Arc<Session>,
    ) -> Result<Option<Arc<Session>>, CallError> {
        let mut pause = self.turn.lock().await;
        if let Some(session) = self.current()
            && !Arc::ptr_eq(&session, refused)
        {
            return Ok(Some(session));
        }
        if pause.until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        self.log_in(login, &mut pause).await.map(Some)
    }

    /// The store refuses also what [`Self::replace`] gave: it is believed for a while.
    pub(crate) async fn believe(&self) {
        let mut pause = self.turn.lock().await;
        pause.refused = None;
        pause.lengthen();
    }

    /// The store took what [`Self::replace`] gave.
    pub(crate) async fn accepted(&self) {
        *self.turn.lock().await = Pause::default();
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, ticket: Ticket) -> Arc<Session> {
        let session = Arc::new(Session { ticket, since: Instant::now(), used: AtomicU64::new(0) });
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        session
    }

    async fn log_in(&self, login: &impl Login, pause: &mut Pause) -> Result<Arc<Session>, CallError> {
        if let (Some(refused), Some(until)) = (&pause.refused, pause.until)
            && Instant::now() < until
        {
            return Err(refused.clone());
        }
        match login.login().await {
            Ok(ticket) => {
                pause.refused = None;
                Ok(self.set(ticket))
            }
            Err(error) => {
                // Whoever cannot be reached is tried again when the next caller comes.
                if !error.is_transient() {
                    pause.refused = Some(error.clone());
                    pause.lengthen();
                }
                Err(error)
            }
        }
    }

    async fn prolong(
        &self,
        login: &impl Login,
        session: Arc<Session>,
        pause: &mut Pause,
    ) -> Result<Arc<Session>, CallError> {
        if session.ticket.renewable {
            match login.renew(&session.ticket).await {
                Ok(Some(ticket)) => return Ok(self.set(ticket)),
                Ok(None) => {}
                Err(error) if error.is_transient() => return Ok(session),
                Err(_) => {}
            }
        }
        // It works until it ends, whatever the new login comes to.
        Ok(self.log_in(login, pause).await.unwrap_or(session))
    }
}

impl Pause {
    fn lengthen(&mut self) {
        self.length = (self.length * 2).clamp(limits::LOGIN_PAUSE_MIN, limits::LOGIN_PAUSE_MAX);
        self.until = Some(Instant::now() + self.length);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counting {
        logins: AtomicUsize,
        renewals: AtomicUsize,
        refuse: bool,
        lease: Option<Duration>,
    }

    impl Login for Counting {
        async fn login(&self) -> Result<Ticket, CallError> {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let number = self.logins.fetch_add(1, Ordering::Relaxed);
            if self.refuse {
                return Err(CallError::Refused { reason: "no" });
            }
            let token = Secret::new(format!("token-{number}"));
            Ok(Ticket { token, lease: self.lease, full: self.lease, renewable: true, uses: None })
        }

        async fn renew(&self, ticket: &Ticket) -> Result<Option<Ticket>, CallError> {
            self.renewals.fetch_add(1, Ordering::Relaxed);
            let token = Secret::new(ticket.token.expose().clone());
            Ok(Some(Ticket { token, lease: self.lease, full: self.lease, renewable: true, uses: None }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_come_together_share_one_login() {
        let (sessions, login) = (Sessions::default(), Counting::default());

        let calls = (0..100).map(|_| sessions.session(&login));
        let given = futures_util::future::join_all(calls).await;

        assert!(given.iter().all(Result::is_ok));
        assert_eq!(login.logins.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_login_is_not_tried_again_at_once() {
        let (sessions, login) = (Sessions::default(), Counting { refuse: true, ..Counting::default() });

        let calls = (0..100).map(|_| sessions.session(&login));
        let given = futures_util::future::join_all(calls).await;
        assert!(
            given.iter().all(|given| *given.as_ref().err().unwrap() == CallError::Refused { reason: "no" })
        );
        assert_eq!(login.logins.load(Ordering::Relaxed), 1);

        tokio::time::advance(Duration::from_secs(2)).await;
        sessions.session(&login).await.unwrap_err();
        tokio::time::advance(Duration::from_secs(1)).await;
        sessions.session(&login).await.unwrap_err();
        assert_eq!(login.logins.load(Ordering::Relaxed), 2, "the pause has grown");
    }

    #[tokio::test(start_paused = true)]
    async fn login_is_prolonged_at_two_thirds_of_its_life() {
        let login = Counting { lease: Some(Duration::from_secs(90)), ..Counting::default() };
        let sessions = Sessions::default();

        sessions.session(&login).await.unwrap();
        tokio::time::advance(Duration::from_secs(55)).await;
        sessions.session(&login).await.unwrap();
        assert_eq!(login.renewals.load(Ordering::Relaxed), 0);
        tokio::time::advance(Duration::from_secs(10)).await;
        sessions.session(&login).await.unwrap();
        assert_eq!(login.renewals.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(100)).await;
        sessions.session(&login).await.unwrap();
        assert_eq!(login.logins.load(Ordering::Relaxed), 2, "an ended one is replaced");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_session_is_replaced_once_and_then_believed() {
        let (sessions, login) = (Sessions::default(), Counting::default());
        let first = sessions.session(&login).await.unwrap();

        let second = sessions.replace(&login, &first).await.unwrap().unwrap();
        sessions.believe().await;

        assert_eq!(second.ticket.token.expose(), "token-1");
        assert!(sessions.replace(&login, &second).await.unwrap().is_none());
        assert_eq!(login.logins.load(Ordering::Relaxed), 2);
    }
}

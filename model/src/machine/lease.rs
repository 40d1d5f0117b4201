//! The life of a lease: requested, issued, renewed until it is revoked, expired or failed (contract 10).
//!
//! Rows in, rows out. An issuer that cannot be asked leaves the lease where it is and is asked again with
//! the waits of contract 3.5; one that refuses ends it. A renewed value is not delivered until the site took
//! it (contract 13.13), and an undelivered one is replaced with the same waits, not on every tick. An expired
//! lease is not issued again by itself: a host that still wants one asks anew, under a new correlation key,
//! and it is told so when its credential ended before it arrived.

use std::time::Duration;

use crate::id::LeaseId;
use crate::lease::{InvalidKind, Lease, LeaseKind, LeaseStatus};
use crate::limits::lease as limits;
use crate::machine::link::entry_wait;
use crate::push::LeaseWord;
use crate::report::LeaseRequest;
use crate::{SiteId, Timestamp};

/// A request that can never be met as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeaseRequest {
    /// A required text is blank.
    #[error("{field} must not be blank")]
    Blank {
        /// The member.
        field: &'static str,
    },
    /// A text is longer than its column, or has control characters.
    #[error("{field} must have at most {max} bytes and no control characters")]
    Text {
        /// The member.
        field: &'static str,
        /// The bound.
        max: usize,
    },
    /// No such kind.
    #[error("kind {0}")]
    Kind(#[from] InvalidKind),
    /// Another request of the same batch has the correlation key.
    #[error("correlation_key is that of another request in this batch")]
    Repeated,
}

impl InvalidLeaseRequest {
    /// The member of the request that is bad.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Blank { field } | Self::Text { field, .. } => field,
            Self::Kind(_) => "kind",
            Self::Repeated => "correlation_key",
        }
    }
}

/// The lease is over: there is nothing to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease is {0}: there is nothing to revoke")]
pub struct LeaseOver(pub LeaseStatus);

/// What an issuer made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Name of the issuer.
    pub issuer: String,
    /// Where it has the credential.
    pub vault_lease_id: String,
    /// A JSON object as text.
    pub metadata: String,
    /// End of the credential.
    pub expires_at: Timestamp,
}

/// What is to be done about a lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Ask the issuer for a credential.
    Issue,
    /// Ask it for a new value under the same name.
    Renew,
    /// Its time is over: [`expire`].
    Expire,
    /// The site is on hold or gone, or nobody can have waited so long: [`fail`].
    GiveUp,
    /// The site is on hold or gone: [`revoke`].
    Revoke,
    /// Ask the issuer to take the credential away.
    Release,
    /// Ask the issuer to take away what newer credentials have replaced.
    Discard,
}

/// Takes a request down. A life beyond the bounds becomes the nearest one allowed.
///
/// # Errors
/// See [`InvalidLeaseRequest`].
pub fn request(
    id: LeaseId,
    site: SiteId,
    now: Timestamp,
    request: &LeaseRequest,
) -> Result<Lease, InvalidLeaseRequest> {
    let ttl = request.ttl_seconds.unwrap_or_else(|| limits::TTL_SECONDS_DEFAULT.into());
    Ok(Lease {
        id,
        site_id: site,
        host_id: text("host_id", &request.host_id, limits::HOST_BYTES_MAX)?,
        secret_name: text("secret_name", &request.secret_name, limits::NAME_BYTES_MAX)?,
        backend_role: text("backend_role", &request.backend_role, limits::NAME_BYTES_MAX)?,
        kind: request.kind.parse::<LeaseKind>()?,
        status: LeaseStatus::Requested,
        vault_lease_id: None,
        ttl_seconds: u32::try_from(ttl)
            .unwrap_or(u32::MAX)
            .clamp(limits::TTL_SECONDS_MIN, limits::TTL_SECONDS_MAX),
        requested_at: now,
        issued_at: None,
        expires_at: None,
        last_renewed_at: None,
        revoked_at: None,
        delivered_at: None,
        last_error: None,
        secret_metadata: None,
        correlation_key: text("correlation_key", &request.correlation_key, limits::KEY_BYTES_MAX)?,
        issuer: None,
        version: 0,
        settled: 0,
        offers: 0,
        refusals: 0,
        failures: 0,
        tried_at: None,
        released: false,
        leftovers: Vec::new(),
    })
}

fn text(field: &'static str, value: &str, max: usize) -> Result<String, InvalidLeaseRequest> {
    if value.trim().is_empty() {
        return Err(InvalidLeaseRequest::Blank { field });
    }
    if value.len() > max || value.chars().any(char::is_control) {
        return Err(InvalidLeaseRequest::Text { field, max });
    }
    Ok(value.to_owned())
}

/// What is due. `served` is whether the site is enrolled; `held` whether the value that it has not taken is
/// still kept for it in memory. `jitter` is uniform over all of `u64`.
pub fn step(lease: &Lease, now: Timestamp, served: bool, held: bool, jitter: u64) -> Step {
    let rested = |failures| lease.tried_at.is_none_or(|at| at.after(entry_wait(failures, jitter)) <= now);
    match lease.status {
        LeaseStatus::Requested if !served => Step::GiveUp,
        LeaseStatus::Requested if lease.failures > 0 && now >= lease.requested_at.after(life(lease)) => {
            Step::GiveUp
        }
        LeaseStatus::Requested if rested(lease.failures) => Step::Issue,
        LeaseStatus::Active if !served => Step::Revoke,
        LeaseStatus::Active if is_over(lease, now) => Step::Expire,
        LeaseStatus::Active if renewal_due(lease, now, held, rested) => Step::Renew,
        LeaseStatus::Active if discard_due(lease) => Step::Discard,
        LeaseStatus::Failed | LeaseStatus::Revoked | LeaseStatus::Expired
            if !lease.released && rested(lease.failures) =>
        {
            Step::Release
        }
        LeaseStatus::Requested
        | LeaseStatus::Active
        | LeaseStatus::Failed
        | LeaseStatus::Revoked
        | LeaseStatus::Expired => Step::Wait,
    }
}

fn renewal_due(lease: &Lease, now: Timestamp, held: bool, rested: impl Fn(u32) -> bool) -> bool {
    if lease.failures > 0 {
        return rested(lease.failures);
    }
    if lease.delivered_at.is_some() {
        return lease.expires_at.is_some_and(|end| end <= now.after(limits::RENEW_BEFORE));
    }
    // A value that nobody keeps any more cannot be delivered: there is nothing to wait for.
    !held || rested(lease.offers)
}

/// What was replaced goes once the site has what took its place, so that a host is never without. While the
/// site is away the few that pile up go all the same: the one that it has ends by then.
fn discard_due(lease: &Lease) -> bool {
    let delivered = lease.delivered_at.is_some();
    lease.leftovers.len() >= if delivered { 1 } else { limits::LEFTOVERS_MAX }
}

/// Whether an active lease's time is over.
fn is_over(lease: &Lease, now: Timestamp) -> bool {
    lease.expires_at.is_some_and(|end| end < now)
}

/// Life of the lease's credentials.
pub fn life(lease: &Lease) -> Duration {
    Duration::from_secs(u64::from(lease.ttl_seconds))
}

/// A credential was made: the first, or a new value. None when the lease has ended meanwhile, and the
/// credential is to be taken away; an expired one comes back.
pub fn issued(lease: &Lease, now: Timestamp, credential: &Issued) -> Option<Lease> {
    let first = match lease.status {
        LeaseStatus::Requested => true,
        LeaseStatus::Active | LeaseStatus::Expired => false,
        LeaseStatus::Failed | LeaseStatus::Revoked => return None,
    };
    Some(Lease {
        status: LeaseStatus::Active,
        vault_lease_id: Some(credential.vault_lease_id.clone()),
        issued_at: if first { Some(now) } else { lease.issued_at },
        last_renewed_at: if first { None } else { Some(now) },
        expires_at: Some(credential.expires_at),
        delivered_at: None,
        last_error: None,
        secret_metadata: Some(credential.metadata.clone()),
        issuer: Some(credential.issuer.clone()),
        version: lease.version + 1,
        offers: lease.offers.saturating_add(1),
        failures: 0,
        tried_at: Some(now),
        released: false,
        leftovers: with_leftover(lease, lease.vault_lease_id.as_deref(), Some(&credential.vault_lease_id)),
        ..lease.clone()
    })
}

/// A credential was made for a lease that has ended meanwhile: the issuer is asked to take it away.
pub fn too_late(lease: &Lease, credential: &Issued) -> Lease {
    Lease {
        issuer: Some(credential.issuer.clone()),
        leftovers: with_leftover(lease, Some(&credential.vault_lease_id), lease.vault_lease_id.as_deref()),
        released: false,
        ..lease.clone()
    }
}

/// The leftovers and one more, unless it is what stays. An issuer that gives a credential a new value in its
/// place has none.
fn with_leftover(lease: &Lease, gone: Option<&str>, stays: Option<&str>) -> Vec<String> {
    let mut leftovers = lease.leftovers.clone();
    leftovers.extend(gone.filter(|gone| Some(*gone) != stays).map(str::to_owned));
    leftovers
}

/// Everything of the lease that the issuer may have.
pub fn at_issuer(lease: &Lease) -> Vec<String> {
    lease.vault_lease_id.iter().chain(&lease.leftovers).cloned().collect()
}

/// The issuer has taken these leftovers away.
pub fn discarded(lease: &Lease, gone: &[String]) -> Lease {
    let mut row = lease.clone();
    row.leftovers.retain(|leftover| !gone.contains(leftover));
    if row.failures == 0 && row.delivered_at.is_some() {
        row.last_error = None;
    }
    row
}

/// The issuer could not be asked: the lease stays what it is and the call is made again after a wait.
pub fn not_answered(lease: &Lease, now: Timestamp, error: &str) -> Lease {
    Lease {
        last_error: Some(error.to_owned()),
        failures: lease.failures.saturating_add(1),
        tried_at: Some(now),
        ..lease.clone()
    }
}

/// The lease cannot be kept up. A terminal one stays what it is.
pub fn fail(lease: &Lease, error: &str) -> Lease {
    if lease.status.is_terminal() {
        return lease.clone();
    }
    ended(Lease { status: LeaseStatus::Failed, last_error: Some(error.to_owned()), ..lease.clone() })
}

/// An active lease's time is over. Its site knows the end and need not be told, unless it never had the
/// credential.
pub fn expire(lease: &Lease, now: Timestamp) -> Lease {
    if lease.status != LeaseStatus::Active || !is_over(lease, now) {
        return lease.clone();
    }
    if lease.delivered_at.is_some() {
        let row = ended(Lease { status: LeaseStatus::Expired, last_error: None, ..lease.clone() });
        return Lease { settled: row.version, ..row };
    }
    let error = "the credential ended before the site could take it: ask for a new one";
    ended(Lease { status: LeaseStatus::Expired, last_error: Some(error.to_owned()), ..lease.clone() })
}

/// Takes a lease away. One that is revoked already stays as it is.
///
/// # Errors
/// It has failed or expired.
pub fn revoke(lease: &Lease, now: Timestamp) -> Result<Lease, LeaseOver> {
    match lease.status {
        LeaseStatus::Requested | LeaseStatus::Active => Ok(ended(Lease {
            status: LeaseStatus::Revoked,
            revoked_at: Some(now),
            last_error: None,
            ..lease.clone()
        })),
        LeaseStatus::Revoked => Ok(lease.clone()),
        LeaseStatus::Failed | LeaseStatus::Expired => Err(LeaseOver(lease.status)),
    }
}

/// A new word for the site, and the issuer to be asked at once.
fn ended(lease: Lease) -> Lease {
    Lease { version: lease.version + 1, refusals: 0, failures: 0, tried_at: None, released: false, ..lease }
}

/// The site has taken a word. None when that was an older one.
pub fn taken(lease: &Lease, version: u64, now: Timestamp) -> Option<Lease> {
    if version != lease.version || lease.settled == version {
        return None;
    }
    let delivered = lease.status == LeaseStatus::Active;
    Some(Lease {
        settled: version,
        delivered_at: if delivered { Some(now) } else { lease.delivered_at },
        last_error: if delivered { None } else { lease.last_error.clone() },
        offers: 0,
        refusals: 0,
        ..lease.clone()
    })
}

/// The site has not taken a word. `dead` says that it never will, or refused it for good too often: an active
/// lease fails, because nobody has its credential, and of an ended one the site is told no more.
pub fn not_taken(lease: &Lease, version: u64, error: &str, refusals: u32, dead: bool) -> Option<Lease> {
    if version != lease.version || lease.settled == version {
        return None;
    }
    let row = Lease { last_error: Some(error.to_owned()), refusals, ..lease.clone() };
    if !dead {
        return Some(row);
    }
    let row = fail(&row, &format!("the site refused it: {error}"));
    Some(Lease { settled: row.version, ..row })
}

/// The issuer has taken the credential away.
pub fn released(lease: &Lease) -> Lease {
    let last_error = if lease.status == LeaseStatus::Revoked { None } else { lease.last_error.clone() };
    Lease { released: true, failures: 0, last_error, leftovers: Vec::new(), ..lease.clone() }
}

/// What the site is to be told now, if anything.
pub fn word(lease: &Lease) -> Option<LeaseWord> {
    if lease.settled >= lease.version {
        return None;
    }
    match lease.status {
        LeaseStatus::Requested => None,
        LeaseStatus::Active => Some(LeaseWord::Issued),
        LeaseStatus::Failed | LeaseStatus::Expired => Some(LeaseWord::Failed),
        LeaseStatus::Revoked => Some(LeaseWord::Revoked),
    }
}

/// Whether anything is left to do about the lease.
pub fn is_open(lease: &Lease) -> bool {
    !lease.status.is_terminal() || !lease.released || word(lease).is_some()
}

/// Whether the lease is forgotten: it has ended, and was asked for so long ago (contract 7.2).
pub fn is_forgotten(lease: &Lease, now: Timestamp) -> bool {
    lease.status.is_terminal() && lease.requested_at.after(limits::KEPT) < now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn wish() -> LeaseRequest {
        LeaseRequest {
            correlation_key: "0123456789abcdef0123456789abcdef".to_owned(),
            host_id: "web-1".to_owned(),
            secret_name: "orders".to_owned(),
            backend_role: "reader".to_owned(),
            kind: "database".to_owned(),
            ttl_seconds: None,
        }
    }

    fn requested(ttl_seconds: Option<u64>) -> Lease {
        let id = LeaseId(uuid::Uuid::from_u128(1));
        request(id, SiteId(uuid::Uuid::from_u128(2)), NOW, &LeaseRequest { ttl_seconds, ..wish() }).unwrap()
    }

    fn credential(now: Timestamp, lease: &Lease) -> Issued {
        Issued {
            issuer: "trial".to_owned(),
            vault_lease_id: "trial/dynamic/1".to_owned(),
            metadata: "{}".to_owned(),
            expires_at: now.after(life(lease)),
        }
    }

    fn active() -> Lease {
        let lease = requested(None);
        issued(&lease, NOW, &credential(NOW, &lease)).unwrap()
    }

    fn secs(secs: u64) -> Timestamp {
        NOW.after(Duration::from_secs(secs))
    }

    #[test]
    fn life_is_bounded_and_has_a_default() {
        for (wanted, given) in [(None, 1_800), (Some(1), 60), (Some(3_600), 3_600), (Some(u64::MAX), 86_400)]
        {
            assert_eq!(requested(wanted).ttl_seconds, given);
        }
    }

    #[test]
    fn request_that_can_never_be_met_names_its_member() {
        let bad = [
            LeaseRequest { kind: "vault".to_owned(), ..wish() },
            LeaseRequest { host_id: " ".to_owned(), ..wish() },
            LeaseRequest { secret_name: "a\nb".to_owned(), ..wish() },
            LeaseRequest { correlation_key: "x".repeat(65), ..wish() },
        ];

        let fields = bad.map(|bad| {
            request(LeaseId(uuid::Uuid::nil()), SiteId(uuid::Uuid::nil()), NOW, &bad).unwrap_err().field()
        });

        assert_eq!(fields, ["kind", "host_id", "secret_name", "correlation_key"]);
    }

    #[test]
    fn renewed_value_is_undelivered_until_the_site_takes_it() {
        let delivered = taken(&active(), 1, secs(1)).unwrap();
        assert_eq!(step(&delivered, secs(1_709), true, false, 0), Step::Wait);
        assert_eq!(step(&delivered, secs(1_710), true, false, 0), Step::Renew);

        let renewed = issued(&delivered, secs(1_710), &credential(secs(1_710), &delivered)).unwrap();

        assert_eq!((renewed.delivered_at, renewed.last_renewed_at), (None, Some(secs(1_710))));
        assert_eq!(taken(&renewed, 1, secs(1_711)), None, "an answer to the old value settles nothing");
        assert_eq!(taken(&renewed, 2, secs(1_711)).unwrap().delivered_at, Some(secs(1_711)));
    }

    #[test]
    fn undelivered_value_is_replaced_with_growing_waits_and_at_once_when_nobody_keeps_it() {
        let mut lease = active();
        let mut now = NOW;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let begun = now;
            while step(&lease, now, true, true, 1 << 63) != Step::Renew {
                now = now.after(Duration::from_secs(1));
            }
            waits.push(now.since(begun).as_secs());
            lease = issued(&lease, now, &credential(now, &lease)).unwrap();
        }

        assert_eq!(waits, [10, 20, 40, 80, 160, 320]);
        assert_eq!(step(&lease, now, true, false, 0), Step::Renew);
    }

    #[test]
    fn issuer_that_does_not_answer_is_asked_again_until_nobody_waits() {
        let lease = not_answered(&requested(Some(60)), NOW, "down");

        assert_eq!(step(&lease, secs(5), true, false, 0), Step::Wait);
        assert_eq!(step(&lease, secs(8), true, false, 0), Step::Issue);
        assert_eq!(step(&lease, secs(60), true, false, 0), Step::GiveUp);
    }

    #[test]
    fn site_on_hold_loses_its_leases() {
        assert_eq!(step(&requested(None), NOW, false, false, 0), Step::GiveUp);
        assert_eq!(step(&active(), NOW, false, true, 0), Step::Revoke);
    }

    #[test]
    fn credential_that_ended_before_it_arrived_is_told_as_a_failure() {
        let never_taken = expire(&active(), secs(1_801));
        let taken = expire(&taken(&active(), 1, secs(1)).unwrap(), secs(1_801));

        assert_eq!(word(&never_taken), Some(LeaseWord::Failed));
        assert_eq!((word(&taken), taken.status), (None, LeaseStatus::Expired));
    }

    #[test]
    fn renewal_that_arrives_late_brings_an_expired_lease_back() {
        let expired = expire(&active(), secs(1_801));

        let back = issued(&expired, secs(1_802), &credential(secs(1_802), &expired)).unwrap();

        assert_eq!(back.status, LeaseStatus::Active);
    }

    fn renewed(lease: &Lease, id: &str) -> Lease {
        let credential = Issued { vault_lease_id: id.to_owned(), ..credential(secs(1_710), lease) };
        issued(lease, secs(1_710), &credential).unwrap()
    }

    #[test]
    fn replaced_credential_is_discarded_once_the_site_has_the_new_one() {
        let delivered = taken(&active(), 1, secs(1)).unwrap();

        let lease = renewed(&delivered, "second");
        assert_eq!(lease.leftovers, ["trial/dynamic/1"]);
        assert_eq!(step(&lease, secs(1_711), true, true, 0), Step::Wait, "the host works with it");
        let lease = taken(&lease, 2, secs(1_712)).unwrap();
        assert_eq!(step(&lease, secs(1_712), true, false, 0), Step::Discard);

        let tidy = discarded(&lease, &lease.leftovers);
        assert_eq!(step(&tidy, secs(1_713), true, false, 0), Step::Wait);
        assert_eq!(at_issuer(&tidy), ["second"]);
        let kept = renewed(&delivered, "trial/dynamic/1");
        assert!(kept.leftovers.is_empty(), "a new value in the old one's place leaves nothing");
    }

    #[test]
    fn credentials_that_nobody_takes_do_not_pile_up() {
        let mut lease = taken(&active(), 1, secs(1)).unwrap();
        for number in 1..=limits::LEFTOVERS_MAX {
            assert_ne!(step(&lease, secs(1_711), true, true, 0), Step::Discard, "{number}");
            lease = renewed(&lease, &format!("renewed-{number}"));
        }

        assert_eq!(step(&lease, secs(1_711), true, true, 0), Step::Discard);
        let waits: Duration = (1..).take(limits::LEFTOVERS_MAX - 1).map(|offers| entry_wait(offers, 0)).sum();
        assert!(waits > limits::RENEW_BEFORE, "what the site has has ended by then: {waits:?}");
    }

    #[test]
    fn credential_that_comes_after_the_end_is_taken_away() {
        let revoked = released(&revoke(&requested(None), secs(1)).unwrap());
        let lease = too_late(&revoked, &credential(secs(2), &revoked));

        assert!(is_open(&lease));
        assert_eq!(step(&lease, secs(2), true, false, 0), Step::Release);
        assert_eq!(at_issuer(&lease), ["trial/dynamic/1"]);
        assert!(
            at_issuer(&released(&lease)).is_empty()
                && !is_open(&taken(&released(&lease), 1, secs(3)).unwrap())
        );
    }

    #[test]
    fn word_that_the_site_never_takes_ends_an_active_lease() {
        let lease = not_taken(&active(), 1, "HTTP 400", 3, false).unwrap();
        assert_eq!((lease.status, lease.refusals), (LeaseStatus::Active, 3));

        let dead = not_taken(&lease, 1, "HTTP 400", 8, true).unwrap();

        assert_eq!((dead.status, word(&dead)), (LeaseStatus::Failed, None));
        assert!(is_open(&dead), "the issuer must still take it away");
        assert!(!is_open(&released(&dead)));
    }

    /// What contract 10 says of the states, and nothing else.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Plain {
        status: LeaseStatus,
        /// The site has the present credential.
        delivered: bool,
        /// The site has to be told something.
        owed: bool,
        /// The issuer may have something.
        at_issuer: bool,
    }

    #[derive(Debug, Clone, Copy)]
    enum Move {
        Issued,
        Outage,
        Refused,
        Expire,
        Revoke,
        Taken,
        TakenOld,
        Dead,
        Released,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        use Move::*;
        let one = prop::sample::select(vec![
            Issued, Outage, Refused, Expire, Revoke, Taken, TakenOld, Dead, Released,
        ]);
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn lease_moves_as_the_contract_says(moves in moves()) {
            use LeaseStatus::*;
            let mut lease = requested(Some(60));
            let mut plain = Plain { status: Requested, delivered: false, owed: false, at_issuer: true };
            let mut now = NOW;
            for step in moves {
                now = now.after(Duration::from_secs(7));
                let before = lease.clone();
                match step {
                    Move::Issued => match issued(&lease, now, &credential(now, &lease)) {
                        Some(next) => {
                            prop_assert!(matches!(plain.status, Requested | Active | Expired));
                            plain = Plain { status: Active, delivered: false, owed: true, at_issuer: true };
                            lease = next;
                        }
                        None => prop_assert!(matches!(plain.status, Failed | Revoked)),
                    },
                    Move::Outage => lease = not_answered(&lease, now, "down"),
                    Move::Refused => {
                        if !plain.status.is_terminal() {
                            plain = Plain { status: Failed, owed: true, at_issuer: true, ..plain };
                        }
                        lease = fail(&lease, "no");
                    }
                    Move::Expire => {
                        if plain.status == Active && before.expires_at.unwrap() < now {
                            plain = Plain { status: Expired, owed: !plain.delivered, at_issuer: true, ..plain };
                        }
                        lease = expire(&lease, now);
                    }
                    Move::Revoke => match revoke(&lease, now) {
                        Ok(next) => {
                            prop_assert!(!matches!(plain.status, Failed | Expired));
                            if plain.status != Revoked {
                                plain = Plain { status: Revoked, owed: true, at_issuer: true, ..plain };
                            }
                            lease = next;
                        }
                        Err(LeaseOver(status)) => prop_assert_eq!(status, plain.status),
                    },
                    Move::Taken => {
                        if plain.owed {
                            plain.owed = false;
                            plain.delivered |= plain.status == Active;
                        }
                        if let Some(next) = taken(&lease, lease.version, now) { lease = next; }
                    }
                    Move::TakenOld => {
                        if let Some(old) = lease.version.checked_sub(1) {
                            prop_assert_eq!(taken(&lease, old, now), None);
                        }
                    }
                    Move::Dead => {
                        if plain.owed {
                            let failed = plain.status == Active;
                            plain.status = if failed { Failed } else { plain.status };
                            plain.at_issuer |= failed;
                            plain.owed = false;
                        }
                        if let Some(next) = not_taken(&lease, lease.version, "no", 8, true) { lease = next; }
                    }
                    Move::Released => if plain.status.is_terminal() {
                        plain.at_issuer = false;
                        lease = released(&lease);
                    },
                }
                prop_assert_eq!(lease.status, plain.status);
                prop_assert_eq!(word(&lease).is_some(), plain.owed);
                prop_assert_eq!(lease.revoked_at.is_some(), plain.status == Revoked);
                if plain.status == Active {
                    prop_assert_eq!(lease.delivered_at.is_some(), plain.delivered);
                }
                let open = !plain.status.is_terminal() || plain.at_issuer || plain.owed;
                prop_assert_eq!(is_open(&lease), open);
                prop_assert!(lease.version >= before.version && lease.settled <= lease.version);
            }
        }
    }
}

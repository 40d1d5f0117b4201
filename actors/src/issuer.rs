//! Issuers: what makes the credentials of leases, behind one trait, and the built-in one for trials.
//!
//! An issuer draws no randomness and reads no clock: the value and its end come with the order. So a repeat
//! of an order is safe, and a simulation replays it. The order names the credential by node and lease: a
//! call that was made and whose answer got lost is found again by the next one, and what no live lease
//! stands for is swept. Where the server behind an issuer chooses value and name itself, a renewal makes one
//! more credential, the old one is discarded later, and one whose answer got lost ends by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::id::LeaseId;
use hansa_model::lease::LeaseKind;
use hansa_model::{Secret, SiteId, Timestamp};
use serde_json::{Map, Value};

/// An issuer's answer on its way. Its caller gives it up after `limits::lease::CALL_WAIT_MAX`.
pub type Issuing<'a, T> = Pin<Box<dyn Future<Output = Result<T, IssuerError>> + Send + 'a>>;

/// Makes credentials and takes them away.
pub trait Issuer: Send + Sync + fmt::Debug {
    /// The name in the configuration; stands in each lease that it issued.
    fn name(&self) -> &str;

    /// Whether it gives this kind of credential for this role.
    fn serves(&self, kind: LeaseKind, backend_role: &str) -> bool;

    /// Makes the credential, or gives the one that is there the new value and end. Done on return; safe to
    /// repeat.
    fn issue<'a>(&'a self, order: &'a Order) -> Issuing<'a, Credential>;

    /// Takes the credential away, and ends what it is used for. One that is not there is taken away. `ids` are
    /// all that the issuer's answers called it by.
    fn revoke<'a>(&'a self, name: &'a CredentialName, ids: &'a [String]) -> Issuing<'a, ()>;

    /// Takes away what newer credentials of the same lease have replaced, by [`Credential::vault_lease_id`].
    /// Never asked of an issuer that gives a credential the new value in its place, and always the same id.
    fn discard<'a>(&'a self, ids: &'a [String]) -> Issuing<'a, ()> {
        let _ = ids;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes away this node's credentials that no live lease stands for; answers how many.
    fn sweep<'a>(&'a self, keep: &'a Keep) -> Issuing<'a, u64>;
}

/// What an issuer knows a credential by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialName {
    /// Eight hexadecimal digits of the node's identity, so that two coordinators at one issuer leave each
    /// other's credentials alone.
    pub node: String,
    /// The lease.
    pub lease: LeaseId,
}

impl CredentialName {
    /// Letters, digits and one underscore: 41 characters.
    pub fn label(&self) -> String {
        format!("{}_{}", self.node, self.lease.0.as_simple())
    }
}

/// What an issuer is asked for.
#[derive(Debug)]
pub struct Order {
    /// What the credential is known by.
    pub name: CredentialName,
    /// The site that it goes to.
    pub site: SiteId,
    /// The host that it is for; as the site calls it.
    pub host_id: String,
    /// What was asked for.
    pub secret_name: String,
    /// The role that it gives.
    pub backend_role: String,
    /// See [`LeaseKind`].
    pub kind: LeaseKind,
    /// The random part: 43 characters of URL-safe base64.
    pub password: Secret<String>,
    /// How long it is to live.
    pub life: Duration,
    /// The end of that life.
    pub expires_at: Timestamp,
}

impl Order {
    /// The end of a credential that lives so long; never a later one than was asked for.
    pub fn end_after(&self, life: Duration) -> Timestamp {
        self.expires_at.before(self.life.saturating_sub(life))
    }
}

/// What an issuer made.
#[derive(Debug)]
pub struct Credential {
    /// What the host is given.
    pub value: Secret<String>,
    /// Where the issuer has it. The present credential of a lease is the one that was made last.
    pub vault_lease_id: String,
    /// Its end, which may be sooner than was asked for.
    pub expires_at: Timestamp,
    /// What else the host needs, such as a user name; no secret.
    pub metadata: Map<String, Value>,
}

/// Why an issuer did not do it. The text says what to do, and never has a credential in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// It cannot be asked now. It is asked again.
    #[error("{0}")]
    Unavailable(String),
    /// It will never do this.
    #[error("{0}")]
    Refused(String),
}

/// Which of a node's credentials stay.
#[derive(Debug, Clone)]
pub struct Keep {
    /// See [`CredentialName::node`].
    pub node: String,
    /// The live leases.
    pub live: BTreeSet<LeaseId>,
    /// Credentials of leases that were asked for later stay too: they may be in the making.
    pub made_before: Timestamp,
}

impl Keep {
    /// The credential's name when it is one of this node's that nobody needs any more. `label` is what
    /// [`CredentialName::label`] gave.
    pub fn leftover(&self, label: &str) -> Option<CredentialName> {
        let (node, lease) = label.split_once('_')?;
        let lease = LeaseId(uuid::Uuid::try_parse(lease).ok()?);
        // The first 48 bits of a version 7 UUID are its milliseconds.
        let millis = i64::try_from(lease.0.as_u128() >> 80).ok()?;
        let late = millis >= self.made_before.as_millis();
        let stays = node != self.node || late || self.live.contains(&lease);
        (!stays).then(|| CredentialName { node: node.to_owned(), lease })
    }
}

/// The issuers of a node, in the order in which they are asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Issuers(Arc<[Arc<dyn Issuer>]>);

impl Issuers {
    /// These issuers; the first that serves a request is taken.
    pub fn new(issuers: Vec<Arc<dyn Issuer>>) -> Self {
        Self(issuers.into())
    }

    /// The built-in issuer alone.
    pub fn trial() -> Self {
        Self::new(vec![Arc::new(TrialIssuer::new("trial".to_owned()))])
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<dyn Issuer>> {
        self.0.iter().find(|issuer| issuer.name() == name).cloned()
    }

    pub(crate) fn serving(&self, kind: LeaseKind, backend_role: &str) -> Option<Arc<dyn Issuer>> {
        self.0.iter().find(|issuer| issuer.serves(kind, backend_role)).cloned()
    }

    pub(crate) fn all(&self) -> &[Arc<dyn Issuer>] {
        &self.0
    }
}

/// The built-in issuer: credentials of the documented shapes that open nothing, to try out the way they go.
#[derive(Debug)]
pub struct TrialIssuer {
    name: String,
}

impl TrialIssuer {
    /// An issuer under this name.
    pub const fn new(name: String) -> Self {
        Self { name }
    }

    fn make(&self, order: &Order) -> Credential {
        let lease = order.name.lease.0.as_simple().to_string();
        let password = order.password.expose();
        let mut metadata = Map::new();
        metadata.insert("issuer".to_owned(), self.name.clone().into());
        let value = match order.kind {
            LeaseKind::Database => {
                // The last digits of the id are random, and stay the same through all renewals.
                let username = format!("sysmanage-{}", &lease[lease.len() - 8..]);
                let value = format!("{username}:{password}");
                metadata.insert("username".to_owned(), username.into());
                value
            }
            LeaseKind::Ssh => format!("ssh-otk-{password}"),
            LeaseKind::Token => password.clone(),
        };
        let vault_lease_id = format!("{}/dynamic/{}", self.name, order.name.lease);
        Credential { value: Secret::new(value), vault_lease_id, expires_at: order.expires_at, metadata }
    }
}

impl Issuer for TrialIssuer {
    fn name(&self) -> &str {
        &self.name
    }

    fn serves(&self, _kind: LeaseKind, _backend_role: &str) -> bool {
        true
    }

    fn issue<'a>(&'a self, order: &'a Order) -> Issuing<'a, Credential> {
        Box::pin(std::future::ready(Ok(self.make(order))))
    }

    fn revoke<'a>(&'a self, _name: &'a CredentialName, _ids: &'a [String]) -> Issuing<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn sweep<'a>(&'a self, _keep: &'a Keep) -> Issuing<'a, u64> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId(uuid::Uuid::from_u128(0x019a_a000_0000_7000_8000_0000_89ab_cdef));

    fn name() -> CredentialName {
        CredentialName { node: "01234567".to_owned(), lease: LEASE }
    }

    fn made(kind: LeaseKind) -> Credential {
        TrialIssuer::new("trial".to_owned()).make(&Order {
            name: name(),
            site: SiteId(uuid::Uuid::nil()),
            host_id: "web-1".to_owned(),
            secret_name: "orders".to_owned(),
            backend_role: "reader".to_owned(),
            kind,
            password: Secret::new("random".to_owned()),
            life: Duration::from_secs(600),
            expires_at: Timestamp::EPOCH,
        })
    }

    #[test]
    fn trial_values_have_the_documented_shapes() {
        let values = [LeaseKind::Database, LeaseKind::Ssh, LeaseKind::Token]
            .map(|kind| made(kind).value.expose().clone());

        assert_eq!(values, ["sysmanage-89abcdef:random", "ssh-otk-random", "random"]);
        assert_eq!(made(LeaseKind::Database).metadata["username"], "sysmanage-89abcdef");
    }

    #[test]
    fn sweep_leaves_live_young_and_foreign_credentials_alone() {
        let millis = i64::try_from(LEASE.0.as_u128() >> 80).unwrap();
        let keep = |node: &str, live: &[LeaseId], made_before: i64| Keep {
            node: node.to_owned(),
            live: live.iter().copied().collect(),
            made_before: Timestamp::from_micros(made_before * 1_000),
        };
        let label = name().label();

        assert_eq!(keep("01234567", &[], millis + 1).leftover(&label), Some(name()));
        assert_eq!(keep("01234567", &[LEASE], millis + 1).leftover(&label), None);
        assert_eq!(keep("01234567", &[], millis).leftover(&label), None);
        assert_eq!(keep("89abcdef", &[], millis + 1).leftover(&label), None);
        assert_eq!(keep("01234567", &[], millis + 1).leftover("01234567_reader"), None);
    }
}

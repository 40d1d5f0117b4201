//! Local users, API keys and logins: who may do what, and what is stored of them.
//!
//! A [`Grant`] says what somebody may do and where; nobody gives what they do not hold ([`Grant::within`]).
//! Hashing and token texts are the shell's business.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::access as limits;
use crate::scope::{Operator, Scope};
use crate::secret::TokenHash;
use crate::secrets::tenant::Tenancy;
use crate::{ApiKeyId, SiteId, Timestamp};

/// The user id of a local user: an e-mail address in lower case, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Userid(String);

impl Userid {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Userid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Userid {
    type Err = InvalidAccess;

    /// ASCII only: letters that look alike would make two users of one name.
    fn from_str(text: &str) -> Result<Self, InvalidAccess> {
        let plain = |part: &str| {
            let bytes = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.=?^_`{|}~".contains(&byte);
            !part.is_empty() && part.bytes().all(bytes)
        };
        let text = text.trim();
        match text.split_once('@') {
            Some((name, host)) if text.len() <= limits::USERID_BYTES_MAX && plain(name) && plain(host) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            Some(_) | None => Err(InvalidAccess::Userid),
        }
    }
}

/// What an operator typically does: a set of scopes with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Sees everything, changes nothing.
    Viewer,
    /// Works with what is there: policies, commands, alerts, leases, a site's own inputs.
    Operator,
    /// Everything, the registry, the role, users and keys too.
    Administrator,
}

impl OperatorRole {
    /// Every role, the smallest first; each holds the one before.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// The spelling in bodies and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// What the role may do.
    pub fn scopes(self) -> BTreeSet<Scope> {
        Scope::ALL.into_iter().filter(|scope| self.holds(*scope)).collect()
    }

    const fn holds(self, scope: Scope) -> bool {
        let least = match scope {
            Scope::IdentityRead
            | Scope::SitesRead
            | Scope::HostsRead
            | Scope::RollupsRead
            | Scope::PoliciesRead
            | Scope::CommandsRead
            | Scope::AuditRead
            | Scope::AlertsRead
            | Scope::LeasesRead
            | Scope::SiteRead
            | Scope::FederationRead => Self::Viewer,
            Scope::PoliciesWrite
            | Scope::CommandsDispatch
            | Scope::AlertsWrite
            | Scope::LeasesRevoke
            | Scope::SiteWrite
            // A value is more than a view of something; paths need a policy besides.
            | Scope::SecretsRead
            | Scope::SecretsWrite
            | Scope::SecretsDelete
            | Scope::SecretsList
            | Scope::SecretsRotate => Self::Operator,
            Scope::IdentityWrite
            | Scope::RoleWrite
            | Scope::SitesWrite
            | Scope::FederationWrite
            | Scope::Admin => Self::Administrator,
        };
        least as u8 <= self as u8
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OperatorRole {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, InvalidAccess> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(InvalidAccess::Role)
    }
}

/// What somebody may do, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// A named set of scopes.
    pub role: Option<OperatorRole>,
    /// Scopes beside the role's.
    pub scopes: BTreeSet<Scope>,
    /// The sites they may see; none means all.
    pub sites: Option<BTreeSet<SiteId>>,
}

impl Grant {
    /// The role's scopes and those beside it.
    pub fn effective(&self) -> BTreeSet<Scope> {
        let mut scopes = self.role.map(OperatorRole::scopes).unwrap_or_default();
        scopes.extend(&self.scopes);
        scopes
    }

    /// The operator that holds this grant.
    pub fn operator(&self, userid: String) -> Operator {
        Operator { userid, scopes: self.effective(), sites: self.sites.clone(), tenancy: Tenancy::default() }
    }

    /// Whether an operator holds all of this: then they may give, change and take it.
    ///
    /// # Errors
    /// A scope or the sites are beyond theirs.
    pub fn within(&self, operator: &Operator) -> Result<(), Exceeds> {
        if let Some(scope) = self.effective().into_iter().find(|scope| !operator.may(*scope)) {
            return Err(Exceeds::Scope(scope));
        }
        if self.is_seen_by(operator) { Ok(()) } else { Err(Exceeds::Sites) }
    }

    /// Whether all its sites are ones that the operator sees; who holds others does not exist for them.
    pub fn is_seen_by(&self, operator: &Operator) -> bool {
        match (&operator.sites, &self.sites) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(theirs), Some(sites)) => sites.is_subset(theirs),
        }
    }

    /// Adds another grant: all scopes of both, and only the sites that both allow. More would let the scopes
    /// of one reach the sites of the other.
    pub fn join(&mut self, other: &Self) {
        self.scopes = self.effective();
        self.scopes.extend(other.effective());
        self.role = None;
        self.sites = match (self.sites.take(), &other.sites) {
            (None, sites) => sites.clone(),
            (sites, None) => sites,
            (Some(ours), Some(theirs)) => Some(ours.intersection(theirs).copied().collect()),
        };
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// It allows nothing, or names too many sites.
    pub fn check(&self) -> Result<(), InvalidAccess> {
        if self.effective().is_empty() {
            return Err(InvalidAccess::NoScope);
        }
        match &self.sites {
            Some(sites) if sites.is_empty() || sites.len() > limits::GRANT_SITES_MAX => {
                Err(InvalidAccess::Sites)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What an operator tried to give without holding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeds {
    /// This scope.
    #[error("you do not hold the scope {0} yourself")]
    Scope(Scope),
    /// Some of the sites, or all of them.
    #[error("you do not see all of these sites yourself: name sites that you see")]
    Sites,
}

/// A value of a user or key that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccess {
    /// The user id.
    #[error(
        "userid must be an e-mail address of at most {max} plain ASCII characters",
        max = limits::USERID_BYTES_MAX
    )]
    Userid,
    /// The password.
    #[error(
        "password must have at least {min} characters and at most {max} bytes",
        min = limits::PASSWORD_CHARS_MIN,
        max = limits::PASSWORD_BYTES_MAX
    )]
    Password,
    /// The role.
    #[error("role must be viewer, operator or administrator")]
    Role,
    /// A scope's name.
    #[error("scopes has a name that is no scope: `hansa token mint --help` lists them")]
    Scope,
    /// Neither a role nor a scope.
    #[error("name a role or at least one scope")]
    NoScope,
    /// The list of sites.
    #[error(
        "sites must name 1 to {max} sites; leave it out for all",
        max = limits::GRANT_SITES_MAX
    )]
    Sites,
    /// The name of a key.
    #[error(
        "name must have 1 to {max} characters: ASCII letters, digits, dots, dashes or underscores",
        max = limits::API_KEY_NAME_BYTES_MAX
    )]
    KeyName,
    /// The end of a key.
    #[error("expires_at must lie in the future")]
    Expiry,
}

impl InvalidAccess {
    /// The member of the body that is bad.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Userid => "userid",
            Self::Password => "password",
            Self::Role => "role",
            Self::Scope | Self::NoScope => "scopes",
            Self::Sites => "sites",
            Self::KeyName => "name",
            Self::Expiry => "expires_at",
        }
    }
}

/// Checks a new password's length; what it says is its owner's business.
///
/// # Errors
/// Too short or too long.
pub fn check_password(password: &str) -> Result<(), InvalidAccess> {
    let long_enough = password.chars().count() >= limits::PASSWORD_CHARS_MIN;
    if long_enough && password.len() <= limits::PASSWORD_BYTES_MAX {
        Ok(())
    } else {
        Err(InvalidAccess::Password)
    }
}

/// Checks the name of an API key.
///
/// # Errors
/// Empty, too long, or with characters beyond the plain ones.
pub fn check_key_name(name: &str) -> Result<(), InvalidAccess> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let fits = (1..=limits::API_KEY_NAME_BYTES_MAX).contains(&name.len());
    if plain && fits { Ok(()) } else { Err(InvalidAccess::KeyName) }
}

/// What is kept of a password: argon2id with its cost.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// KiB.
    pub memory: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Random.
    pub salt: [u8; 16],
    /// The hash.
    pub hash: [u8; 32],
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A local user, as stored under the user id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// See [`PasswordHash`].
    pub password: PasswordHash,
    /// What they may do.
    pub grant: Grant,
    /// Cannot log in, and what was logged in has ended.
    pub disabled: bool,
    /// Random, anew with each change: a login holds only while it stays.
    pub stamp: [u8; 16],
    /// When the user was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An API key, as stored under its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Unique; stands in the audit log.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends; none means never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within [`limits::LAST_USED_STEP`].
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A login, as stored under the SHA-256 of its refresh token's first half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Whose.
    pub userid: String,
    /// The user's stamp at the login.
    pub stamp: [u8; 16],
    /// SHA-256 of the second half of the refresh token that is good now.
    pub current: TokenHash,
    /// The one before it.
    pub previous: Option<TokenHash>,
    /// When the present one took its place.
    pub rotated_at: Timestamp,
    /// When the user logged in.
    pub created_at: Timestamp,
}

/// What a refresh token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// It is the present one: a new one takes its place.
    Rotate,
    /// It is the one just replaced, sent beside it: a token, but no new refresh token.
    Repeat,
    /// It was replaced: somebody has a copy, so the login ends.
    Reused,
    /// The login's time is over.
    Ended,
}

impl Login {
    /// Whether the login's time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.rotated_at) > limits::LOGIN_IDLE_MAX
            || now.since(self.created_at) > limits::LOGIN_LIFE_MAX
    }

    /// Whether the login still speaks for this user.
    pub fn holds(&self, now: Timestamp, user: &User) -> bool {
        !self.is_over(now) && !user.disabled && user.stamp == self.stamp
    }

    /// Judges the second half of a refresh token by its hash.
    pub fn refresh(&self, now: Timestamp, half: &TokenHash) -> Refresh {
        if self.is_over(now) {
            Refresh::Ended
        } else if *half == self.current {
            Refresh::Rotate
        } else if self.previous.as_ref() == Some(half) && now.since(self.rotated_at) <= limits::REFRESH_GRACE
        {
            Refresh::Repeat
        } else {
            Refresh::Reused
        }
    }

    /// The login with another refresh token.
    #[must_use]
    pub fn rotated(&self, now: Timestamp, half: TokenHash) -> Self {
        Self { previous: Some(self.current), current: half, rotated_at: now, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

    fn site(number: u128) -> SiteId {
        SiteId(Uuid::from_u128(number))
    }

    fn login() -> Login {
        Login {
            userid: "ada@example.com".to_owned(),
            stamp: [1; 16],
            current: [2; 32],
            previous: Some([3; 32]),
            rotated_at: NOW,
            created_at: NOW,
        }
    }

    #[test]
    fn address_has_one_spelling() {
        let ada: Userid = " Ada@Example.COM ".parse().unwrap();

        assert_eq!(ada.as_str(), "ada@example.com");
        for bad in ["", "ada", "@example.com", "ada@", "a b@c", "ädä@example.com", "a@b@c", "a\0@b", "a/b@c"]
        {
            assert_eq!(bad.parse::<Userid>(), Err(InvalidAccess::Userid), "{bad}");
        }
    }

    #[test]
    fn each_role_holds_the_one_before() {
        let [viewer, operator, administrator] = OperatorRole::ALL.map(OperatorRole::scopes);

        assert!(viewer.is_subset(&operator) && operator.is_subset(&administrator));
        assert_eq!(administrator, Scope::ALL.into_iter().collect());
        assert!(viewer.iter().all(|scope| scope.as_str().ends_with(":read")));
        let reads = Scope::ALL.iter().filter(|scope| scope.as_str().ends_with(":read"));
        assert_eq!(viewer.len(), reads.filter(|scope| **scope != Scope::SecretsRead).count());
    }

    #[test]
    fn nobody_gives_what_they_do_not_hold() {
        let giver = Operator {
            userid: "ada".to_owned(),
            scopes: [Scope::Admin, Scope::HostsRead].into(),
            sites: Some([site(1), site(2)].into()),
            tenancy: Tenancy::default(),
        };
        let grant = |scopes: &[Scope], sites: Option<&[u128]>| Grant {
            role: None,
            scopes: scopes.iter().copied().collect(),
            sites: sites.map(|sites| sites.iter().map(|number| site(*number)).collect()),
        };

        assert_eq!(grant(&[Scope::HostsRead], Some(&[1])).within(&giver), Ok(()));
        assert_eq!(
            grant(&[Scope::SitesRead], Some(&[1])).within(&giver),
            Err(Exceeds::Scope(Scope::SitesRead))
        );
        assert_eq!(grant(&[Scope::HostsRead], Some(&[1, 3])).within(&giver), Err(Exceeds::Sites));
        assert_eq!(grant(&[Scope::HostsRead], None).within(&giver), Err(Exceeds::Sites));
        let role = Grant { role: Some(OperatorRole::Viewer), ..grant(&[], Some(&[1])) };
        assert!(matches!(role.within(&giver), Err(Exceeds::Scope(_))));
    }

    #[test]
    fn replaced_refresh_token_is_answered_for_a_moment_and_then_ends_the_login() {
        let late = NOW.after(limits::REFRESH_GRACE + Duration::from_secs(1));

        assert_eq!(login().refresh(NOW, &[2; 32]), Refresh::Rotate);
        assert_eq!(login().refresh(NOW, &[3; 32]), Refresh::Repeat);
        assert_eq!(login().refresh(late, &[3; 32]), Refresh::Reused);
        assert_eq!(login().refresh(NOW, &[9; 32]), Refresh::Reused);
        let rotated = login().rotated(late, [4; 32]);
        assert_eq!(rotated.refresh(late, &[3; 32]), Refresh::Reused);
    }

    #[test]
    fn login_ends_when_idle_and_after_its_life() {
        let idle = NOW.after(limits::LOGIN_IDLE_MAX + Duration::from_secs(1));
        let old = NOW.after(limits::LOGIN_LIFE_MAX + Duration::from_secs(1));
        let busy = login().rotated(old.before(Duration::from_secs(2)), [4; 32]);

        assert_eq!(login().refresh(idle, &[2; 32]), Refresh::Ended);
        assert_eq!(busy.refresh(old, &[4; 32]), Refresh::Ended);
    }

    fn grants() -> impl Strategy<Value = Grant> {
        let scopes = proptest::sample::subsequence(Scope::ALL.to_vec(), 0..5);
        let sites = proptest::option::of(proptest::collection::btree_set(0_u128..6, 0..4));
        (scopes, sites).prop_map(|(scopes, sites)| Grant {
            role: None,
            scopes: scopes.into_iter().collect(),
            sites: sites.map(|sites| sites.into_iter().map(site).collect()),
        })
    }

    proptest! {
        #[test]
        fn joined_grants_reach_no_site_beyond_either(one in grants(), two in grants()) {
            let mut both = one.clone();
            both.join(&two);

            let (one, two) = (one.operator(String::new()), two.operator(String::new()));
            let both = both.operator(String::new());
            for number in 0..7 {
                prop_assert_eq!(both.sees(site(number)), one.sees(site(number)) && two.sees(site(number)));
            }
            for scope in Scope::ALL {
                prop_assert_eq!(both.may(scope), one.may(scope) || two.may(scope));
            }
        }

        #[test]
        fn what_is_within_an_operator_gives_nothing_new(giver in grants(), grant in grants()) {
            let giver = giver.operator(String::new());
            let refused = grant.within(&giver).is_err();

            let given = grant.operator(String::new());

            prop_assert!(refused || given.scopes.iter().all(|scope| giver.may(*scope)));
            prop_assert!(refused || (0..7).all(|number| !given.sees(site(number)) || giver.sees(site(number))));
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,40}") {
            let _ = text.parse::<Userid>();
            let _ = check_key_name(&text);
        }
    }
}

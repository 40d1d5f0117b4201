//! Issuers of operator tokens beside the node itself: a shared secret, and OpenID Connect issuers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use hansa_actors::{IssuerAlgorithm, IssuerConfig};
use hansa_model::SiteId;
use hansa_model::access::{Grant, OperatorRole};
use hansa_model::limits::issuer as limits;
use hansa_model::scope::Scope;
use hansa_model::secrets::id::TenantId;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Variables};

/// What concerns operators.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorsLayer {
    /// File with the secret of HS256 tokens.
    pub hs256_secret_file: Option<PathBuf>,
    /// Role of whoever brings one.
    pub hs256_role: Option<OperatorRole>,
    /// Scopes beside the role's.
    pub hs256_scopes: Option<BTreeSet<Scope>>,
    /// Sites they may see.
    pub hs256_sites: Option<BTreeSet<SiteId>>,
}

/// One OpenID Connect issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerLayer {
    /// Its name, exactly as tokens spell it.
    pub issuer: String,
    /// For whom its tokens must be.
    pub audience: String,
    /// Where its keys are.
    pub jwks_url: Option<String>,
    /// The claim that names the user.
    pub userid_claim: Option<String>,
    /// The claim that grants are looked up by.
    pub scope_claim: Option<String>,
    /// `RS256`, `ES256` or both.
    pub algorithms: Option<Vec<String>>,
    /// Scopes that the claim gives by naming them.
    #[serde(default)]
    pub scopes: BTreeSet<Scope>,
    /// The tenants that its tokens speak for.
    pub tenants: Option<BTreeSet<TenantId>>,
    /// What values of the claim give.
    #[serde(default)]
    pub grant: Vec<GrantLayer>,
}

/// What one value of an issuer's claim gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantLayer {
    /// The value.
    pub value: String,
    /// A role.
    pub role: Option<OperatorRole>,
    /// Scopes beside the role's.
    #[serde(default)]
    pub scopes: BTreeSet<Scope>,
    /// Sites they may see.
    pub sites: Option<BTreeSet<SiteId>>,
}

impl OperatorsLayer {
    pub(super) fn of_variables<F>(read: &Variables<F>) -> Result<Self, ConfigError>
    where
        F: Fn(&str) -> Option<String>,
    {
        Ok(Self {
            hs256_secret_file: read.parse("HANSA_OPERATORS__HS256_SECRET_FILE")?,
            hs256_role: read.parse("HANSA_OPERATORS__HS256_ROLE")?,
            hs256_scopes: None,
            hs256_sites: None,
        })
    }

    pub(super) fn over(self, below: Self) -> Self {
        Self {
            hs256_secret_file: self.hs256_secret_file.or(below.hs256_secret_file),
            hs256_role: self.hs256_role.or(below.hs256_role),
            hs256_scopes: self.hs256_scopes.or(below.hs256_scopes),
            hs256_sites: self.hs256_sites.or(below.hs256_sites),
        }
    }

    /// The file of the secret, and what its tokens give.
    pub(super) fn resolve(self) -> Result<Option<(PathBuf, Grant)>, ConfigError> {
        let grant = Grant {
            role: self.hs256_role,
            scopes: self.hs256_scopes.unwrap_or_default(),
            sites: self.hs256_sites,
        };
        let Some(path) = self.hs256_secret_file else { return Ok(None) };
        if grant.effective().is_empty() {
            return Err(ConfigError::Operators(
                "operators.hs256_secret_file gives nothing: set hs256_role or hs256_scopes".to_owned(),
            ));
        }
        Ok(Some((path, grant)))
    }
}

impl IssuerLayer {
    fn resolve(self) -> Result<IssuerConfig, ConfigError> {
        let name = self.issuer.clone();
        let bad = |what: &str| ConfigError::Operators(format!("issuer {name}: {what}"));
        for url in [Some(&self.issuer), self.jwks_url.as_ref()].into_iter().flatten() {
            if !is_safe_url(url) {
                return Err(bad("issuer and jwks_url must be https, or http on loopback"));
            }
        }
        if self.audience.is_empty() {
            return Err(bad("audience must not be empty"));
        }
        if self.grant.is_empty() && self.scopes.is_empty() {
            return Err(bad("without scopes and without a [[issuer.grant]] its tokens allow nothing"));
        }
        if self.tenants.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(bad("tenants must name one, or be left out"));
        }
        let algorithms = self.algorithms.unwrap_or_else(|| vec!["RS256".to_owned(), "ES256".to_owned()]);
        let algorithms: BTreeSet<IssuerAlgorithm> = algorithms
            .iter()
            .map(|text| match text.as_str() {
                "RS256" => Ok(IssuerAlgorithm::Rs256),
                "ES256" => Ok(IssuerAlgorithm::Es256),
                _ => Err(bad("algorithms may be RS256 and ES256")),
            })
            .collect::<Result<_, _>>()?;
        let grants = self
            .grant
            .into_iter()
            .map(|grant| {
                let given = Grant { role: grant.role, scopes: grant.scopes, sites: grant.sites };
                given.check().map_err(|error| bad(&format!("grant {}: {error}", grant.value)))?;
                Ok((grant.value, given))
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(IssuerConfig {
            issuer: self.issuer,
            audience: self.audience,
            jwks_url: self.jwks_url,
            userid_claim: self.userid_claim.unwrap_or_else(|| "sub".to_owned()),
            scope_claim: self.scope_claim.unwrap_or_else(|| "scope".to_owned()),
            algorithms,
            grants,
            named_scopes: self.scopes,
            tenants: self.tenants,
        })
    }
}

/// Checks the issuers as a whole.
pub(super) fn resolve_issuers(layers: Vec<IssuerLayer>) -> Result<Vec<IssuerConfig>, ConfigError> {
    if layers.len() > limits::ISSUERS_MAX {
        let max = limits::ISSUERS_MAX;
        return Err(ConfigError::Operators(format!("there may be at most {max} issuers")));
    }
    let issuers = layers.into_iter().map(IssuerLayer::resolve).collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<&str> = issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    if names.len() < issuers.len() {
        return Err(ConfigError::Operators("two issuers have one name".to_owned()));
    }
    Ok(issuers)
}

/// Whoever can change the keys on their way can be anybody.
fn is_safe_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => !host.is_empty(),
        "http" => is_loopback,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULTS, Layer};
    use super::*;

    fn resolve(text: &str) -> Result<super::super::Config, ConfigError> {
        toml::from_str::<Layer>(text).unwrap().resolve()
    }

    const ISSUER: &str = "[[issuer]]\nissuer = 'https://a.example.com'\naudience = 'hansa'\n\
                          [[issuer.grant]]\nvalue = 'ops'\nrole = 'operator'\n";

    #[test]
    fn documented_issuer_is_one_that_is_read() {
        let example: Vec<&str> = DEFAULTS
            .lines()
            .skip_while(|line| *line != "# [[issuer]]")
            .filter_map(|line| line.strip_prefix("# "))
            .collect();

        let issuers = resolve(&example.join("\n")).unwrap().issuers;

        assert_eq!(issuers.len(), 1);
        assert!(issuers[0].jwks_url.is_some() && issuers[0].algorithms.len() == 2);
        assert!(issuers[0].grants.iter().any(|(_, grant)| grant.sites.is_some()));
        assert!(issuers[0].named_scopes.contains(&Scope::SecretsRead) && issuers[0].tenants.is_some());
    }

    #[test]
    fn issuer_needs_a_safe_address_and_a_grant() {
        let issuers = resolve(ISSUER).unwrap().issuers;

        assert_eq!((issuers[0].userid_claim.as_str(), issuers[0].scope_claim.as_str()), ("sub", "scope"));
        assert!(resolve(&ISSUER.replace("https://a.example.com", "http://127.0.0.1:9")).is_ok());
        let named = ISSUER.split("[[issuer.grant]]").next().unwrap().to_owned() + "scopes = ['secrets:read']";
        assert!(resolve(&named).unwrap().issuers[0].named_scopes.contains(&Scope::SecretsRead));
        let unknown =
            ISSUER.replace("audience = 'hansa'", "audience = 'hansa'\nscopes = ['secrets:everything']");
        assert!(toml::from_str::<Layer>(&unknown).is_err());
        for bad in [
            ISSUER.replace("https", "http"),
            ISSUER.replace("audience = 'hansa'", "audience = ''"),
            ISSUER.replace("audience = 'hansa'", "audience = 'hansa'\njwks_url = 'http://keys.example.com'"),
            ISSUER.replace("audience = 'hansa'", "audience = 'hansa'\nalgorithms = ['HS256']"),
            ISSUER.replace("role = 'operator'", ""),
            ISSUER.split("[[issuer.grant]]").next().unwrap().to_owned(),
            ISSUER.replace("audience = 'hansa'", "audience = 'hansa'\ntenants = []"),
            format!("{ISSUER}{ISSUER}"),
        ] {
            assert!(matches!(resolve(&bad), Err(ConfigError::Operators(_))), "{bad}");
        }
    }

    #[test]
    fn shared_secret_that_gives_nothing_is_refused() {
        let file = "[operators]\nhs256_secret_file = '/etc/hansa/hs256'";

        assert!(matches!(resolve(file), Err(ConfigError::Operators(_))));
        let (path, grant) = resolve(&format!("{file}\nhs256_role = 'viewer'")).unwrap().hs256.unwrap();
        assert_eq!((path.to_str(), grant.role), (Some("/etc/hansa/hs256"), Some(OperatorRole::Viewer)));
    }
}

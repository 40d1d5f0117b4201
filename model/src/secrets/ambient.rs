//! Backends that log in as the machine that the node runs on (contract B.3).
//!
//! Such a login belongs to the node's operator, not to whoever configures a backend, so it is off for each kind
//! that the node's own configuration does not name. Where it is on, it goes nowhere that a backend chooses.

use std::collections::BTreeSet;

use url::Host;

use super::backend::{BackendConfig, BackendKind, GoogleConfig, InvalidConfig};

/// Where Google's own services are.
const GOOGLE: &str = "googleapis.com";

/// The kinds that may log in as the machine; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmbientKinds(BTreeSet<BackendKind>);

impl AmbientKinds {
    /// Whether this kind may.
    pub fn allow(&self, kind: BackendKind) -> bool {
        self.0.contains(&kind)
    }
}

impl FromIterator<BackendKind> for AmbientKinds {
    fn from_iter<I: IntoIterator<Item = BackendKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().collect())
    }
}

impl BackendConfig {
    /// Whether this configuration may have the login that it asks for; `allowed` says whether its kind may log in
    /// as the machine. One that names the secret of its login always may.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the member, and the setting that would allow it.
    pub fn judge_login(&self, allowed: bool) -> Result<(), InvalidConfig> {
        match self {
            // Their configuration always names a secret; a Vault's may ask for the machine, as its driver finds out.
            Self::Vault(_) | Self::Azure(_) => Ok(()),
            Self::Aws(config) if config.credentials_path.is_some() => Ok(()),
            Self::Google(config) if config.credentials_path.is_some() => Ok(()),
            Self::Aws(_) | Self::Google(_) if !allowed => Err(InvalidConfig::new(
                "credentials_path",
                "is required: the path of a secret (backends.ambient in the node's configuration lets this type \
                 log in as the machine instead)",
            )),
            // A request is signed for its host, so a signature opens nothing elsewhere.
            Self::Aws(_) => Ok(()),
            Self::Google(config) => judge_google(config),
        }
    }
}

/// Google's token opens whatever the machine may do, wherever it is presented: it goes to Google alone.
fn judge_google(config: &GoogleConfig) -> Result<(), InvalidConfig> {
    let is_googles =
        |host: &str| host == GOOGLE || host.strip_suffix(GOOGLE).is_some_and(|labels| labels.ends_with('.'));
    match config.endpoint.as_ref().map(super::backend::Endpoint::host) {
        Some(Host::Domain(host)) if is_googles(host) => {}
        Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) => {
            let reason = "must be below googleapis.com, for the machine's login is sent there: \
                          name another login in credentials_path";
            return Err(InvalidConfig::new("endpoint", reason));
        }
        None => {}
    }
    if config.universe_domain != GOOGLE {
        let reason = "must be googleapis.com, for the machine's login is sent there: \
                      name another login in credentials_path";
        return Err(InvalidConfig::new("universe_domain", reason));
    }
    if config.common.ca_cert_path.is_some() {
        let reason =
            "does not go with the machine's login: that is sent to what the public roots call Google";
        return Err(InvalidConfig::new("ca_cert_path", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(kind: BackendKind, config: &Value, allowed: bool) -> Result<(), String> {
        let config = BackendConfig::parse(kind, &config.to_string()).unwrap();
        config.judge_login(allowed).map_err(|error| error.field)
    }

    #[test]
    fn machine_logs_in_only_where_its_kind_is_allowed() {
        for (kind, mut config) in [
            (BackendKind::AwsSecretsManager, json!({"region": "us-east-1"})),
            (BackendKind::GoogleSecretManager, json!({"project_id": "example"})),
        ] {
            assert_eq!(judged(kind, &config, false), Err("credentials_path".to_owned()), "{kind}");
            assert_eq!(judged(kind, &config, true), Ok(()), "{kind}");
            config["credentials_path"] = json!("infra/login");
            assert_eq!(judged(kind, &config, false), Ok(()), "{kind}");
        }
    }

    #[test]
    fn refusal_names_the_setting() {
        let config = BackendConfig::parse(BackendKind::AwsSecretsManager, r#"{"region":"us-east-1"}"#);

        let refusal = config.unwrap().judge_login(false).unwrap_err().to_string();

        assert!(refusal.starts_with("config.credentials_path is required"), "{refusal}");
        assert!(refusal.contains("backends.ambient"), "{refusal}");
    }

    #[test]
    fn googles_token_of_the_machine_goes_to_google_alone() {
        for (member, value, taken) in [
            ("endpoint", "https://secretmanager.europe-west1.rep.googleapis.com", true),
            ("endpoint", "https://googleapis.com", true),
            ("endpoint", "https://googleapis.com.evil.example", false),
            ("endpoint", "https://evilgoogleapis.com", false),
            ("endpoint", "https://127.0.0.1:8080", false),
            ("endpoint", "https://[::1]", false),
            ("universe_domain", "evil.example", false),
            ("ca_cert_path", "infra/ca", false),
        ] {
            let mut config = json!({"project_id": "example"});
            config[member] = json!(value);
            let expected = if taken { Ok(()) } else { Err(member.to_owned()) };
            assert_eq!(judged(BackendKind::GoogleSecretManager, &config, true), expected, "{value}");
            config["credentials_path"] = json!("infra/login");
            assert_eq!(judged(BackendKind::GoogleSecretManager, &config, true), Ok(()), "{value}");
        }
    }
}

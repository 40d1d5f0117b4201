//! Connectors: what the sources say, and what is left of it once it is valid.

use std::path::PathBuf;
use std::time::Duration;

use hansa_actors::Echo;
use hansa_model::limits::connector as limits;
use serde::{Deserialize, Serialize};

use super::{ConfigError, is_web_url};
use crate::connector::{is_program, user_ids};

/// One `[[connector]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorLayer {
    /// For people.
    pub name: String,
    /// What it serves.
    pub kinds: Vec<String>,
    /// Program and arguments.
    pub program: Option<Vec<String>>,
    /// URL to post to.
    pub webhook: Option<String>,
    /// `echo`.
    pub builtin: Option<String>,
    /// File with the bearer that a webhook is shown.
    pub bearer_file: Option<PathBuf>,
    /// Seconds for one run.
    pub wait_seconds: Option<u64>,
    /// The user that a program runs as.
    pub user: Option<String>,
    /// One run for each host.
    pub per_host: Option<bool>,
}

/// A connector that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// For people.
    pub name: String,
    /// What it serves, such as `command:reboot` or `policy:*`.
    pub kinds: Vec<String>,
    /// How it is run.
    pub way: Way,
    /// Time for one run.
    pub wait_max: Duration,
    /// One run for each host, instead of one for all.
    pub per_host: bool,
}

/// How a connector is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A program: its absolute path and its arguments, never more than what stands here.
    Program {
        /// Path and arguments.
        argv: Vec<String>,
        /// User and group that it runs as; none is the node's own.
        user: Option<(u32, u32)>,
    },
    /// A POST.
    Webhook {
        /// Where to.
        url: String,
        /// File with a bearer.
        bearer_file: Option<PathBuf>,
    },
    /// The built-in one for trials.
    Echo,
}

impl Way {
    /// The word for people.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Program { .. } => "program",
            Self::Webhook { .. } => "webhook",
            Self::Echo => "echo",
        }
    }
}

impl ConnectorLayer {
    /// The built-in connector for trials.
    pub fn echo() -> Self {
        Self { name: "echo".to_owned(), builtin: Some("echo".to_owned()), ..Self::default() }
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`ConfigError::Connector`] with the reason.
    pub fn resolve(self) -> Result<Connector, ConfigError> {
        let name = self.name.trim().to_owned();
        let fault = |reason: &str| ConfigError::Connector { name: name.clone(), reason: reason.to_owned() };
        if name.is_empty() {
            return Err(fault("it needs a name"));
        }
        let way = match (self.program, self.webhook, self.builtin.as_deref()) {
            (Some(argv), None, None) => {
                if !argv.first().is_some_and(|program| is_program(program)) {
                    return Err(fault("program must begin with an absolute path"));
                }
                let user = self.user.as_deref().map(user_ids).transpose().map_err(|why| fault(&why))?;
                if user.is_some_and(|(uid, _)| !may_become(uid)) {
                    return Err(fault("only a node that runs as root can run a program as another user"));
                }
                Way::Program { argv, user }
            }
            (None, Some(url), None) => {
                if !is_web_url(&url) {
                    return Err(fault("webhook must start with http:// or https://"));
                }
                Way::Webhook { url, bearer_file: self.bearer_file.clone() }
            }
            (None, None, Some("echo")) => Way::Echo,
            _ => return Err(fault("it needs exactly one of program, webhook and builtin = \"echo\"")),
        };
        if self.user.is_some() && !matches!(way, Way::Program { .. }) {
            return Err(fault("user belongs to a program"));
        }
        if self.bearer_file.is_some() && !matches!(way, Way::Webhook { .. }) {
            return Err(fault("bearer_file belongs to a webhook"));
        }
        let kinds = match (&way, self.kinds.is_empty()) {
            (Way::Echo, true) => Echo::KINDS.map(str::to_owned).to_vec(),
            _ => self.kinds,
        };
        if kinds.is_empty() || kinds.len() > limits::KINDS_MAX || !kinds.iter().all(|kind| is_kind(kind)) {
            return Err(fault(
                "kinds must be like command:reboot, policy:firewall_role, lease:* or command:*",
            ));
        }
        let wait_max = self.wait_seconds.map_or(limits::WAIT_DEFAULT, Duration::from_secs);
        if wait_max.is_zero() || wait_max > limits::WAIT_MAX {
            return Err(fault("wait_seconds must be from 1 to 86400"));
        }
        Ok(Connector { name, kinds, way, wait_max, per_host: self.per_host.unwrap_or(false) })
    }
}

fn may_become(uid: u32) -> bool {
    let own = rustix::process::geteuid();
    own.is_root() || own.as_raw() == uid
}

/// Whether a text is a kind or a pattern of kinds.
fn is_kind(kind: &str) -> bool {
    let Some((noun, name)) = kind.split_once(':') else { return false };
    let stem = name.strip_suffix('*').unwrap_or(name);
    ["command", "policy", "lease"].contains(&noun) && !name.is_empty() && !stem.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Connector, ConfigError> {
        toml::from_str::<ConnectorLayer>(text).unwrap().resolve()
    }

    #[test]
    fn program_is_an_argument_vector_with_an_absolute_path() {
        let good = parse("name = 'a'\nkinds = ['command:reboot']\nprogram = ['/bin/true', '-x']").unwrap();

        assert_eq!((good.wait_max, good.per_host), (limits::WAIT_DEFAULT, false));
        for bad in [
            "name = 'a'\nkinds = ['command:reboot']\nprogram = ['true']",
            "name = 'a'\nkinds = ['command:reboot']\nprogram = []",
            "name = 'a'\nkinds = ['reboot']\nprogram = ['/bin/true']",
            "name = 'a'\nkinds = ['command:a*b']\nprogram = ['/bin/true']",
            "name = 'a'\nprogram = ['/bin/true']",
            "name = ''\nkinds = ['command:*']\nprogram = ['/bin/true']",
            "name = 'a'\nkinds = ['command:*']",
            "name = 'a'\nkinds = ['command:*']\nprogram = ['/bin/true']\nwebhook = 'http://a'",
            "name = 'a'\nkinds = ['command:*']\nwebhook = 'file:///x'",
            "name = 'a'\nkinds = ['command:*']\nwebhook = 'http://a'\nuser = 'root'",
            "name = 'a'\nkinds = ['command:*']\nprogram = ['/bin/true']\nwait_seconds = 0",
            "name = 'a'\nkinds = ['command:*']\nprogram = ['/bin/true']\nuser = 'no-such-user'",
        ] {
            assert!(matches!(parse(bad), Err(ConfigError::Connector { .. })), "{bad}");
        }
    }

    #[test]
    fn echo_serves_trials_unless_told_otherwise() {
        assert_eq!(ConnectorLayer::echo().resolve().unwrap().kinds, Echo::KINDS);
        assert_eq!(
            parse("name = 'e'\nbuiltin = 'echo'\nkinds = ['lease:ssh']").unwrap().kinds,
            ["lease:ssh"]
        );
    }
}

//! Opens the drivers that this program was built with.

use std::path::PathBuf;
use std::sync::Arc;

use hansa_model::secrets::address::AddressRules;
use hansa_model::secrets::ambient::AmbientKinds;
use hansa_model::secrets::backend::{BackendConfig, BackendKind};

use crate::bounded::Bounded;
use crate::connect::{Connector, ConnectorOptions, Lookup, SystemLookup};
use crate::driver::{Driver, Drivers, Leaser, OpenError, Opening};
use crate::machine::Machine;

/// What a backend may take from the machine that the node runs on. It belongs to the node's operator, not to
/// whoever configures a backend, so all of it is off by default.
#[derive(Debug, Clone, Default)]
pub struct Ambient {
    /// The kinds of backends that may log in as the machine.
    pub kinds: AmbientKinds,
    /// Where the machine has its logins from.
    pub machine: Machine,
    /// The folder that a `kubernetes` login may read its token from, such as `/var/run/secrets`.
    pub pod_tokens: Option<PathBuf>,
}

/// The vendors' drivers.
#[derive(Debug, Clone)]
pub struct VendorDrivers {
    /// Which addresses may be dialled.
    pub rules: Arc<AddressRules>,
    /// What may be taken from the machine.
    pub ambient: Ambient,
    /// Who finds addresses.
    pub lookup: Arc<dyn Lookup>,
}

impl VendorDrivers {
    /// Drivers under these rules, with the system's resolver and nothing of the machine's.
    pub fn new(rules: AddressRules) -> Self {
        Self { rules: Arc::new(rules), ambient: Ambient::default(), lookup: Arc::new(SystemLookup) }
    }

    /// Opens a server that makes short-lived credentials: a Vault. Nothing is sent before its first call.
    ///
    /// # Errors
    /// See [`OpenError`]; the other kinds have none.
    pub fn open_leaser(&self, opening: &Opening) -> Result<Arc<dyn Leaser>, OpenError> {
        let connector = self.connector(opening)?;
        match &opening.config {
            #[cfg(feature = "vault")]
            BackendConfig::Vault(config) => {
                let login = opening.login.as_ref();
                let driver = crate::vault::Vault::open(config, login, &connector, &self.ambient)?;
                Ok(Arc::new(Bounded { driver, connector }))
            }
            #[cfg(not(feature = "vault"))]
            BackendConfig::Vault(_) => Err(OpenError::NotBuilt),
            BackendConfig::Aws(_) | BackendConfig::Azure(_) | BackendConfig::Google(_) => {
                Err(OpenError::NotAllowed("this type gives no short-lived credentials"))
            }
        }
    }

    fn connector(&self, opening: &Opening) -> Result<Connector, OpenError> {
        let verified = match &opening.config {
            BackendConfig::Vault(config) => config.tls_verify,
            BackendConfig::Aws(_) | BackendConfig::Azure(_) | BackendConfig::Google(_) => true,
        };
        Connector::new(ConnectorOptions {
            rules: self.rules.clone(),
            lookup: self.lookup.clone(),
            encrypted: opening.config.endpoints().iter().all(|(_, endpoint)| endpoint.is_encrypted()),
            verified,
            roots: opening.roots.clone(),
            timeout: opening.config.common().timeout,
            wall: opening.wall.clone(),
        })
    }
}

impl Drivers for VendorDrivers {
    fn open(&self, opening: Opening) -> Result<Arc<dyn Driver>, OpenError> {
        // Once more after it was stored: the node's configuration may have been tightened since.
        opening.config.judge_login(self.allow_ambient(opening.config.kind()))?;
        let connector = self.connector(&opening)?;
        let login = opening.login.as_ref();
        match &opening.config {
            #[cfg(feature = "vault")]
            BackendConfig::Vault(config) => {
                bounded(crate::vault::Vault::open(config, login, &connector, &self.ambient)?, connector)
            }
            #[cfg(feature = "aws")]
            BackendConfig::Aws(config) => {
                bounded(crate::aws::Aws::open(config, login, &connector, &self.ambient)?, connector)
            }
            #[cfg(feature = "azure")]
            BackendConfig::Azure(config) => {
                bounded(crate::azure::Azure::open(config, login, &connector)?, connector)
            }
            #[cfg(feature = "google")]
            BackendConfig::Google(config) => {
                bounded(crate::google::Google::open(config, login, &connector, &self.ambient)?, connector)
            }
            #[cfg(not(all(feature = "vault", feature = "aws", feature = "azure", feature = "google")))]
            _ => Err(OpenError::NotBuilt),
        }
    }

    fn allow_ambient(&self, kind: BackendKind) -> bool {
        self.ambient.kinds.allow(kind)
    }
}

/// Every driver is bounded in time and silent.
fn bounded(driver: impl Driver + 'static, connector: Connector) -> Result<Arc<dyn Driver>, OpenError> {
    Ok(Arc::new(Bounded { driver, connector }))
}

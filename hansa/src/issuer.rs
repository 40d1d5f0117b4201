//! The issuers of secret leases that the configuration names.

mod postgresql;
mod vault;

use std::sync::Arc;

use hansa_actors::issuer::{Issuer, TrialIssuer};
use hansa_backends::VendorDrivers;

use self::postgresql::PostgresqlIssuer;
use self::vault::VaultIssuer;
use crate::cli::failure::Failure;
use crate::client;
use crate::config::LeaseIssuer;

/// Makes the issuers, in the order of the configuration; those that ask a Vault do it as `drivers` do. No
/// server is asked yet.
///
/// # Errors
/// A file with certificate authorities cannot be read.
pub fn open(configs: &[LeaseIssuer], drivers: &VendorDrivers) -> Result<Vec<Arc<dyn Issuer>>, Failure> {
    configs
        .iter()
        .map(|config| -> Result<Arc<dyn Issuer>, Failure> {
            match config {
                LeaseIssuer::Trial { name } => Ok(Arc::new(TrialIssuer::new(name.clone()))),
                LeaseIssuer::Postgresql(config) => {
                    let authorities = config.ca_file.as_deref();
                    let tls =
                        config.tls.then(|| client::tls("lease_issuer.ca_file", authorities)).transpose()?;
                    Ok(Arc::new(PostgresqlIssuer::new((**config).clone(), tls)))
                }
                LeaseIssuer::Vault(config) => {
                    Ok(Arc::new(VaultIssuer::open((**config).clone(), drivers.clone())?))
                }
            }
        })
        .collect()
}

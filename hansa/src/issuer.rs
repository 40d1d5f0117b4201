//! The issuers of secret leases that the configuration names.

mod postgresql;

use std::sync::Arc;

use hansa_actors::issuer::{Issuer, TrialIssuer};

use self::postgresql::PostgresqlIssuer;
use crate::cli::failure::Failure;
use crate::client;
use crate::config::LeaseIssuer;

/// Makes the issuers, in the order of the configuration. No server is asked yet.
///
/// # Errors
/// A file with certificate authorities cannot be read.
pub fn open(configs: &[LeaseIssuer]) -> Result<Vec<Arc<dyn Issuer>>, Failure> {
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
            }
        })
        .collect()
}

//! The directory's counters, kept with each change, equal a count of its rows at every moment.

use std::collections::BTreeMap;

use hansa_actors::view::DirectoryView;

use super::Rows;

/// Counts the rows and compares.
///
/// # Errors
/// Names the counter that differs.
pub fn check(rows: &Rows, shown: &DirectoryView) -> Result<(), String> {
    let hosts = || rows.values().flat_map(BTreeMap::values);
    let mut counted = DirectoryView { hosts: hosts().count() as u64, ..DirectoryView::default() };
    for host in hosts() {
        let status = host.status.as_deref().filter(|status| !status.is_empty()).unwrap_or("unknown");
        *counted.by_status.entry(status.to_owned()).or_default() += 1;
        let country = host.geo_country_code.clone().unwrap_or_default();
        *counted.by_country.entry(country).or_default() += 1;
    }
    if counted == *shown {
        return Ok(());
    }
    Err(format!("the counters say {shown:?}, a count says {counted:?}"))
}

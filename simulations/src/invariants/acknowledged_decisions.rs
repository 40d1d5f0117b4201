//! What an operator was told about a site is what the coordinator says of it, after any restart.

use std::collections::BTreeMap;

use hansa_model::SiteId;
use hansa_model::site::SiteStatus;

/// What operators decide of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its state.
    pub status: SiteStatus,
    /// Its label.
    pub label: Option<String>,
}

/// What the coordinator may say of its sites. Operators act one after the other.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgedDecisions {
    known: BTreeMap<SiteId, Decision>,
    in_flight: Option<(SiteId, Decision)>,
}

impl AcknowledgedDecisions {
    /// An operator has asked for this.
    pub fn begin(&mut self, site: SiteId, decision: Decision) {
        self.in_flight = Some((site, decision));
    }

    /// The operator was told that it is done.
    pub fn acknowledged(&mut self) {
        self.known.extend(self.in_flight.take());
    }

    /// Compares with what the coordinator says now, and so learns what became of an act without an answer.
    ///
    /// # Errors
    /// When a site is in a state that nobody has asked for, or is gone.
    pub fn check(&mut self, said: &BTreeMap<SiteId, Decision>) -> Result<(), String> {
        let in_flight = self.in_flight.take();
        for (site, known) in &self.known {
            let Some(found) = said.get(site) else { return Err(format!("site {site} is gone")) };
            let asked = in_flight.as_ref().is_some_and(|(of, asked)| (of, asked) == (site, found));
            // An enrollment is completed by the site, not by an operator.
            let completed = known.status == SiteStatus::Pending && found.status == SiteStatus::Enrolled;
            if found != known && !asked && !completed {
                return Err(format!("site {site} is {found:?}, acknowledged was {known:?}"));
            }
        }
        self.known.clone_from(said);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: SiteStatus) -> BTreeMap<SiteId, Decision> {
        BTreeMap::from([(site(), decision(status))])
    }

    fn site() -> SiteId {
        "00000000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn decision(status: SiteStatus) -> Decision {
        Decision { status, label: None }
    }

    #[test]
    fn an_acknowledged_decision_stays() {
        let mut decisions = AcknowledgedDecisions::default();
        decisions.check(&said(SiteStatus::Enrolled)).unwrap();
        decisions.begin(site(), decision(SiteStatus::Suspended));
        decisions.acknowledged();

        assert!(decisions.check(&said(SiteStatus::Enrolled)).is_err());
        assert!(decisions.check(&BTreeMap::new()).is_err());
        assert!(decisions.check(&said(SiteStatus::Suspended)).is_ok());
    }

    #[test]
    fn a_decision_without_an_answer_is_made_or_not_for_good() {
        let mut decisions = AcknowledgedDecisions::default();
        decisions.check(&said(SiteStatus::Enrolled)).unwrap();
        decisions.begin(site(), decision(SiteStatus::Suspended));

        assert!(decisions.check(&said(SiteStatus::Suspended)).is_ok());
        assert!(decisions.check(&said(SiteStatus::Enrolled)).is_err());
    }
}

//! What people at a site put in beside hosts: results, findings, and wishes for credentials.

use hansa_actors::Federation;
use hansa_actors::error::{FindingsError, LeaseRequestError};
use hansa_model::HostId;
use hansa_model::finding::{CveId, Finding, HostScan, Severity};
use hansa_model::received::PolicyWish;
use hansa_model::report::LeaseRequest;

use super::site::Site;
use crate::invariants::exact_rollups::ShownRollups;
use crate::invariants::policy_convergence::ShownPolicies;

const BASELINES: [&str; 3] = ["cis level 1", "cis level 2", "stig"];
const KINDS: [&str; 3] = ["database", "ssh", "token"];

impl Site {
    /// What the site's hosts and results come to.
    pub(super) fn show_rollups(&self, hosts: u64) -> anyhow::Result<ShownRollups> {
        let scores = self.federation.scans()?.into_iter().map(|(baseline, sum)| {
            let hosts = (sum.hosts_in_scope, sum.hosts_compliant, sum.hosts_noncompliant);
            (baseline, (sum.score_percent, hosts.0, hosts.1, hosts.2))
        });
        let found = self.federation.findings(0, 1)?.summary;
        let counts = [found.critical_count, found.high_count, found.medium_count];
        let findings = [counts[0], counts[1], counts[2], found.low_count, found.affected_host_count];
        // A baseline without hosts is shown to the coordinator as none.
        let scores = scores.filter(|(_, (score, hosts, ..))| score.is_some() || *hosts > 0).collect();
        Ok(ShownRollups { scores, findings, hosts })
    }

    /// The site's policies, by its own books.
    pub(super) fn show_policies(&self) -> anyhow::Result<ShownPolicies> {
        let mut shown = ShownPolicies::default();
        for (id, row) in self.federation.received_policies()? {
            match row.wish {
                PolicyWish::Apply if row.applied() => {
                    shown.in_force.insert(id, (row.version, row.definition));
                }
                PolicyWish::Apply | PolicyWish::Withdraw => shown.unsettled.push(format!("{id} {row:?}")),
                PolicyWish::Gone => {}
            }
        }
        Ok(shown)
    }

    /// Somebody puts in results, or wants a credential.
    pub(super) async fn report(&mut self) {
        let hosts: Vec<HostId> = {
            let mut books = self.books.open();
            books.site(self.env.host).promised.held().keys().copied().collect()
        };
        let baseline = BASELINES[self.dice.index(BASELINES.len())].to_owned();
        match self.dice.below(5) {
            0 => {
                let scan = |host: &HostId| {
                    Ok(HostScan {
                        host_id: *host,
                        rules_passed: u32::try_from(self.dice.below(20)).unwrap_or(0),
                        rules_failed: u32::try_from(self.dice.below(3)).unwrap_or(0),
                    })
                };
                let rows = hosts.iter().map(scan).collect();
                self.note_findings("puts results in", self.federation.put_scans(baseline, rows).await);
            }
            1 => {
                let mut rows = hosts;
                rows.retain(|_| self.dice.chance(0.3));
                let rows = rows.into_iter().map(|host| Ok(finding(host, self.dice.below(40)))).collect();
                self.note_findings("puts findings in", self.federation.put_findings(rows).await);
            }
            2 => match self.federation.remove_scans(baseline).await {
                Err(FindingsError::BaselineNotFound(_)) => {}
                answer => self.note_findings("removes results", answer),
            },
            _ => self.request_lease().await,
        }
    }

    async fn request_lease(&mut self) {
        let number = self.books.open().draw();
        let (least, most) = if self.dice.chance(0.5) { (60, 110) } else { (300, 900) };
        let request = LeaseRequest {
            correlation_key: String::new(),
            host_id: format!("host-{number}"),
            secret_name: "orders".to_owned(),
            backend_role: "reader".to_owned(),
            kind: KINDS[self.dice.index(KINDS.len())].to_owned(),
            ttl_seconds: Some(self.dice.between(least, most)),
        };
        match self.federation.request_lease(&Federation::local_operator(), request).await {
            Ok((key, _)) => self.env.observer.event(&format!("wants {key}")),
            Err(LeaseRequestError::Unavailable(_)) => self.env.observer.event("cannot ask for a credential"),
            Err(error) => self.env.observer.violation(&format!("lease request: {error}")),
        }
    }

    fn note_findings<T>(&self, action: &str, answer: Result<T, FindingsError>) {
        self.env.observer.event(&format!("{action}: {}", answer.is_ok()));
        if let Err(error) = answer
            && !matches!(error, FindingsError::Unavailable(_))
        {
            self.env.observer.violation(&format!("{action}: {error}"));
        }
    }
}

fn finding(host_id: HostId, draw: u64) -> Finding {
    let severities = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
    let severity = severities[usize::try_from(draw % 4).unwrap_or(0)];
    let number = 1_000 + u32::try_from(draw).unwrap_or(0);
    Finding { host_id, cve_id: CveId { year: 2026, number }, severity }
}

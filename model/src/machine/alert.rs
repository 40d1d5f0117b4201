//! Which alerts hold for a site, and what a sweep opens, refreshes and resolves (contract 8).

use std::collections::BTreeMap;

use crate::alert::{Alert, Condition, SiteHealth, Thresholds};
use crate::audit::Detail;
use crate::id::AlertId;
use crate::limits::{alert as limits, site as site_limits};
use crate::{SiteId, Timestamp};

/// What is known of an enrolled site.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts<'a> {
    /// The site.
    pub site_id: SiteId,
    /// Its name, for titles.
    pub name: &'a str,
    /// Seconds between its contacts; zero counts as the default.
    pub sync_interval_seconds: u32,
    /// When it was last heard.
    pub last_sync_at: Option<Timestamp>,
    /// Whether a link is up now: then it is heard, even when it has nothing to say.
    pub linked: bool,
    /// The baseline with the lowest latest score.
    pub worst_compliance: Option<(&'a str, f64)>,
    /// Its latest count of findings.
    pub vulnerabilities: Option<Findings>,
    /// What it last said of itself.
    pub health: Option<SiteHealth>,
}

/// The counts of a vulnerability rollup that alerts look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// Of critical severity.
    pub critical_count: u64,
    /// Of high severity.
    pub high_count: u64,
    /// Hosts with any.
    pub affected_host_count: u64,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// Which.
    pub condition: Condition,
    /// One line for people.
    pub title: String,
    /// What is the case, and what to look at.
    pub message: String,
    /// The numbers behind it.
    pub details: BTreeMap<String, Detail>,
}

/// Seconds of silence from which a site counts as offline (contract 8).
pub fn offline_after_seconds(sync_interval_seconds: u32, thresholds: &Thresholds) -> f64 {
    let interval = match sync_interval_seconds {
        0 => site_limits::SYNC_INTERVAL_SECONDS_DEFAULT,
        seconds => seconds,
    };
    let floor = thresholds.min_offline_seconds;
    #[expect(clippy::cast_precision_loss, reason = "seconds of silence beyond 2^53 are all the same")]
    let floor = floor as f64;
    (f64::from(interval) * thresholds.offline_multiplier).max(floor)
}

/// Every condition that holds for a site now.
pub fn holding(facts: &Facts<'_>, thresholds: &Thresholds, now: Timestamp) -> Vec<Holding> {
    [
        offline(facts, thresholds, now),
        compliance(facts, thresholds),
        vulnerabilities(facts, thresholds),
        dead_letters(facts),
        clock_skew(facts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn details<const N: usize>(members: [(&str, Detail); N]) -> BTreeMap<String, Detail> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn count(number: u64) -> Detail {
    Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn offline(facts: &Facts<'_>, thresholds: &Thresholds, now: Timestamp) -> Option<Holding> {
    if facts.linked {
        return None;
    }
    let threshold = offline_after_seconds(facts.sync_interval_seconds, thresholds);
    let age = facts.last_sync_at.map(|heard| now.since(heard).as_secs());
    #[expect(clippy::cast_precision_loss, reason = "an age beyond 2^53 seconds is too old either way")]
    if age.is_some_and(|age| age as f64 <= threshold) {
        return None;
    }
    let message = match age {
        None => "The site has never synced. Check that it has joined and that its uplink is up.".to_owned(),
        Some(age) => {
            format!("The site was last heard {age} s ago; {threshold:.0} s are allowed. Check its uplink.")
        }
    };
    Some(Holding {
        condition: Condition::SiteOffline,
        title: format!("Site '{}' is offline", facts.name),
        message,
        details: details([
            ("last_sync_at", facts.last_sync_at.map_or(Detail::Null, |at| Detail::Text(at.to_string()))),
            ("age_seconds", age.map_or(Detail::Null, count)),
            ("threshold_seconds", Detail::Float(threshold)),
        ]),
    })
}

fn compliance(facts: &Facts<'_>, thresholds: &Thresholds) -> Option<Holding> {
    let threshold = thresholds.compliance_threshold;
    let (baseline, score) = facts.worst_compliance.filter(|(_, score)| *score < threshold)?;
    Some(Holding {
        condition: Condition::ComplianceBelow,
        title: format!("Site '{}' compliance below {threshold}%", facts.name),
        message: format!("Baseline {baseline} scores {score} %; {threshold} % are wanted."),
        details: details([
            ("baseline", baseline.into()),
            ("score_percent", Detail::Float(score)),
            ("threshold", Detail::Float(threshold)),
        ]),
    })
}

fn vulnerabilities(facts: &Facts<'_>, thresholds: &Thresholds) -> Option<Holding> {
    let threshold = thresholds.critical_cve_threshold;
    let findings = facts.vulnerabilities.filter(|findings| findings.critical_count > threshold)?;
    let Findings { critical_count, high_count, affected_host_count } = findings;
    Some(Holding {
        condition: Condition::VulnerabilitiesHigh,
        title: format!("Site '{}' has {critical_count} critical CVEs", facts.name),
        message: format!(
            "{affected_host_count} hosts are affected; {threshold} critical CVEs are tolerated."
        ),
        details: details([
            ("critical_count", count(critical_count)),
            ("high_count", count(high_count)),
            ("affected_host_count", count(affected_host_count)),
            ("threshold", count(threshold)),
        ]),
    })
}

fn dead_letters(facts: &Facts<'_>) -> Option<Holding> {
    let dead = facts.health?.dead_letters;
    (dead > 0).then(|| Holding {
        condition: Condition::DeadLetters,
        title: format!("Site '{}' has {dead} dead letters", facts.name),
        message: "Entries of the site's queue were refused for good. `hansa queue dead` at the site lists \
                  them, `hansa queue requeue` sends them again."
            .to_owned(),
        details: details([("dead_letters", count(dead))]),
    })
}

fn clock_skew(facts: &Facts<'_>) -> Option<Holding> {
    let skew = facts.health?.clock_skew_ms;
    let allowed = i64::try_from(limits::CLOCK_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
    (skew.abs() > allowed).then(|| Holding {
        condition: Condition::ClockSkew,
        title: format!("Site '{}' has a clock that is off by {} s", facts.name, skew / 1_000),
        message: "Signed requests and tokens are judged by time. Check time synchronisation at the site and \
                  at the coordinator."
            .to_owned(),
        details: details([
            ("skew_seconds", Detail::Int(skew / 1_000)),
            ("threshold_seconds", Detail::Int(allowed / 1_000)),
        ]),
    })
}

/// What a sweep does with one alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It begins.
    Opened(Alert),
    /// It goes on, with other numbers. Not told to people.
    Refreshed(Alert),
    /// It is over.
    Resolved(Alert),
}

impl Change {
    /// The alert after the change.
    pub const fn alert(&self) -> &Alert {
        match self {
            Self::Opened(alert) | Self::Refreshed(alert) | Self::Resolved(alert) => alert,
        }
    }
}

/// Compares what holds for one site with its open alerts. A site that is not enrolled has nothing that
/// holds: its open alerts are resolved (contract 13.11). `new_id` makes ids for alerts that begin.
pub fn sweep(
    site: SiteId,
    open: &BTreeMap<Condition, Alert>,
    holding: Vec<Holding>,
    now: Timestamp,
    mut new_id: impl FnMut() -> AlertId,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut over = open.clone();
    for Holding { condition, title, message, details } in holding {
        match over.remove(&condition) {
            Some(alert) => {
                let next = Alert { title, message, details, refreshed_at: now, ..alert.clone() };
                // Numbers that only grow older are not worth a write each pass.
                if next.title != alert.title || now.since(alert.refreshed_at) >= limits::REFRESH_INTERVAL {
                    changes.push(Change::Refreshed(next));
                }
            }
            None => changes.push(Change::Opened(Alert {
                id: new_id(),
                site_id: site,
                condition,
                severity: condition.severity(),
                title,
                message,
                details,
                triggered_at: now,
                refreshed_at: now,
                resolved_at: None,
                acknowledged_at: None,
                acknowledged_by: None,
            })),
        }
    }
    changes
        .extend(over.into_values().map(|alert| Change::Resolved(Alert { resolved_at: Some(now), ..alert })));
    changes
}

/// An operator takes note. A second time changes nothing: none.
pub fn acknowledge(alert: &Alert, userid: &str, now: Timestamp) -> Option<Alert> {
    alert.acknowledged_at.is_none().then(|| Alert {
        acknowledged_at: Some(now),
        acknowledged_by: Some(userid.to_owned()),
        ..alert.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn site() -> SiteId {
        SiteId(uuid::Uuid::from_u128(1))
    }

    fn facts() -> Facts<'static> {
        Facts {
            site_id: site(),
            name: "alpha",
            sync_interval_seconds: 300,
            last_sync_at: Some(NOW),
            linked: false,
            worst_compliance: None,
            vulnerabilities: None,
            health: None,
        }
    }

    fn conditions(facts: &Facts<'_>, now: Timestamp) -> Vec<Condition> {
        holding(facts, &Thresholds::default(), now).into_iter().map(|holding| holding.condition).collect()
    }

    #[test]
    fn site_is_offline_after_four_intervals_but_not_before_a_quarter_of_an_hour() {
        let after = |seconds| NOW.after(Duration::from_secs(seconds));
        let quick = Facts { sync_interval_seconds: 5, ..facts() };

        assert_eq!(conditions(&facts(), after(1_200)), []);
        assert_eq!(conditions(&facts(), after(1_201)), [Condition::SiteOffline]);
        assert_eq!(conditions(&quick, after(900)), []);
        assert_eq!(conditions(&quick, after(901)), [Condition::SiteOffline]);
        assert_eq!(conditions(&Facts { linked: true, ..quick }, after(9_000)), []);
        assert_eq!(conditions(&Facts { last_sync_at: None, ..facts() }, NOW), [Condition::SiteOffline]);
    }

    #[test]
    fn titles_are_the_documented_ones() {
        let facts = Facts {
            last_sync_at: None,
            worst_compliance: Some(("cis", 64.5)),
            vulnerabilities: Some(Findings { critical_count: 3, high_count: 1, affected_host_count: 2 }),
            ..facts()
        };

        let titles: Vec<String> =
            holding(&facts, &Thresholds::default(), NOW).into_iter().map(|holding| holding.title).collect();

        assert_eq!(
            titles,
            [
                "Site 'alpha' is offline",
                "Site 'alpha' compliance below 70%",
                "Site 'alpha' has 3 critical CVEs"
            ]
        );
    }

    #[test]
    fn thresholds_are_exclusive_as_documented() {
        let facts = Facts {
            worst_compliance: Some(("cis", 70.0)),
            vulnerabilities: Some(Findings { critical_count: 0, high_count: 9, affected_host_count: 9 }),
            health: Some(SiteHealth { dead_letters: 0, clock_skew_ms: 60_000 }),
            ..facts()
        };

        assert_eq!(conditions(&facts, NOW), []);
    }

    #[test]
    fn clock_that_is_off_either_way_and_dead_letters_are_told() {
        for clock_skew_ms in [61_000, -61_000] {
            let facts = Facts { health: Some(SiteHealth { dead_letters: 2, clock_skew_ms }), ..facts() };

            assert_eq!(conditions(&facts, NOW), [Condition::DeadLetters, Condition::ClockSkew]);
        }
    }

    #[test]
    fn out_of_range_thresholds_are_refused() {
        use crate::alert::Overrides;
        for overrides in [
            Overrides { offline_multiplier: Some(0.9), ..Overrides::default() },
            Overrides { offline_multiplier: Some(f64::NAN), ..Overrides::default() },
            Overrides { compliance_threshold: Some(100.1), ..Overrides::default() },
            Overrides { compliance_threshold: Some(-0.1), ..Overrides::default() },
        ] {
            assert!(overrides.validate().is_err(), "{overrides:?}");
        }
    }

    proptest! {
        /// However conditions come and go: at most one alert of a kind is open, it keeps the time at which
        /// its condition began, and it is over exactly when the condition is.
        #[test]
        fn open_alerts_are_those_whose_condition_holds(steps in prop::collection::vec(0_u8..32, 1..40)) {
            let mut open: BTreeMap<Condition, Alert> = BTreeMap::new();
            let mut since: BTreeMap<Condition, Timestamp> = BTreeMap::new();
            let mut ids = 0_u128;
            for (step, mask) in steps.into_iter().enumerate() {
                let now = NOW.after(Duration::from_secs(30 * step as u64));
                let holds: Vec<Condition> = Condition::ALL.into_iter().filter(|condition| mask & (1 << condition.number()) != 0).collect();
                let holding = holds.iter().map(|condition| Holding { condition: *condition, title: String::new(), message: String::new(), details: BTreeMap::new() }).collect();
                since.retain(|condition, _| holds.contains(condition));
                for condition in &holds { since.entry(*condition).or_insert(now); }
                for change in sweep(site(), &open, holding, now, || { ids += 1; AlertId(uuid::Uuid::from_u128(ids)) }) {
                    match change {
                        Change::Opened(alert) => prop_assert!(open.insert(alert.condition, alert).is_none()),
                        Change::Refreshed(alert) => prop_assert!(open.insert(alert.condition, alert).is_some()),
                        Change::Resolved(alert) => { prop_assert!(!alert.is_open()); open.remove(&alert.condition); }
                    }
                }
                let began: BTreeMap<_, _> = open.iter().map(|(condition, alert)| (*condition, alert.triggered_at)).collect();
                prop_assert_eq!(&began, &since);
            }
        }
    }
}

//! The coordinator: its operator invites, suspends, resumes and renames; the oracle watches its directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hansa_actors::error::RegistryError;
use hansa_actors::issuer::Issuers;
use hansa_actors::view::{SiteFilter, SiteView};
use hansa_actors::{Federation, NoConnectors};
use hansa_backends::NoDrivers;
use hansa_model::enrollment::Role;
use hansa_model::machine::registry::{NewSite, SitePatch};
use hansa_model::scope::Operator;
use hansa_model::site::{Site, SiteStatus};
use tokio::time::sleep;

use super::books::Books;
use super::issuer::WorldIssuer;
use super::node::{self, all_pages};
use super::oversight;
use crate::dice::Dice;
use crate::invariants::acknowledged_decisions::Decision;
use crate::invariants::convergence::ShownCoordinator;
use crate::invariants::{Rows, exact_counters};
use crate::network::HostId;
use crate::world::HostEnv;

/// Seconds between two contacts of a site: short, so that its reports travel often.
const SYNC_INTERVAL_SECONDS: u32 = 20;

pub(super) async fn live(env: HostEnv, books: Books) -> anyhow::Result<()> {
    let issuer = Arc::new(WorldIssuer::new(env.clone(), books.clone()));
    let issuers = Issuers::new(vec![issuer]);
    let node =
        node::start(&env, Role::Coordinator, Arc::new(NoConnectors), issuers, Arc::new(NoDrivers)).await?;
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let mut coordinator = Coordinator {
        federation: node.federation(),
        operator: Federation::local_operator(),
        dice: Dice::from_seed(seed),
        env,
        books,
    };
    let key = coordinator.federation.identity().public_key_pem;
    coordinator.books.open().coordinator_key = Some(key);
    let links = oversight::whole_log(&coordinator.federation, &coordinator.operator)?;
    let verified = coordinator.books.open().audit.verify(&links);
    if let Err(broken) = verified {
        coordinator.env.observer.violation(&broken);
    }
    loop {
        coordinator.show()?;
        coordinator.invite().await;
        coordinator.act().await;
        if coordinator.env.clock.now() < coordinator.books.work_ends {
            coordinator.command().await?;
            coordinator.oversee().await?;
        }
        coordinator.author().await?;
        let last_look = coordinator.books.open().last_look;
        if last_look {
            coordinator.check_commands()?;
            let kept = coordinator.check_checkpoints()?;
            coordinator.env.observer.event(&format!("finds {kept} checkpoints kept"));
            coordinator.books.open().last_look = false;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

pub(super) struct Coordinator {
    pub(super) env: HostEnv,
    pub(super) books: Books,
    pub(super) federation: Federation,
    pub(super) operator: Operator,
    pub(super) dice: Dice,
}

impl Coordinator {
    pub(super) fn sites(&self) -> Vec<SiteView> {
        self.federation.sites(&self.operator, &SiteFilter::default())
    }

    /// Shows the whole directory, and checks it.
    fn show(&mut self) -> anyhow::Result<()> {
        let sites = self.sites();
        let mut rows: Rows = sites.iter().map(|view| (view.site.id, BTreeMap::new())).collect();
        let mut held = BTreeMap::new();
        for (site, host) in all_pages(|query| self.federation.search_hosts(&self.operator, None, query))? {
            if let Some(other) = held.insert(host.host_id, site) {
                self.env.observer.violation(&format!("{} is held by {site} and {other}", host.host_id));
            }
            rows.entry(site).or_default().insert(host.host_id, host);
        }
        let open_commands = self.show_commands()?;
        let (policies, leases) = (self.show_policies()?, self.show_leases()?);
        let (rollups, alerts) = (self.show_rollups(), self.show_alerts()?);
        let log_end = oversight::log_end(&self.federation, &self.operator)?;
        let mut books = self.books.open();
        books.coordinator_now = self.federation.now();
        let audit = log_end.map_or(Ok(()), |(number, hash)| books.audit.ends(number, hash));
        let counters = exact_counters::check(&rows, &self.federation.directory(&self.operator));
        let said = sites.iter().map(|view| (view.site.id, decision(&view.site))).collect();
        let decisions = books.decided.check(&said);
        for broken in
            [books.ordered.check(&rows), counters, decisions, audit].into_iter().filter_map(Result::err)
        {
            self.env.observer.violation(&broken);
        }
        books.coordinator = Some(ShownCoordinator {
            at: self.env.clock.now(),
            sites: sites.iter().map(|view| (view.site.id, (view.site.status, view.linked))).collect(),
            rows,
            open_commands,
            policies,
            leases,
            rollups,
            alerts,
            stored_rows: node::counter(&self.federation, "hansa_ingest_rows_total")?,
        });
        Ok(())
    }

    /// Sends an invitation to every site that has shown its key and has none.
    async fn invite(&mut self) {
        let waiting: Vec<(HostId, String)> = {
            let books = self.books.open();
            let uninvited = books.sites.iter().filter(|(_, page)| page.invitation.is_none());
            uninvited.filter_map(|(host, page)| Some((*host, page.key.clone()?))).collect()
        };
        for (host, key) in waiting {
            let name = format!("site {}", host.0);
            let present = self.sites().into_iter().find(|view| view.site.name.as_str() == name);
            let invitation = match present {
                // The last answer was lost: the site is there, and only a new token can be shown.
                Some(view) => self.federation.regenerate_token(&self.operator, view.site.id, None).await,
                None => {
                    let new = NewSite {
                        sync_interval_seconds: Some(SYNC_INTERVAL_SECONDS),
                        ..node::new_site(host, &key)
                    };
                    self.federation.create_site(&self.operator, new).await
                }
            };
            match invitation {
                Ok(invitation) => {
                    self.env.observer.event(&format!("invites {host}"));
                    let token = invitation.enrollment_token;
                    self.books.open().site(host).invitation = Some(token);
                }
                Err(error) => self.tolerate("invitation", &error),
            }
        }
    }

    /// Now and then the operator does something; when the work is over, every site is taken back.
    async fn act(&mut self) {
        let over = self.env.clock.now() >= self.books.work_ends;
        let suspended = self.sites().into_iter().find(|view| view.site.status == SiteStatus::Suspended);
        if let Some(view) = suspended
            && (over || self.dice.chance(0.05))
        {
            self.resume(&view.site).await;
        }
        if over || !self.dice.chance(0.04) {
            return;
        }
        let mut enrolled = self.sites();
        enrolled.retain(|view| view.site.status == SiteStatus::Enrolled);
        if enrolled.is_empty() {
            return;
        }
        let site = Arc::clone(&enrolled[self.dice.index(enrolled.len())].site);
        if self.dice.chance(0.5) { self.suspend(&site).await } else { self.patch(&site).await }
    }

    async fn resume(&self, site: &Site) {
        let asked = Decision { status: SiteStatus::Enrolled, ..decision(site) };
        self.books.open().decided.begin(site.id, asked);
        self.note("resumes", self.federation.resume_site(&self.operator, site.id).await);
    }

    async fn suspend(&self, site: &Site) {
        let asked = Decision { status: SiteStatus::Suspended, ..decision(site) };
        self.books.open().decided.begin(site.id, asked);
        self.note("suspends", self.federation.suspend_site(&self.operator, site.id).await);
    }

    async fn patch(&mut self, site: &Site) {
        let label = Some(format!("quay {}", self.dice.below(100)));
        let asked = Decision { label: label.clone(), ..decision(site) };
        self.books.open().decided.begin(site.id, asked);
        let patch = SitePatch { location_label: Some(label), ..SitePatch::default() };
        self.note("patches", self.federation.patch_site(&self.operator, site.id, patch).await);
    }

    /// Writes down what the operator was told; the next look at the sites compares.
    fn note(&self, action: &str, answer: Result<SiteView, RegistryError>) {
        match answer {
            Err(error) => self.tolerate(action, &error),
            Ok(view) => {
                self.env.observer.event(&format!("{action} {}", view.site.name));
                self.books.open().decided.acknowledged();
            }
        }
    }

    /// A node with a failing disk may be unavailable; nothing else is an excuse.
    fn tolerate(&self, action: &str, error: &RegistryError) {
        self.env.observer.event(&format!("{action}: {error}"));
        if !matches!(error, RegistryError::Unavailable(_)) {
            self.env.observer.violation(&format!("{action}: {error}"));
        }
    }
}

fn decision(site: &Site) -> Decision {
    Decision { status: site.status, label: site.location_label.clone() }
}

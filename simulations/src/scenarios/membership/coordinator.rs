//! The coordinator: its operator invites whoever asks, and now and then removes a member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hansa_actors::error::RegistryError;
use hansa_actors::issuer::Issuers;
use hansa_actors::view::{SiteFilter, SiteView};
use hansa_actors::{Federation, NoConnectors};
use hansa_backends::NoDrivers;
use hansa_model::SiteId;
use hansa_model::enrollment::Role;
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use tokio::time::sleep;

use super::Books;
use crate::dice::Dice;
use crate::invariants::Rows;
use crate::invariants::convergence::ShownCoordinator;
use crate::invariants::ended_memberships::ShownMembership;
use crate::network::HostId;
use crate::scenarios::federation::node::{self, all_pages};
use crate::world::HostEnv;

pub(super) async fn live(env: HostEnv, books: Books) -> anyhow::Result<()> {
    let (nobody, issuers) = (Arc::new(NoConnectors), Issuers::default());
    let node = node::start(&env, Role::Coordinator, nobody, issuers, Arc::new(NoDrivers)).await?;
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let mut coordinator = Coordinator {
        federation: node.federation(),
        operator: Federation::local_operator(),
        dice: Dice::from_seed(seed),
        env,
        books,
    };
    coordinator.books.open().coordinator_key = Some(coordinator.federation.identity().public_key_pem);
    loop {
        coordinator.show()?;
        coordinator.invite().await;
        if coordinator.env.clock.now() < coordinator.books.work_ends && coordinator.dice.chance(0.03) {
            coordinator.remove_one().await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

struct Coordinator {
    env: HostEnv,
    books: Books,
    federation: Federation,
    operator: Operator,
    dice: Dice,
}

impl Coordinator {
    /// Every site, removed ones included.
    fn sites(&self) -> Vec<SiteView> {
        self.federation.sites(&self.operator, &SiteFilter { include_removed: true, ..SiteFilter::default() })
    }

    /// Shows registry and directory, and checks that what is over stays so.
    fn show(&self) -> anyhow::Result<()> {
        let sites = self.sites();
        let mut rows = Rows::new();
        for (site, host) in all_pages(|query| self.federation.search_hosts(&self.operator, None, query))? {
            rows.entry(site).or_default().insert(host.host_id, host);
        }
        let membership = |view: &SiteView| ShownMembership {
            name: view.site.name.to_string(),
            status: view.site.status,
            hosts: rows.get(&view.site.id).map_or(0, BTreeMap::len),
        };
        let registry = sites.iter().map(|view| (view.site.id, membership(view))).collect();
        let mut books = self.books.open();
        if let Err(broken) = books.ended.check(&registry) {
            self.env.observer.violation(&broken);
        }
        books.coordinator = Some(ShownCoordinator {
            at: self.env.clock.now(),
            sites: sites.iter().map(|view| (view.site.id, (view.site.status, view.linked))).collect(),
            rows,
            open_commands: 0,
            policies: BTreeMap::new(),
            leases: BTreeMap::new(),
            rollups: BTreeMap::new(),
            alerts: Ok(()),
            stored_rows: 0,
        });
        Ok(())
    }

    /// Sends a token to every site that asks for one. A site that asks is no member, whatever its row says: it has
    /// left unheard, or lost the answer to its enrollment.
    async fn invite(&self) {
        let asking: Vec<(HostId, String)> = {
            let books = self.books.open();
            let asking = books.sites.iter().filter(|(_, page)| page.invitation.is_none());
            asking.filter_map(|(host, page)| Some((*host, page.key.clone()?))).collect()
        };
        for (host, key) in asking {
            let name = format!("site {}", host.0);
            let of_name =
                |view: &SiteView| view.site.name.as_str() == name && view.site.status != SiteStatus::Removed;
            let invitation = match self.sites().into_iter().find(of_name) {
                Some(view) if view.site.status == SiteStatus::Pending => {
                    self.federation.regenerate_token(&self.operator, view.site.id, None).await
                }
                Some(view) => {
                    self.remove(view.site.id, &name).await;
                    continue;
                }
                None => self.federation.create_site(&self.operator, node::new_site(host, &key)).await,
            };
            match invitation {
                Ok(invitation) => {
                    self.env.observer.event(&format!("invites {host}"));
                    self.books.open().site(host).invitation = Some(invitation.enrollment_token);
                }
                Err(error) => self.tolerate("invitation", &error),
            }
        }
    }

    async fn remove_one(&mut self) {
        let mut members = self.sites();
        members.retain(|view| view.site.status == SiteStatus::Enrolled);
        if !members.is_empty() {
            let site = Arc::clone(&members[self.dice.index(members.len())].site);
            self.remove(site.id, site.name.as_str()).await;
        }
    }

    async fn remove(&self, site: SiteId, name: &str) {
        match self.federation.remove_site(&self.operator, site).await {
            Ok(_) => {
                self.env.observer.event(&format!("removes {name}"));
                let mut books = self.books.open();
                books.ended.acknowledged(site);
                books.removed += 1;
            }
            // It may have left in this moment.
            Err(RegistryError::Rejected(rejection)) => {
                self.env.observer.event(&format!("removal: {rejection}"))
            }
            Err(error) => self.tolerate("removal", &error),
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

//! A site: a member or not, it keeps its hosts; it joins when it is invited, and now and then leaves.

use std::sync::Arc;
use std::time::Duration;

use hansa_actors::error::{InventoryError, LeaveError};
use hansa_actors::issuer::Issuers;
use hansa_actors::{Federation, InventoryChange, NoConnectors};
use hansa_backends::NoDrivers;
use hansa_model::enrollment::{EnrollmentStatus, Role};
use hansa_model::host::HostEntry;
use hansa_model::scope::Operator;
use tokio::time::sleep;

use super::{Books, COORDINATOR};
use crate::dice::Dice;
use crate::invariants::Inventory;
use crate::invariants::convergence::ShownSite;
use crate::scenarios::federation::node::{self, Tried, all_pages};
use crate::world::HostEnv;

/// Hosts of a site at most; no two sites have one in common.
const HOSTS: u64 = 40;

pub(super) async fn live(env: HostEnv, books: Books) -> anyhow::Result<()> {
    let (nobody, issuers) = (Arc::new(NoConnectors), Issuers::default());
    let node = node::start(&env, Role::Site, nobody, issuers, Arc::new(NoDrivers)).await?;
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let mut site = Site {
        federation: node.federation(),
        operator: Federation::local_operator(),
        dice: Dice::from_seed(seed),
        env,
        books,
    };
    let key = site.federation.identity().public_key_pem;
    site.books.open().site(site.env.host).key = Some(key);
    loop {
        site.show()?;
        let at_work = site.env.clock.now() < site.books.work_ends;
        if !site.is_member() {
            site.join().await;
        } else if at_work && site.dice.chance(0.01) {
            site.leave().await;
        }
        if at_work && site.dice.chance(0.3) {
            site.change_a_host().await;
        }
        sleep(site.dice.span(Duration::from_millis(500), Duration::from_millis(1_500))).await;
    }
}

struct Site {
    env: HostEnv,
    books: Books,
    federation: Federation,
    operator: Operator,
    dice: Dice,
}

impl Site {
    /// Whether it stands in its own books as one; a member that was removed learns of it when it calls.
    fn is_member(&self) -> bool {
        let enrollment = self.federation.membership().enrollment;
        enrollment.is_some_and(|own| own.status != EnrollmentStatus::Removed)
    }

    /// Shows what the site holds, and checks that it is what it was told to be.
    fn show(&self) -> anyhow::Result<()> {
        let rows = all_pages(|query| self.federation.inventory(query))?;
        let hosts: Inventory = rows.into_iter().map(|(_, host)| (host.host_id, host)).collect();
        let status = self.federation.sync_status();
        let enrollment = self.federation.membership().enrollment;
        let mut books = self.books.open();
        let page = books.site(self.env.host);
        if page.member.is_some_and(|member| member != enrollment.is_some()) {
            self.env.observer.violation(&format!(
                "was told that it is {} a member and finds {enrollment:?}",
                if page.member == Some(true) { "now" } else { "no longer" }
            ));
        }
        page.shown = Some(ShownSite {
            at: self.env.clock.now(),
            id: enrollment.and_then(|enrollment| enrollment.site_id),
            connection: status.connection.state,
            depth: status.queue.depth,
            leaves: status.queue.resync_leaves,
            open_commands: 0,
            policies: Default::default(),
            rollups: Default::default(),
            hosts,
        });
        Ok(())
    }

    async fn join(&self) {
        let (token, key) = {
            let mut books = self.books.open();
            let key = books.coordinator_key.clone();
            let page = books.site(self.env.host);
            page.member = None;
            (page.invitation.clone(), key)
        };
        let (Some(token), Some(key)) = (token, key) else { return };
        let tried = node::enroll(&self.env, &self.federation, COORDINATOR, (token, key)).await;
        let mut books = self.books.open();
        let page = books.site(self.env.host);
        match tried {
            Tried::Enrolled => page.member = Some(true),
            // It was for a membership that is over: ask for another.
            Tried::Refused => page.invitation = None,
            Tried::Failed => {}
        }
    }

    async fn leave(&self) {
        self.books.open().site(self.env.host).member = None;
        let answer = self.federation.leave(&self.operator).await;
        let mut books = self.books.open();
        match answer {
            Ok(heard) => {
                self.env.observer.event(&format!("leaves, heard: {heard}"));
                books.left += 1;
                let page = books.site(self.env.host);
                page.member = Some(false);
                page.invitation = None;
            }
            Err(LeaveError::Unavailable(unavailable)) => {
                self.env.observer.event(&format!("leave: {unavailable}"));
            }
            Err(error @ (LeaveError::NotEnrolled | LeaveError::WrongRole(_))) => {
                self.env.observer.violation(&format!("leave: {error}"));
            }
        }
    }

    async fn change_a_host(&mut self) {
        let id = format!("00000000-0000-4000-8000-{:04x}{:08x}", self.env.host.0, self.dice.below(HOSTS));
        let change = if self.dice.chance(0.2) {
            Ok(InventoryChange::Remove(id))
        } else {
            let fqdn = format!("host-{}.example.com", self.dice.below(1_000));
            let entry = serde_json::from_value::<HostEntry>(serde_json::json!({"host_id": id, "fqdn": fqdn}));
            entry.map(|entry| InventoryChange::Upsert(Box::new(entry))).map_err(|error| error.to_string())
        };
        match self.federation.patch_inventory(vec![change]).await {
            Ok(_) => {}
            Err(InventoryError::Unavailable(unavailable)) => {
                self.env.observer.event(&format!("was told that {unavailable}"));
            }
            Err(refusal) => self.env.observer.violation(&format!("refused for no reason: {refusal}")),
        }
    }
}

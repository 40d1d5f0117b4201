//! A site: it enrolls by the real handshake, then its callers keep its inventory busy.

use std::sync::Arc;
use std::time::Duration;

use hansa_actors::Federation;
use hansa_actors::error::{InventoryError, Unavailable};
use hansa_actors::issuer::Issuers;
use hansa_actors::view::InventoryAnswer;
use hansa_backends::NoDrivers;
use hansa_model::enrollment::Role;
use tokio::time::sleep;

use super::books::Books;
use super::connector::SiteConnectors;
use super::node::{self, Tried, all_pages};
use super::oversight;
use super::workload::{self, Call, Counts, Request};
use crate::dice::Dice;
use crate::invariants::Inventory;
use crate::invariants::convergence::ShownSite;
use crate::network::HostId;
use crate::world::HostEnv;

const COORDINATOR: HostId = HostId(0);
/// The newest commands that a site lists.
const COMMANDS_SHOWN: usize = 1_000;
/// The newest checkpoints that a site lists.
const CHECKPOINTS_SHOWN: usize = 100;
/// After a call to which an actor did not answer, it may still happen this much later.
const LATE_EFFECT: Duration = Duration::from_secs(40);

pub(super) async fn live(env: HostEnv, books: Books) -> anyhow::Result<()> {
    books.open().site(env.host).runs.site_stopped(env.clock.now());
    let connectors = Arc::new(SiteConnectors::new(env.clone(), books.clone()));
    let node = node::start(&env, Role::Site, connectors, Issuers::default(), Arc::new(NoDrivers)).await?;
    let mut seed = [0; 32];
    env.entropy.fill(&mut seed);
    let mut site = Site { federation: node.federation(), dice: Dice::from_seed(seed), env, books };
    let key = site.federation.identity().public_key_pem;
    let links = oversight::whole_log(&site.federation, &Federation::local_operator())?;
    let verified = {
        let mut books = site.books.open();
        let page = books.site(site.env.host);
        page.key = Some(key);
        page.audit.verify(&links)
    };
    if let Err(broken) = verified {
        site.env.observer.violation(&broken);
    }
    loop {
        site.show()?;
        if site.federation.membership().enrollment.is_none() {
            site.enroll().await;
        }
        site.obey().await;
        if site.env.clock.now() < site.books.work_ends && site.dice.chance(0.3) {
            // Callers come in bursts, so that changes arrive while a batch is under way.
            for _ in 0..=site.dice.below(4) {
                site.work().await;
            }
        }
        if site.env.clock.now() < site.books.work_ends && site.dice.chance(0.05) {
            site.report().await;
        }
        sleep(site.dice.span(Duration::from_millis(500), Duration::from_millis(1_500))).await;
    }
}

pub(super) struct Site {
    pub(super) env: HostEnv,
    pub(super) books: Books,
    pub(super) federation: Federation,
    pub(super) dice: Dice,
}

impl Site {
    /// Shows what the site holds, and checks it against what its callers were told.
    fn show(&mut self) -> anyhow::Result<()> {
        let rows = all_pages(|query| self.federation.inventory(query))?;
        let hosts: Inventory = rows.into_iter().map(|(_, host)| (host.host_id, host)).collect();
        let status = self.federation.sync_status();
        let commands = self.federation.received_commands(COMMANDS_SHOWN)?;
        let open_commands = commands.iter().filter(|(_, row)| !row.state.is_terminal()).count();
        let (policies, rollups) = (self.show_policies()?, self.show_rollups(hosts.len() as u64)?);
        let log_end = oversight::log_end(&self.federation, &Federation::local_operator())?;
        let kept = self.federation.coordinator_checkpoints(CHECKPOINTS_SHOWN)?;
        let mut books = self.books.open();
        let page = books.site(self.env.host);
        page.kept = kept;
        if let Some((number, hash)) = log_end
            && let Err(broken) = page.audit.ends(number, hash)
        {
            self.env.observer.violation(&broken);
        }
        if let Err(broken) = page.promised.check(&hosts) {
            self.env.observer.violation(&broken);
        }
        page.shown = Some(ShownSite {
            at: self.env.clock.now(),
            id: self.federation.membership().enrollment.and_then(|enrollment| enrollment.site_id),
            connection: status.connection.state,
            depth: status.queue.depth,
            leaves: status.queue.resync_leaves,
            open_commands,
            policies,
            rollups,
            hosts,
        });
        Ok(())
    }

    async fn enroll(&mut self) {
        let (token, key) = {
            let mut books = self.books.open();
            let token = books.site(self.env.host).invitation.clone();
            (token, books.coordinator_key.clone())
        };
        let (Some(enrollment_token), Some(key)) = (token, key) else { return };
        let tried = node::enroll(&self.env, &self.federation, COORDINATOR, (enrollment_token, key)).await;
        if matches!(tried, Tried::Refused) {
            // The token that the coordinator knew may have been lost with its disk: ask for another.
            self.books.open().site(self.env.host).invitation = None;
        }
    }

    /// Does what the operator was asked for.
    async fn obey(&mut self) {
        let (remove, resync, held) = {
            let mut books = self.books.open();
            let page = books.site(self.env.host);
            let asked = (std::mem::take(&mut page.remove), std::mem::take(&mut page.resync));
            (asked.0, asked.1, page.promised.held().clone())
        };
        let resync = resync || (self.env.clock.now() < self.books.work_ends && self.dice.chance(0.004));
        if !remove.is_empty() {
            self.ask(workload::removal(&held, &remove)).await;
        }
        if resync {
            let answer = self.federation.resync().await;
            self.env.observer.event(&format!("resyncs: {}", answer.is_ok()));
        }
    }

    async fn work(&mut self) {
        if self.books.open().site(self.env.host).promised.is_uncertain() {
            return;
        }
        let call = {
            let mut books = self.books.open();
            let held = books.site(self.env.host).promised.held().clone();
            workload::draw(&mut self.dice, self.env.host, &held, &mut || books.draw())
        };
        self.ask(call).await;
    }

    /// Makes a call and writes down what was promised.
    async fn ask(&mut self, call: Call) {
        let Call { request, after, counts } = call;
        if let Some(after) = after.clone() {
            self.books.open().site(self.env.host).promised.begin(after);
        }
        let answer = match request {
            Request::Put { entries, confirm } => self.federation.put_inventory(entries, confirm).await,
            Request::Patch { changes } => self.federation.patch_inventory(changes).await,
        };
        self.settle(after.is_some(), counts, answer).await;
    }

    async fn settle(&mut self, fits: bool, counts: Counts, answer: Result<InventoryAnswer, InventoryError>) {
        let Self { env, books, .. } = self;
        match answer {
            Ok(answer) => {
                env.observer.event(&format!("was told {:?}", Counts::from(&answer)));
                if !fits || Counts::from(&answer) != counts {
                    let expected = if fits { "" } else { "a refusal instead of " };
                    env.observer.violation(&format!("{answer:?}, expected {expected}{counts:?}"));
                }
                books.open().site(env.host).promised.acknowledged();
            }
            Err(InventoryError::Unavailable(unavailable)) => {
                env.observer.event(&format!("was told that {unavailable}"));
                if matches!(unavailable, Unavailable::Busy { .. }) {
                    sleep(LATE_EFFECT).await;
                }
            }
            Err(refusal) => {
                env.observer.event(&format!("was refused: {refusal}"));
                if fits {
                    env.observer.violation(&format!("refused for no reason: {refusal}"));
                }
                books.open().site(env.host).promised.refused();
            }
        }
    }
}

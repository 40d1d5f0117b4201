//! Alerts about sites: swept, acknowledged, configured (contract 8 and B5).
//!
//! Shell around `machine::alert`. A sweep looks at what the sites' actors have published, so it waits for
//! none of them. Open alerts, their index and what webhooks are told change in one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hansa_model::alert::{Alert, Condition, Overrides, OverridesPatch};
use hansa_model::audit::Detail;
use hansa_model::id::AlertId;
use hansa_model::limits::alert as limits;
use hansa_model::machine::alert::{self as machine, Change, Facts, Findings};
use hansa_model::machine::registry::Entry;
use hansa_model::scope::Operator;
use hansa_model::site::SiteStatus;
use hansa_model::{SiteId, Timestamp};
use hansa_storage::{Batch, Lane, Order, table};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::{debug, info};

use crate::context::Context;
use crate::error::{AlertError, Unavailable};
use crate::persistence::SELF;
use crate::roster::Roster;
use crate::supervision::{Handle, Tied};
use crate::view::SiteView;
use crate::webhooks::{WebhooksMessage, event};

/// Everything the alerts can be asked.
#[derive(Debug)]
pub(crate) enum AlertsMessage {
    /// Compare what holds with what is open. No answer.
    Sweep,
    /// An operator takes note. Answers once it is on disk.
    Acknowledge { alert: AlertId, operator: Operator, reply: RpcReplyPort<Result<Alert, AlertError>> },
    /// An operator sets thresholds. Answers once they are on disk, and the sites were
    /// compared with them.
    Configure {
        patch: OverridesPatch,
        operator: Operator,
        reply: RpcReplyPort<Result<Overrides, AlertError>>,
    },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

/// The way to the alerts, and what they publish. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    pub(crate) actor: Handle<AlertsMessage>,
    pub(crate) overrides: Arc<ArcSwap<Overrides>>,
}

impl Alerts {
    pub(crate) fn new() -> Self {
        Self { actor: Handle::new("alerts"), overrides: Arc::default() }
    }
}

pub(crate) struct AlertsActor {
    pub(crate) context: Arc<Context>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) alerts: Alerts,
    pub(crate) webhooks: Handle<WebhooksMessage>,
}

type Open = BTreeMap<SiteId, BTreeMap<Condition, Alert>>;

pub(crate) struct AlertsState {
    open: Open,
    overrides: Overrides,
    _ticker: Tied,
}

impl Actor for AlertsActor {
    type Msg = AlertsMessage;
    type State = AlertsState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<AlertsMessage>,
        (): (),
    ) -> Result<AlertsState, ActorProcessingErr> {
        let view = self.context.store.read()?;
        let overrides = view.get::<table::AlertOverrides>(SELF)?.unwrap_or_default();
        let mut open = Open::new();
        for (_, id) in view.all::<table::OpenAlerts>(..)? {
            let alert = view.get::<table::Alerts>(&id)?.ok_or("an open alert has no row")?;
            open.entry(alert.site_id).or_default().insert(alert.condition, alert);
        }
        self.alerts.overrides.store(Arc::new(overrides));
        let interval = self.context.config.push_tick;
        let ticker = Tied::spawn(async move {
            loop {
                if myself.cast(AlertsMessage::Sweep).is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        });
        Ok(AlertsState { open, overrides, _ticker: ticker })
    }

    async fn handle(
        &self,
        _myself: ActorRef<AlertsMessage>,
        message: AlertsMessage,
        state: &mut AlertsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AlertsMessage::Sweep => {
                self.sweep(state).await;
                self.prune().await;
            }
            AlertsMessage::Acknowledge { alert, operator, reply } => {
                // A caller that gave up has nothing to be told.
                let _ = reply.send(self.acknowledge(state, alert, &operator).await);
            }
            AlertsMessage::Configure { patch, operator, reply } => {
                let answer = self.configure(state, &patch, &operator).await;
                if answer.is_ok() {
                    self.sweep(state).await;
                }
                let _ = reply.send(answer);
            }
            #[cfg(feature = "testing")]
            AlertsMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

impl AlertsActor {
    /// One site's changes are one batch: a site whose alerts cannot be stored does not keep the others from
    /// being looked at.
    async fn sweep(&self, state: &mut AlertsState) {
        let now = self.context.now();
        let thresholds = state.overrides.effective();
        let (mut opened, mut resolved) = (0, 0);
        for view in self.roster.views() {
            let site = view.site.id;
            let holding = match view.site.status {
                SiteStatus::Enrolled => self.holding(&view, &thresholds, now),
                SiteStatus::Pending | SiteStatus::Suspended | SiteStatus::Removed => Vec::new(),
            };
            let nothing = BTreeMap::new();
            let open = state.open.get(&site).unwrap_or(&nothing);
            if open.is_empty() && holding.is_empty() {
                continue;
            }
            let new_id = || AlertId::generate(now, &*self.context.entropy);
            let changes = machine::sweep(site, open, holding, now, new_id);
            if changes.is_empty() {
                continue;
            }
            match self.store(&view, &changes).await {
                Ok(()) => {
                    for change in changes {
                        match &change {
                            Change::Opened(_) => opened += 1,
                            Change::Resolved(_) => resolved += 1,
                            Change::Refreshed(_) => {}
                        }
                        take_over(&mut state.open, change);
                    }
                }
                Err(error) => debug!(%site, %error, "alerts not stored; the next sweep tries again"),
            }
        }
        if opened + resolved > 0 {
            let active: usize = state.open.values().map(BTreeMap::len).sum();
            info!(opened, resolved, active, "alerts swept");
            self.webhooks.cast(WebhooksMessage::Pump);
        }
    }

    fn holding(
        &self,
        view: &SiteView,
        thresholds: &hansa_model::alert::Thresholds,
        now: Timestamp,
    ) -> Vec<machine::Holding> {
        let standing = self.roster.rollups.read().site(view.site.id).cloned();
        let worst = standing.as_ref().and_then(|standing| standing.rollups.worst_compliance());
        let found = standing.as_ref().and_then(|standing| standing.rollups.vulnerabilities.latest());
        let facts = Facts {
            site_id: view.site.id,
            name: view.site.name.as_str(),
            sync_interval_seconds: view.site.sync_interval_seconds,
            last_sync_at: view.sync.last_sync_at,
            linked: view.linked,
            worst_compliance: worst.as_ref().map(|worst| (worst.baseline.as_str(), worst.score_percent)),
            vulnerabilities: found.map(|found| Findings {
                critical_count: found.critical_count,
                high_count: found.high_count,
                affected_host_count: found.affected_host_count,
            }),
            health: view.health,
        };
        machine::holding(&facts, thresholds, now)
    }

    async fn store(&self, view: &SiteView, changes: &[Change]) -> Result<(), Unavailable> {
        let mut batch = Batch::new();
        for change in changes {
            let alert = change.alert();
            let key = (alert.site_id, alert.condition.number());
            batch.put::<table::Alerts>(&alert.id, alert);
            match change {
                Change::Opened(_) => {
                    batch.put::<table::OpenAlerts>(&key, &alert.id);
                    batch.append::<table::WebhookLog>(&event(view, alert, "opened", alert.triggered_at));
                }
                Change::Refreshed(_) => {}
                Change::Resolved(_) => {
                    batch.delete::<table::OpenAlerts>(&key);
                    let at = alert.resolved_at.unwrap_or(alert.refreshed_at);
                    batch.append::<table::WebhookLog>(&event(view, alert, "resolved", at));
                }
            }
        }
        self.context.commit(Lane::Operator, batch).await?;
        for change in changes {
            let kind = match change {
                Change::Opened(_) => "alert_opened",
                Change::Refreshed(_) => continue,
                Change::Resolved(_) => "alert_resolved",
            };
            let alert = change.alert();
            let details = [
                ("alert_id", Detail::Text(alert.id.to_string())),
                ("condition", alert.condition.as_str().into()),
                ("severity", alert.severity.as_str().into()),
                ("title", alert.title.as_str().into()),
            ];
            self.context.publish(kind, Some(alert.site_id), details);
        }
        Ok(())
    }

    async fn acknowledge(
        &self,
        state: &mut AlertsState,
        id: AlertId,
        operator: &Operator,
    ) -> Result<Alert, AlertError> {
        let view = self.context.store.read().map_err(|_| Unavailable::Storage)?;
        let alert = view.get::<table::Alerts>(&id).map_err(|_| Unavailable::Storage)?;
        let alert = alert.filter(|alert| operator.sees(alert.site_id)).ok_or(AlertError::NotFound(id))?;
        let Some(next) = machine::acknowledge(&alert, &operator.userid, self.context.now()) else {
            return Ok(alert);
        };
        let member = self.roster.find(next.site_id).ok_or(AlertError::NotFound(id))?;
        let site = member.view();
        let details = [
            ("alert_id".to_owned(), Detail::Text(id.to_string())),
            ("condition".to_owned(), next.condition.as_str().into()),
        ];
        let entry = Entry { operation: "alert_acknowledged", details: details.into_iter().collect() };
        let mut batch = Batch::new();
        batch.put::<table::Alerts>(&id, &next);
        batch.audit(self.context.audit(entry, Some(operator), &site.site));
        let at = next.acknowledged_at.unwrap_or(next.refreshed_at);
        batch.append::<table::WebhookLog>(&event(&site, &next, "acknowledged", at));
        self.context.commit(Lane::Operator, batch).await?;
        if let Some(open) = state.open.get_mut(&next.site_id).and_then(|open| open.get_mut(&next.condition))
            && open.id == id
        {
            *open = next.clone();
        }
        self.webhooks.cast(WebhooksMessage::Pump);
        Ok(next)
    }

    async fn configure(
        &self,
        state: &mut AlertsState,
        patch: &OverridesPatch,
        operator: &Operator,
    ) -> Result<Overrides, AlertError> {
        let overrides = state.overrides.patched(patch);
        overrides.validate()?;
        if overrides == state.overrides {
            return Ok(overrides);
        }
        #[expect(clippy::cast_precision_loss, reason = "thresholds for people, far below 2^53")]
        let whole = |value: Option<u64>| value.map_or(Detail::Null, |value| Detail::Float(value as f64));
        let real = |value: Option<f64>| value.map_or(Detail::Null, Detail::Float);
        let details = [
            ("offline_multiplier", real(overrides.offline_multiplier)),
            ("min_offline_seconds", whole(overrides.min_offline_seconds)),
            ("compliance_threshold", real(overrides.compliance_threshold)),
            ("critical_cve_threshold", whole(overrides.critical_cve_threshold)),
        ];
        let mut batch = Batch::new();
        batch.put::<table::AlertOverrides>(SELF, &overrides);
        batch.audit(self.context.audit_node("alert_config_updated", Some(operator), details));
        self.context.commit(Lane::Operator, batch).await?;
        state.overrides = overrides;
        self.alerts.overrides.store(Arc::new(overrides));
        Ok(overrides)
    }

    /// Resolved alerts go after their time. Ids sort by the time at which alerts began, so the scan ends at
    /// the first young one; an old alert that is open, or was resolved lately, stays.
    async fn prune(&self) {
        const AT_ONCE: usize = 256;
        let Ok(view) = self.context.store.read() else { return };
        let before = self.context.now().before(limits::RESOLVED_KEPT);
        let Ok(oldest) = view.page::<table::Alerts>(.., Order::Ascending, AT_ONCE) else { return };
        let mut batch = Batch::new();
        for (id, alert) in oldest.iter().take_while(|(_, alert)| alert.triggered_at < before) {
            if alert.resolved_at.is_some_and(|at| at < before) {
                batch.delete::<table::Alerts>(id);
            }
        }
        if !batch.is_empty()
            && let Err(error) = self.context.commit(Lane::Operator, batch).await
        {
            debug!(%error, "old alerts not folded away; the next sweep tries again");
        }
    }
}

fn take_over(open: &mut Open, change: Change) {
    match change {
        Change::Opened(alert) | Change::Refreshed(alert) => {
            open.entry(alert.site_id).or_default().insert(alert.condition, alert);
        }
        Change::Resolved(alert) => {
            if let Some(site) = open.get_mut(&alert.site_id) {
                site.remove(&alert.condition);
            }
            open.retain(|_, alerts| !alerts.is_empty());
        }
    }
}

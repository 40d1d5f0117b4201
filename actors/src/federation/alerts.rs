//! The facade's part about alerts and the webhooks that are told of them.

use hansa_model::Timestamp;
use hansa_model::alert::{Alert, OverridesPatch};
use hansa_model::enrollment::Role;
use hansa_model::id::AlertId;
use hansa_model::scope::Operator;
use hansa_storage::{Order, table};

use super::Federation;
use crate::alerts::AlertsMessage;
use crate::error::{AlertError, Unavailable, WebhookError};
use crate::view::{AlertConfigView, AlertFilter, WebhookView};
use crate::webhooks::WebhooksMessage;

impl Federation {
    /// Alerts of the sites that the operator may see, those that began last first.
    ///
    /// # Errors
    /// The store did not answer.
    pub fn alerts(&self, operator: &Operator, filter: &AlertFilter) -> Result<Vec<Alert>, Unavailable> {
        /// Rows taken from the store at once.
        const PAGE: usize = 256;
        let view = self.tree.context.store.read().map_err(|_| Unavailable::Storage)?;
        let shown = |alert: &Alert| {
            operator.sees(alert.site_id)
                && filter.site.is_none_or(|site| site == alert.site_id)
                && (filter.include_resolved || alert.is_open())
        };
        if !filter.include_resolved {
            let open = view.all::<table::OpenAlerts>(..).map_err(|_| Unavailable::Storage)?;
            let mut ids: Vec<AlertId> = open.into_iter().map(|(_, id)| id).collect();
            ids.sort_unstable_by(|a, b| b.cmp(a));
            let rows = ids.iter().map(|id| view.get::<table::Alerts>(id).map_err(|_| Unavailable::Storage));
            let rows = rows.filter_map(Result::transpose).filter(|row| row.as_ref().is_ok_and(shown));
            return rows.take(filter.limit).collect();
        }
        let mut alerts = Vec::new();
        let mut before = AlertId(uuid::Uuid::max());
        loop {
            let page = view
                .page::<table::Alerts>(..before, Order::Descending, PAGE)
                .map_err(|_| Unavailable::Storage)?;
            let Some((oldest, _)) = page.last() else { return Ok(alerts) };
            before = *oldest;
            for (_, alert) in page {
                if shown(&alert) {
                    alerts.push(alert);
                }
                if alerts.len() == filter.limit {
                    return Ok(alerts);
                }
            }
        }
    }

    /// An operator takes note of an alert; it stays open. Durable on return; a second time changes nothing.
    ///
    /// # Errors
    /// See [`AlertError`].
    pub async fn acknowledge_alert(&self, operator: &Operator, alert: AlertId) -> Result<Alert, AlertError> {
        self.require(Role::Coordinator)?;
        let operator = operator.clone();
        let message = |reply| AlertsMessage::Acknowledge { alert, operator, reply };
        self.tree.coordinator.alerts.actor.call(message).await?
    }

    /// The alert thresholds.
    pub fn alert_config(&self) -> AlertConfigView {
        let overrides = **self.tree.coordinator.alerts.overrides.load();
        AlertConfigView { effective: overrides.effective(), overrides }
    }

    /// Sets the alert thresholds, and compares at once. Durable on return.
    ///
    /// # Errors
    /// See [`AlertError`].
    pub async fn configure_alerts(
        &self,
        operator: &Operator,
        patch: OverridesPatch,
    ) -> Result<AlertConfigView, AlertError> {
        self.require(Role::Coordinator)?;
        if operator.sites.is_some() {
            // Thresholds hold for every site; who may see some sites only sets none.
            return Err(AlertError::Confined);
        }
        let operator = operator.clone();
        let message = |reply| AlertsMessage::Configure { patch, operator, reply };
        let overrides = self.tree.coordinator.alerts.actor.call(message).await??;
        Ok(AlertConfigView { effective: overrides.effective(), overrides })
    }

    /// How each configured webhook stands.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn webhooks(&self) -> Result<Vec<WebhookView>, WebhookError> {
        self.require(Role::Coordinator)?;
        Ok(self.tree.coordinator.webhooks.call(|reply| WebhooksMessage::List { reply }).await?)
    }

    /// Tells a webhook again what happened since an instant, or all that is kept: seven days. Answers with
    /// how many events that are, once its place is on disk.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn replay_webhook(
        &self,
        operator: &Operator,
        name: &str,
        since: Option<Timestamp>,
    ) -> Result<u64, WebhookError> {
        self.require(Role::Coordinator)?;
        let operator = operator.clone();
        let name = name.to_owned();
        let message = |reply| WebhooksMessage::Replay { name, since, operator, reply };
        self.tree.coordinator.webhooks.call(message).await?
    }
}

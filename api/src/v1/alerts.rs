//! Alerts about sites, their thresholds (contract B5 and 8), and the webhooks that are told of them.

use std::sync::Arc;

use hansa_actors::view::{AlertConfigView, AlertFilter, WebhookView};
use hansa_model::Timestamp;
use hansa_model::alert::{Alert, Overrides, OverridesPatch, Thresholds};
use hansa_model::limits::alert as limits;
use hansa_model::scope::Operator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{Answer, Licensed};
use crate::json::given;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

pub(crate) const ALERTS_QUERY: &[Parameter] = &[
    Parameter { name: "site_id", kind: ParameterKind::Text, description: "about this site alone" },
    Parameter { name: "include_resolved", kind: ParameterKind::Boolean, description: "resolved alerts too" },
    Parameter {
        name: "limit",
        kind: ParameterKind::Integer,
        description: "rows at most; 1 to 1,000, default 100",
    },
];

/// An alert about a site.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(crate) struct AlertBody {
    id: Uuid,
    site_id: Uuid,
    /// `site_offline`, `compliance_below`, `vulnerabilities_high`, `dead_letters` or `clock_skew`.
    condition: &'static str,
    /// `warning` or `critical`.
    severity: &'static str,
    title: String,
    message: String,
    #[schema(value_type = Option<Object>)]
    details: Map<String, Value>,
    /// When the condition began to hold.
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
    /// When it was last seen to hold.
    #[schema(value_type = String, format = DateTime)]
    refreshed_at: Timestamp,
    resolved: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
    acknowledged: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
    acknowledged_by: Option<String>,
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id.0,
            site_id: alert.site_id.0,
            condition: alert.condition.as_str(),
            severity: alert.severity.as_str(),
            title: alert.title,
            message: alert.message,
            details: alert.details.into_iter().map(|(name, value)| (name, value.into())).collect(),
            triggered_at: alert.triggered_at,
            refreshed_at: alert.refreshed_at,
            resolved: alert.resolved_at.is_some(),
            resolved_at: alert.resolved_at,
            acknowledged: alert.acknowledged_at.is_some(),
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
        }
    }
}

/// Alerts, those that began last first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertsAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    alerts: Vec<AlertBody>,
}

/// One alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    alert: AlertBody,
}

/// Thresholds that hold.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EffectiveThresholds {
    /// Intervals that a site may be silent.
    offline_multiplier: f64,
    /// Seconds that any site may be silent.
    min_offline_seconds: u64,
    /// Least score in percent.
    compliance_threshold: f64,
    /// Critical findings that are tolerated.
    critical_cve_threshold: u64,
}

impl From<Thresholds> for EffectiveThresholds {
    fn from(thresholds: Thresholds) -> Self {
        Self {
            offline_multiplier: thresholds.offline_multiplier,
            min_offline_seconds: thresholds.min_offline_seconds,
            compliance_threshold: thresholds.compliance_threshold,
            critical_cve_threshold: thresholds.critical_cve_threshold,
        }
    }
}

/// Thresholds that operators have set; null where the default holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ThresholdOverrides {
    offline_multiplier: Option<f64>,
    min_offline_seconds: Option<u64>,
    compliance_threshold: Option<f64>,
    critical_cve_threshold: Option<u64>,
}

impl From<Overrides> for ThresholdOverrides {
    fn from(overrides: Overrides) -> Self {
        Self {
            offline_multiplier: overrides.offline_multiplier,
            min_offline_seconds: overrides.min_offline_seconds,
            compliance_threshold: overrides.compliance_threshold,
            critical_cve_threshold: overrides.critical_cve_threshold,
        }
    }
}

/// The alert thresholds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertConfigAnswer {
    #[schema(value_type = bool)]
    licensed: Licensed,
    effective: EffectiveThresholds,
    overrides: ThresholdOverrides,
}

impl From<AlertConfigView> for AlertConfigAnswer {
    fn from(view: AlertConfigView) -> Self {
        Self { licensed: Licensed, effective: view.effective.into(), overrides: view.overrides.into() }
    }
}

/// Thresholds to set: absent keeps, null goes back to the default. Other members are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AlertConfigPatch {
    /// At least 1; default 4.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    offline_multiplier: Option<Option<f64>>,
    /// At least 0; default 900.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    min_offline_seconds: Option<Option<u64>>,
    /// 0 to 100; default 70.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    compliance_threshold: Option<Option<f64>>,
    /// At least 0; default 0.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    critical_cve_threshold: Option<Option<u64>>,
}

impl From<AlertConfigPatch> for OverridesPatch {
    fn from(body: AlertConfigPatch) -> Self {
        Self {
            offline_multiplier: body.offline_multiplier,
            min_offline_seconds: body.min_offline_seconds,
            compliance_threshold: body.compliance_threshold,
            critical_cve_threshold: body.critical_cve_threshold,
        }
    }
}

/// The configured webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhooksAnswer {
    webhooks: Vec<WebhookBody>,
}

/// How a webhook stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookBody {
    /// Its name in the configuration.
    name: String,
    /// Events that it has not taken yet.
    waiting: u64,
    /// Tries that failed since the last success.
    consecutive_failures: u32,
    /// Why the last one failed.
    last_error: Option<String>,
}

impl From<WebhookView> for WebhookBody {
    fn from(view: WebhookView) -> Self {
        Self {
            name: view.name,
            waiting: view.waiting,
            consecutive_failures: view.consecutive_failures,
            last_error: view.last_error,
        }
    }
}

/// From where to tell again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// Events since this instant; all that are kept (seven days) when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// What will be told again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayAnswer {
    /// Events that wait for the webhook now.
    waiting: u64,
}

pub(crate) fn list(request: &Request, operator: &Arc<Operator>) -> Result<Answer, Problem> {
    let query = request.query()?;
    let filter = AlertFilter {
        site: query.word("site_id")?,
        include_resolved: query.flag("include_resolved")?,
        limit: query.number("limit", 1..=limits::LIST_MAX)?.unwrap_or(limits::LIST_DEFAULT),
    };
    let alerts = request.federation.alerts(operator, &filter)?;
    Answer::ok(&AlertsAnswer {
        licensed: Licensed,
        alerts: alerts.into_iter().map(AlertBody::from).collect(),
    })
}

pub(crate) async fn acknowledge(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let alert = request.federation.acknowledge_alert(&operator, request.id("alert_id")?).await?;
    Answer::ok(&AlertAnswer { licensed: Licensed, alert: alert.into() })
}

pub(crate) fn config(request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&AlertConfigAnswer::from(request.federation.alert_config()))
}

pub(crate) async fn set_config(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: AlertConfigPatch = request.json().await?;
    let view = request.federation.configure_alerts(&operator, body.into()).await?;
    Answer::ok(&AlertConfigAnswer::from(view))
}

pub(crate) async fn webhooks(request: Request, _operator: Arc<Operator>) -> Result<Answer, Problem> {
    let webhooks = request.federation.webhooks().await?;
    Answer::ok(&WebhooksAnswer { webhooks: webhooks.into_iter().map(WebhookBody::from).collect() })
}

pub(crate) async fn replay(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: ReplayBody = request.optional_json().await?;
    let waiting = request.federation.replay_webhook(&operator, request.argument("name"), body.since).await?;
    Answer::ok(&ReplayAnswer { waiting })
}

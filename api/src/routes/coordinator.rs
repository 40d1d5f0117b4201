//! What operators of a coordinator call: its registry, directory, policies, commands, alerts, leases, audit.

use hansa_model::scope::Scope;

use super::parameters::{HOLD, LEASES_QUERY, LIMIT, POLICIES_QUERY, SITES_QUERY};
use crate::route::Access::{Operator, TokenInPath};
use crate::route::Method::{Delete, Get, Patch, Post, Put};
use crate::route::{Input, Output, Route, schema};
use crate::v1::{alerts, audit, commands, hosts, leases, past, policies, rollups, sites};

pub(super) static ROUTES: &[Route] = &[
    // Registry of sites (contract B2).
    Route::new(
        Get,
        "/api/v1/federation/sites",
        Operator(Scope::SitesRead, read!(sites::list, as operator)),
        "Lists the sites",
    )
    .query(SITES_QUERY)
    .ok(schema::<sites::SitesAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites",
        Operator(Scope::SitesWrite, act!(sites::create, as operator)),
        "Invites a site and shows its one-time token",
    )
    .json(schema::<sites::NewSiteBody>())
    .ok(schema::<sites::InvitationAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/enrollment/{token}/complete",
        TokenInPath(act!(sites::complete_enrollment)),
        "Completes a site's enrollment",
    )
    .json(schema::<sites::CompleteEnrollment>())
    .ok(schema::<sites::EnrollmentAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/sites/{site_id}",
        Operator(Scope::SitesRead, read!(sites::show, as operator)),
        "Shows a site",
    )
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Patch,
        "/api/v1/federation/sites/{site_id}",
        Operator(Scope::SitesWrite, act!(sites::patch, as operator)),
        "Changes a site",
    )
    .json(schema::<sites::SitePatchBody>())
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Delete,
        "/api/v1/federation/sites/{site_id}",
        Operator(Scope::SitesWrite, act!(sites::remove, as operator)),
        "Removes a site, or cancels its invitation",
    )
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/suspend",
        Operator(Scope::SitesWrite, act!(sites::suspend, as operator)),
        "Puts an enrolled site on hold",
    )
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/resume",
        Operator(Scope::SitesWrite, act!(sites::resume, as operator)),
        "Takes a suspended site back",
    )
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/sites/{site_id}/sync-status",
        Operator(Scope::SitesRead, read!(sites::sync_status, as operator)),
        "Shows how a site's sync stands",
    )
    .ok(schema::<sites::SyncStatusAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/sites/{site_id}/sync-timeline",
        Operator(Scope::SitesRead, read!(sites::sync_timeline, as operator)),
        "Shows a site's newest syncs, oldest first",
    )
    .query(&[LIMIT])
    .ok(schema::<sites::TimelineAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/regenerate-token",
        Operator(Scope::SitesWrite, act!(sites::regenerate_token, as operator)),
        "Puts out a new token for a pending site; the old one is void",
    )
    .takes(Input::OptionalJson(schema::<sites::RegenerateToken>()))
    .ok(schema::<sites::InvitationAnswer>()),
    Route::new(
        Put,
        "/api/v1/federation/sites/{site_id}/identity-key",
        Operator(Scope::SitesWrite, act!(sites::replace_identity_key, as operator)),
        "Replaces a pending site's identity key",
    )
    .json(schema::<sites::ReplaceIdentityKey>())
    .ok(schema::<sites::SiteAnswer>()),
    // Policies (contract B4 and ours).
    Route::new(
        Get,
        "/api/v1/federation/policies",
        Operator(Scope::PoliciesRead, read!(policies::list, as operator)),
        "Lists the policies",
    )
    .query(POLICIES_QUERY)
    .ok(schema::<policies::PoliciesAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies",
        Operator(Scope::PoliciesWrite, act!(policies::create, as operator)),
        "Creates a policy",
    )
    .json(schema::<policies::NewPolicyBody>())
    .ok(schema::<policies::PolicyAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/policies/{policy_id}",
        Operator(Scope::PoliciesRead, read!(policies::show, as operator)),
        "Shows a policy and how far its sites are",
    )
    .ok(schema::<policies::PolicyDetailAnswer>()),
    Route::new(
        Patch,
        "/api/v1/federation/policies/{policy_id}",
        Operator(Scope::PoliciesWrite, act!(policies::patch, as operator)),
        "Changes a policy",
    )
    .query(HOLD)
    .json(schema::<policies::PolicyPatchBody>())
    .ok(schema::<policies::PolicyAnswer>()),
    Route::new(
        Delete,
        "/api/v1/federation/policies/{policy_id}",
        Operator(Scope::PoliciesWrite, act!(policies::deactivate, as operator)),
        "Deactivates a policy and withdraws it from its sites",
    )
    .ok(schema::<policies::PolicyAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies/{policy_id}/assign",
        Operator(Scope::PoliciesWrite, act!(policies::assign, as operator)),
        "Assigns a policy to sites",
    )
    .query(HOLD)
    .json(schema::<policies::PolicySites>())
    .ok(schema::<policies::PolicyDetailAnswer>()),
    Route::new(
        Delete,
        "/api/v1/federation/policies/{policy_id}/assign",
        Operator(Scope::PoliciesWrite, act!(policies::unassign, as operator)),
        "Takes a policy from sites",
    )
    .json(schema::<policies::PolicySites>())
    .ok(schema::<policies::PolicyDetailAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies/{policy_id}/plan",
        Operator(Scope::PoliciesRead, read!(policies::plan, as operator)),
        "Shows what a push would change",
    )
    .ok(schema::<policies::PlanAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies/{policy_id}/push",
        Operator(Scope::PoliciesWrite, act!(policies::push, as operator)),
        "Pushes a policy to its sites, at once or wave by wave",
    )
    .takes(Input::OptionalJson(schema::<policies::PolicyPushBody>()))
    .ok(schema::<policies::PolicyDetailAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/policies/{policy_id}/rollouts",
        Operator(Scope::PoliciesRead, read!(policies::rollouts, as operator)),
        "Lists the rollouts of a policy, newest first",
    )
    .ok(schema::<policies::RolloutsAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies/{policy_id}/rollouts/{rollout_id}/resume",
        Operator(Scope::PoliciesWrite, act!(policies::resume, as operator)),
        "Goes on with a halted rollout",
    )
    .ok(schema::<policies::RolloutAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/policies/{policy_id}/rollouts/{rollout_id}/abort",
        Operator(Scope::PoliciesWrite, act!(policies::abort, as operator)),
        "Gives a rollout up",
    )
    .ok(schema::<policies::RolloutAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/repush-policies",
        Operator(Scope::PoliciesWrite, act!(policies::repush, as operator)),
        "Makes all policies of a site due again",
    )
    .ok(schema::<policies::RepushAnswer>()),
    // Host directory (contract B3).
    Route::new(
        Get,
        "/api/v1/federation/hosts",
        Operator(Scope::HostsRead, read!(hosts::search, as operator)),
        "Searches the hosts of all sites",
    )
    .query(hosts::SEARCH_QUERY)
    .ok(schema::<hosts::HostsAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/hosts/{host_id}",
        Operator(Scope::HostsRead, act!(hosts::show, as operator)),
        "Shows a host and the site that holds it",
    )
    .query(past::HOST_QUERY)
    .ok(schema::<hosts::HostAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/hosts/{host_id}/history",
        Operator(Scope::HostsRead, act!(past::history, as operator)),
        "Lists what changed at a host",
    )
    .query(past::HISTORY_QUERY)
    .ok(schema::<past::HistoryAnswer>()),
    // Rollups (contract B3).
    Route::new(
        Get,
        "/api/v1/federation/rollups/dashboard",
        Operator(Scope::RollupsRead, read!(rollups::dashboard, as operator)),
        "Shows the latest rollups of a site, or the whole federation at a glance",
    )
    .query(rollups::DASHBOARD_QUERY)
    .ok(schema::<rollups::Dashboard>()),
    Route::new(
        Get,
        "/api/v1/federation/reports/rollup",
        Operator(Scope::RollupsRead, read!(rollups::report, as operator)),
        "Compares sites by their latest rollups, with totals",
    )
    .query(rollups::REPORT_QUERY)
    .ok(schema::<rollups::RollupReport<'_>>()),
    Route::new(
        Get,
        "/api/v1/federation/rollups/hosts",
        Operator(Scope::RollupsRead, read!(rollups::hosts, as operator)),
        "Lists snapshots of the sites' hosts",
    )
    .query(rollups::SERIES_QUERY)
    .ok(schema::<rollups::HostRollups>()),
    Route::new(
        Get,
        "/api/v1/federation/rollups/compliance",
        Operator(Scope::RollupsRead, read!(rollups::compliance, as operator)),
        "Lists snapshots of the sites' scores",
    )
    .query(rollups::COMPLIANCE_QUERY)
    .ok(schema::<rollups::ComplianceRollups>()),
    Route::new(
        Get,
        "/api/v1/federation/rollups/vulnerabilities",
        Operator(Scope::RollupsRead, read!(rollups::vulnerabilities, as operator)),
        "Lists snapshots of the sites' counted findings",
    )
    .query(rollups::SERIES_QUERY)
    .ok(schema::<rollups::VulnerabilityRollups>()),
    // Audit log (contract B5, and ours: its chain and checkpoints).
    Route::new(
        Get,
        "/api/v1/federation/audit",
        Operator(Scope::AuditRead, act!(audit::list, as operator)),
        "Lists what was done, newest first",
    )
    .query(audit::QUERY)
    .ok(schema::<audit::AuditAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/audit/chain",
        Operator(Scope::AuditRead, read!(audit::chain, as operator)),
        "Shows the links of the audit chain, for whoever verifies it",
    )
    .query(audit::CHAIN_QUERY)
    .ok(schema::<audit::ChainAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/audit/{entry_id}",
        Operator(Scope::AuditRead, read!(audit::show, as operator)),
        "Shows an entry of the audit log",
    )
    .ok(schema::<audit::AuditEntryAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/audit-checkpoints",
        Operator(Scope::AuditRead, read!(audit::checkpoints, any operator)),
        "Lists the checkpoints of this node's audit log, newest first",
    )
    .query(&[LIMIT])
    .ok(schema::<audit::CheckpointsAnswer>()),
    // Commands (contract B4), and ours: cancel, bulk, outcomes by host.
    Route::new(
        Post,
        "/api/v1/federation/commands/dispatch",
        Operator(Scope::CommandsDispatch, act!(commands::dispatch, as operator)),
        "Dispatches a command to one site",
    )
    .json(schema::<commands::DispatchBody>())
    .gives(Output::Json(201, schema::<commands::CommandAnswer>())),
    Route::new(
        Post,
        "/api/v1/federation/commands/dispatch-bulk",
        Operator(Scope::CommandsDispatch, act!(commands::dispatch_bulk, as operator)),
        "Dispatches one command to each of many sites, by list or by host query",
    )
    .json(schema::<commands::BulkBody>())
    .ok(schema::<commands::BulkAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/commands",
        Operator(Scope::CommandsRead, read!(commands::list, as operator)),
        "Lists commands, newest first",
    )
    .query(commands::LIST_QUERY)
    .ok(schema::<commands::CommandsAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/commands/{command_id}",
        Operator(Scope::CommandsRead, read!(commands::show, as operator)),
        "Shows a command",
    )
    .ok(schema::<commands::CommandAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/commands/{command_id}/results",
        Operator(Scope::CommandsRead, read!(commands::results, as operator)),
        "Shows what a command did at its hosts",
    )
    .query(commands::RESULTS_QUERY)
    .ok(schema::<commands::ResultsAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/commands/{command_id}/cancel",
        Operator(Scope::CommandsDispatch, act!(commands::cancel, as operator)),
        "Stops a command, or takes it back before it was sent",
    )
    .ok(schema::<commands::CommandAnswer>()),
    // Alerts (contract B5), and the webhooks that are told of them.
    Route::new(
        Get,
        "/api/v1/federation/alerts",
        Operator(Scope::AlertsRead, read!(alerts::list, as operator)),
        "Lists alerts about sites, those that began last first",
    )
    .query(alerts::ALERTS_QUERY)
    .ok(schema::<alerts::AlertsAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/alerts/{alert_id}/acknowledge",
        Operator(Scope::AlertsWrite, act!(alerts::acknowledge, as operator)),
        "Takes note of an alert; it stays open",
    )
    .ok(schema::<alerts::AlertAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/alert-config",
        Operator(Scope::AlertsRead, read!(alerts::config, any operator)),
        "Shows the thresholds of alerts",
    )
    .ok(schema::<alerts::AlertConfigAnswer>()),
    Route::new(
        Put,
        "/api/v1/federation/alert-config",
        Operator(Scope::AlertsWrite, act!(alerts::set_config, as operator)),
        "Sets thresholds of alerts",
    )
    .json(schema::<alerts::AlertConfigPatch>())
    .ok(schema::<alerts::AlertConfigAnswer>()),
    Route::new(
        Get,
        "/api/v1/webhooks",
        Operator(Scope::AlertsRead, act!(alerts::webhooks, as operator)),
        "Shows how the configured webhooks stand",
    )
    .ok(schema::<alerts::WebhooksAnswer>()),
    Route::new(
        Post,
        "/api/v1/webhooks/{name}/replay",
        Operator(Scope::AlertsWrite, act!(alerts::replay, as operator)),
        "Tells a webhook again what has happened",
    )
    .takes(Input::OptionalJson(schema::<alerts::ReplayBody>()))
    .ok(schema::<alerts::ReplayAnswer>()),
    // Secret leases (contract B5).
    Route::new(
        Get,
        "/api/v1/federation/secret-leases",
        Operator(Scope::LeasesRead, read!(leases::list, as operator)),
        "Lists the leases of credentials, newest request first",
    )
    .query(LEASES_QUERY)
    .ok(schema::<leases::LeasesAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/secret-leases/{lease_id}",
        Operator(Scope::LeasesRead, read!(leases::show, as operator)),
        "Shows a lease, without its credential",
    )
    .ok(schema::<leases::LeaseAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/secret-leases/{lease_id}/revoke",
        Operator(Scope::LeasesRevoke, act!(leases::revoke, as operator)),
        "Takes a lease's credential away, at its issuer and from its host",
    )
    .ok(schema::<leases::LeaseAnswer>()),
];

//! The table of routes: the only way to mount one, and what the authentication reads.
//!
//! Test 01 of the threat model walks [`table`]: nothing but what is marked public answers without a credential.

#[macro_use]
mod handlers;
mod parameters;

use std::sync::LazyLock;

use hansa_model::limits::{
    access as access_limits, command as command_limits, http, inventory as inventory_limits,
};
use hansa_model::scope::Scope;

use self::parameters::{CONFIRM_REMOVALS, HOLD, LEASES_QUERY, LIMIT, POLICIES_QUERY, SITES_QUERY, VERBOSE};
use crate::route::Access::{
    AnyOperator, CoordinatorBearer, Operator, Public, RefreshCookie, SiteBearer, TokenInPath,
};
use crate::route::Method::{Delete, Get, Patch, Post, Put};
use crate::route::{Input, Output, Route, RouteInfo, schema};
use crate::v1::{
    access, alerts, audit, commands, events, findings, hosts, identity, ingest, inventory, leases, login,
    membership, operations, past, policies, received, rollups, server, sites,
};

pub(crate) static ROUTES: &[Route] = &[
    // Identity and role (contract B1).
    Route::new(
        Get,
        "/api/v1/federation/identity-key",
        Operator(Scope::IdentityRead, read!(identity::identity_key, any operator)),
        "Shows the node's public identity key",
    )
    .ok(schema::<identity::IdentityKey>()),
    Route::new(
        Get,
        "/api/v1/federation/trusted-peers",
        Operator(Scope::IdentityRead, read!(identity::trusted_peers, any operator)),
        "Lists the keyring",
    )
    .ok(schema::<identity::TrustedPeers>()),
    Route::new(
        Post,
        "/api/v1/federation/trusted-peers",
        Operator(Scope::IdentityWrite, act!(identity::trust_peer, as operator)),
        "Puts a key into the keyring",
    )
    .json(schema::<identity::NewTrustedPeer>())
    .ok(schema::<identity::Peer>()),
    Route::new(
        Delete,
        "/api/v1/federation/trusted-peers/{name}",
        Operator(Scope::IdentityWrite, act!(identity::distrust_peer, as operator)),
        "Takes a key out of the keyring",
    ),
    Route::new(
        Get,
        "/api/v1/federation/tls-cert",
        Public(read!(identity::tls_certificate)),
        "Shows the node's certificate with the proof that it is the node's",
    )
    .ok(schema::<identity::TlsCertificate>()),
    Route::new(
        Get,
        "/api/v1/federation-role",
        Operator(Scope::IdentityRead, read!(identity::role, any operator)),
        "Shows the node's role",
    )
    .ok(schema::<identity::FederationRole>()),
    Route::new(
        Put,
        "/api/v1/federation-role",
        Operator(Scope::RoleWrite, act!(identity::set_role, as operator)),
        "Sets the node's role",
    )
    .json(schema::<identity::NewRole>())
    .ok(schema::<identity::FederationRole>()),
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
        Operator(Scope::AuditRead, read!(audit::list, as operator)),
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
    // What sites push over HTTP (contract B6).
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/command-results",
        SiteBearer(act!(commands::take_results, as site)),
        "Takes what commands did at a site",
    )
    .json(schema::<commands::CommandResultBody>())
    .ok(schema::<commands::TakenResults>())
    .upload(command_limits::RESULTS_BYTES_MAX),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/secret-lease-requests",
        SiteBearer(act!(leases::ask, as site)),
        "Takes a site's request for a short-lived credential",
    )
    .json(schema::<leases::LeaseRequestBody>())
    .ok(schema::<leases::LeaseAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/host-directory",
        SiteBearer(act!(ingest::host_directory, as site)),
        "Takes a site's whole directory",
    )
    .json(schema::<ingest::DirectoryPush>())
    .ok(schema::<ingest::DirectoryPushAnswer>())
    .upload(http::DIRECTORY_BYTES_MAX),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/rollups/hosts",
        SiteBearer(act!(ingest::host_rollup, as site)),
        "Takes a site's count of its hosts",
    )
    .json(schema::<ingest::HostRollupBody>())
    .ok(schema::<ingest::HostRollupAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/rollups/compliance",
        SiteBearer(act!(rollups::take_compliance, as site)),
        "Takes a site's score against one baseline",
    )
    .json(schema::<rollups::ComplianceBody>())
    .ok(schema::<rollups::ComplianceAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/rollups/vulnerabilities",
        SiteBearer(act!(rollups::take_vulnerabilities, as site)),
        "Takes a site's counted findings",
    )
    .json(schema::<rollups::VulnerabilityBody>())
    .ok(schema::<rollups::VulnerabilityAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/metadata",
        SiteBearer(act!(ingest::metadata, as site)),
        "Takes what a site says about itself",
    )
    .json(schema::<ingest::SiteMetadataBody>())
    .ok(schema::<sites::SiteAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/sites/{site_id}/policy-results",
        SiteBearer(act!(policies::result, as site)),
        "Takes what applying a policy did at a site",
    )
    .json(schema::<policies::PolicyResultBody>())
    .ok(schema::<policies::PolicyResultAnswer>()),
    // A site's own membership and queue (contract B7).
    Route::new(
        Post,
        "/api/v1/federation/site/enroll",
        Operator(Scope::SiteWrite, act!(membership::enroll, as operator)),
        "Joins a federation",
    )
    .json(schema::<membership::EnrollBody>())
    .ok(schema::<membership::MembershipAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/enrollment-status",
        Operator(Scope::SiteRead, read!(membership::enrollment_status, any operator)),
        "Shows this site's membership",
    )
    .ok(schema::<membership::MembershipAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/sync-status",
        Operator(Scope::SiteRead, read!(membership::sync_status, any operator)),
        "Shows the uplink and what waits for it",
    )
    .ok(schema::<membership::SiteSyncStatus>()),
    Route::new(
        Get,
        "/api/v1/federation/site/sync-queue/depth",
        Operator(Scope::SiteRead, read!(membership::queue_depth, any operator)),
        "Counts what this site still has to send",
    )
    .ok(schema::<membership::QueueAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/resync",
        Operator(Scope::SiteWrite, act!(membership::resync, as operator)),
        "Sends this site's whole directory again",
    )
    .ok(schema::<membership::QueueAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/audit-checkpoints",
        Operator(Scope::SiteRead, read!(audit::kept_checkpoints, any operator)),
        "Lists the checkpoints of the coordinator's audit log that this site keeps, newest first",
    )
    .query(&[LIMIT])
    .ok(schema::<audit::CheckpointsAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/sync-queue/dead",
        Operator(Scope::SiteRead, read!(membership::dead, any operator)),
        "Lists what the coordinator refused for good",
    )
    .query(&[LIMIT])
    .ok(schema::<membership::DeadAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/sync-queue/requeue",
        Operator(Scope::SiteWrite, act!(membership::requeue, as operator)),
        "Sends what the coordinator refused for good once more",
    )
    .takes(Input::OptionalJson(schema::<membership::Requeue>()))
    .ok(schema::<membership::RequeueAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/sync-queue/purge",
        Operator(Scope::SiteWrite, act!(membership::purge, as operator)),
        "Drops the oldest queued payloads; hosts are never dropped",
    )
    .json(schema::<membership::Purge>())
    .ok(schema::<membership::PurgeAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/leave",
        Operator(Scope::SiteWrite, act!(membership::leave, as operator)),
        "Leaves the federation",
    )
    .ok(schema::<membership::LeaveAnswer>()),
    // What the coordinator pushes to this site, and what it holds of it (contract B7).
    Route::new(
        Post,
        "/api/v1/federation/site/policies",
        CoordinatorBearer(act!(received::push_policy)),
        "Takes a policy, or the word that it is withdrawn",
    )
    .json(schema::<received::PolicyPushBody>())
    .ok(schema::<received::PolicyPushAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/commands",
        CoordinatorBearer(act!(received::push_command)),
        "Takes a command, or the word that it is cancelled",
    )
    .json(schema::<received::CommandPushBody>())
    .ok(schema::<received::CommandPushAnswer>()),
    Route::new(
        Post,
        "/api/v1/federation/site/secret-leases",
        CoordinatorBearer(act!(received::push_lease)),
        "Takes a credential for a host, or a word on one",
    )
    .json(schema::<received::LeasePushBody>())
    .ok(schema::<received::LeasePushAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/received-policies",
        Operator(Scope::SiteRead, read!(received::policies, any operator)),
        "Lists the policies that this site holds",
    )
    .ok(schema::<received::ReceivedPoliciesAnswer>()),
    Route::new(
        Get,
        "/api/v1/federation/site/received-commands",
        Operator(Scope::SiteRead, read!(received::commands, any operator)),
        "Lists the newest commands that this site was sent",
    )
    .query(&[LIMIT])
    .ok(schema::<received::ReceivedCommandsAnswer>()),
    Route::new(
        Get,
        "/api/v1/site/connectors",
        Operator(Scope::SiteRead, read!(received::connectors, any operator)),
        "Lists the connectors that this node's owner declared",
    )
    .ok(schema::<received::ConnectorsAnswer>()),
    Route::new(
        Get,
        "/api/v1/site/secret-requests",
        Operator(Scope::SiteRead, read!(received::secret_requests, any operator)),
        "Lists the newest credentials that this site asked for, never their values",
    )
    .query(&[LIMIT])
    .ok(schema::<received::SecretRequests>()),
    Route::new(
        Post,
        "/api/v1/site/secret-requests",
        Operator(Scope::SiteWrite, act!(received::request_secret, as operator)),
        "Asks the coordinator for a short-lived credential for a host",
    )
    .json(schema::<received::SecretRequestBody>())
    .gives(Output::Json(201, schema::<received::SecretRequestRow>())),
    // A site's own hosts (architecture 9).
    Route::new(
        Get,
        "/api/v1/site/hosts",
        Operator(Scope::SiteRead, read!(inventory::list, any operator)),
        "Lists this site's hosts",
    )
    .query(hosts::INVENTORY_QUERY)
    .ok(schema::<inventory::InventoryPage>()),
    Route::new(
        Put,
        "/api/v1/site/hosts",
        Operator(Scope::SiteWrite, act!(inventory::replace, as operator)),
        "Takes a full snapshot of this site's hosts",
    )
    .query(CONFIRM_REMOVALS)
    .takes(Input::Entries(schema::<inventory::InventorySnapshot>()))
    .ok(schema::<inventory::InventoryResult>())
    .upload(inventory_limits::CALL_BYTES_MAX),
    Route::new(
        Patch,
        "/api/v1/site/hosts",
        Operator(Scope::SiteWrite, act!(inventory::change, as operator)),
        "Takes changes of this site's hosts",
    )
    .takes(Input::Entries(schema::<inventory::InventoryDelta>()))
    .ok(schema::<inventory::InventoryResult>())
    .upload(inventory_limits::CALL_BYTES_MAX),
    // Live events (ours).
    Route::new(
        Get,
        "/api/v1/events",
        AnyOperator(hansa_model::event::WATCHING, read!(events::watch, as operator)),
        "Tells what changes on the node, as it happens",
    )
    .query(events::QUERY)
    .gives(Output::Events(schema::<events::EventBody>())),
    // Operators: logins, users, API keys (contract A.4), and what the frontend asks first (contract A.5).
    Route::new(Post, "/api/v1/login", Public(act!(login::login)), "Logs a local user in")
        .json(schema::<login::LoginBody>())
        .ok(schema::<login::LoginAnswer>())
        .small(access_limits::LOGIN_BODY_BYTES_MAX),
    Route::new(
        Post,
        "/api/v1/refresh",
        RefreshCookie(act!(login::refresh, as token)),
        "Gives the next token of a login",
    )
    .takes(Input::OptionalJson(schema::<login::RefreshBody>()))
    .ok(schema::<login::LoginAnswer>())
    .small(access_limits::LOGIN_BODY_BYTES_MAX),
    Route::new(Post, "/api/v1/logout", RefreshCookie(act!(login::logout, as token)), "Ends a login")
        .small(access_limits::LOGIN_BODY_BYTES_MAX),
    Route::new(
        Get,
        "/api/v1/users",
        Operator(Scope::Admin, read!(access::users, as operator)),
        "Lists the local users",
    )
    .query(access::LIST_QUERY)
    .ok(schema::<access::UserPage>()),
    Route::new(
        Post,
        "/api/v1/users",
        Operator(Scope::Admin, act!(access::add_user, as operator)),
        "Makes a local user",
    )
    .json(schema::<access::NewUserBody>())
    .gives(Output::Json(201, schema::<access::UserBody>())),
    Route::new(
        Get,
        "/api/v1/users/{userid}",
        Operator(Scope::Admin, read!(access::user, as operator)),
        "Shows a local user",
    )
    .ok(schema::<access::UserBody>()),
    Route::new(
        Patch,
        "/api/v1/users/{userid}",
        Operator(Scope::Admin, act!(access::patch_user, as operator)),
        "Changes a local user and ends their logins",
    )
    .json(schema::<access::UserPatchBody>())
    .ok(schema::<access::UserBody>()),
    Route::new(
        Delete,
        "/api/v1/users/{userid}",
        Operator(Scope::Admin, act!(access::remove_user, as operator)),
        "Removes a local user and ends their logins",
    ),
    Route::new(
        Get,
        "/api/v1/api-keys",
        Operator(Scope::Admin, read!(access::api_keys, as operator)),
        "Lists the API keys",
    )
    .query(access::LIST_QUERY)
    .ok(schema::<access::ApiKeyPage>()),
    Route::new(
        Post,
        "/api/v1/api-keys",
        Operator(Scope::Admin, act!(access::add_api_key, as operator)),
        "Makes an API key and shows it once",
    )
    .json(schema::<access::NewApiKeyBody>())
    .gives(Output::Json(201, schema::<access::NewApiKeyAnswer>())),
    Route::new(
        Delete,
        "/api/v1/api-keys/{key_id}",
        Operator(Scope::Admin, act!(access::remove_api_key, as operator)),
        "Removes an API key",
    ),
    Route::new(
        Get,
        "/api/v1/server-info",
        Public(read!(server::server_info)),
        "Says what kind of server this is",
    )
    .ok(schema::<server::ServerInfo>()),
    Route::new(
        Get,
        "/api/v1/license",
        AnyOperator(&Scope::ALL, read!(server::license, any operator)),
        "Says which modules there are",
    )
    .ok(schema::<server::License>()),
    // A site's own results and findings (architecture 9).
    Route::new(
        Get,
        "/api/v1/site/compliance",
        Operator(Scope::SiteRead, read!(findings::baselines, any operator)),
        "Lists the baselines that this site holds results of",
    )
    .ok(schema::<findings::Baselines>()),
    Route::new(
        Get,
        "/api/v1/site/compliance/{baseline}",
        Operator(Scope::SiteRead, read!(findings::scans, any operator)),
        "Lists this site's results against a baseline",
    )
    .query(findings::PAGE_QUERY)
    .ok(schema::<findings::ScanPage>()),
    Route::new(
        Put,
        "/api/v1/site/compliance/{baseline}",
        Operator(Scope::SiteWrite, act!(findings::put_scans, as operator)),
        "Takes a full snapshot of this site's results against a baseline",
    )
    .takes(Input::Entries(schema::<findings::ScanSnapshot>()))
    .ok(schema::<findings::ScanResult>())
    .upload(inventory_limits::CALL_BYTES_MAX),
    Route::new(
        Delete,
        "/api/v1/site/compliance/{baseline}",
        Operator(Scope::SiteWrite, act!(findings::remove_scans, as operator)),
        "Removes a baseline with this site's results",
    ),
    Route::new(
        Get,
        "/api/v1/site/vulnerabilities",
        Operator(Scope::SiteRead, read!(findings::findings, any operator)),
        "Lists this site's vulnerabilities",
    )
    .query(findings::PAGE_QUERY)
    .ok(schema::<findings::FindingPage>()),
    Route::new(
        Put,
        "/api/v1/site/vulnerabilities",
        Operator(Scope::SiteWrite, act!(findings::put_findings, as operator)),
        "Takes a full snapshot of this site's vulnerabilities",
    )
    .takes(Input::Entries(schema::<findings::FindingSnapshot>()))
    .ok(schema::<findings::FindingResult>())
    .upload(inventory_limits::CALL_BYTES_MAX),
    // Operations.
    Route::new(
        Post,
        "/api/v1/backup",
        Operator(Scope::Admin, act!(operations::backup, as operator)),
        "Copies the node's store while it runs",
    )
    .gives(Output::Json(201, schema::<operations::Backup>())),
    Route::new(Get, "/livez", Public(read!(operations::livez)), "Says that the process answers")
        .ok(schema::<operations::Liveness>()),
    Route::new(Get, "/readyz", Public(read!(operations::readyz)), "Says whether the node can do its work")
        .query(VERBOSE)
        .ok(schema::<operations::ReadinessAnswer>()),
    Route::new(
        Get,
        "/metrics",
        Operator(Scope::Admin, read!(operations::metrics, any operator)),
        "Counts, in OpenMetrics",
    )
    .gives(Output::Text("application/openmetrics-text")),
    Route::new(Get, "/version", Public(read!(operations::version)), "Names the software")
        .ok(schema::<operations::Version>()),
    Route::new(Get, "/openapi.json", Public(read!(operations::specification)), "This specification")
        .gives(Output::Text("application/json")),
];

/// Every route that a node serves, with who may call it.
pub fn table() -> &'static [RouteInfo] {
    static TABLE: LazyLock<Vec<RouteInfo>> = LazyLock::new(|| ROUTES.iter().map(Route::info).collect());
    &TABLE
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;

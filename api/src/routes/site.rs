//! What operators of a site call, and what its coordinator pushes to it.

use hansa_model::limits::inventory as inventory_limits;
use hansa_model::scope::Scope;

use super::parameters::{CONFIRM_REMOVALS, LIMIT};
use crate::route::Access::{CoordinatorBearer, Operator};
use crate::route::Method::{Delete, Get, Patch, Post, Put};
use crate::route::{Input, Output, Route, schema};
use crate::v1::{audit, findings, hosts, inventory, membership, received};

pub(super) static ROUTES: &[Route] = &[
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
    Route::new(
        Put,
        "/api/v1/site/coordinator",
        Operator(Scope::SiteWrite, act!(membership::relocate, as operator)),
        "Dials the coordinator at another address: it has moved, with its identity key",
    )
    .json(schema::<membership::CoordinatorAddressBody>())
    .ok(schema::<membership::MembershipAnswer>()),
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
];

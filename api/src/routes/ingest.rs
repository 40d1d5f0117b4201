//! What sites push to their coordinator over HTTP (contract B6), and what they ask of it.

use hansa_model::limits::{command as command_limits, http};

use super::parameters::LIMIT;
use crate::route::Access::SiteBearer;
use crate::route::Method::{Get, Post};
use crate::route::{Route, schema};
use crate::v1::{audit, commands, ingest, leases, policies, rollups, sites};

pub(super) static ROUTES: &[Route] = &[
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
    // Ours: what a peer of our make is sent over its link.
    Route::new(
        Get,
        "/api/v1/federation/sites/{site_id}/audit-checkpoints",
        SiteBearer(read!(audit::checkpoints, any site)),
        "Lists the checkpoints of the coordinator's audit log, for a site that keeps them; newest first",
    )
    .query(&[LIMIT])
    .ok(schema::<audit::CheckpointsAnswer>()),
];

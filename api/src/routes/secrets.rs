//! The secret federation API: backends, secrets, policies, tenants, and what was done with them.
//!
//! Each route of `/v1/` is also served under `/v1/t/{tenant_id}/` (contract A.4).

use hansa_model::machine::bucket::Category;
use hansa_model::scope::Scope;

use crate::route::Access::Operator;
use crate::route::Method::{Delete, Get, Patch, Post, Put};
use crate::route::{Input, Output, Route, schema};
use crate::secrets::{LIST_QUERY, audit_logs, backends, policies, tenants, values};

pub(super) static ROUTES: &[Route] = &[
    // Backends (contract B).
    Route::new(
        Get,
        "/v1/federation/backends",
        Operator(Scope::FederationRead, act!(backends::list, as operator)),
        "Lists the tenant's secret backends",
    )
    .limited(Category::FederationOperations)
    .query(LIST_QUERY)
    .ok(schema::<backends::BackendPage>()),
    Route::new(
        Post,
        "/v1/federation/backends",
        Operator(Scope::FederationWrite, act!(backends::create, as operator)),
        "Makes a secret backend",
    )
    .limited(Category::FederationOperations)
    .query(backends::CREATE_QUERY)
    .json(schema::<backends::NewBody>())
    .gives(Output::Json(201, schema::<backends::BackendBody>()))
    .or(200, schema::<backends::BackendBody>()),
    Route::new(
        Get,
        "/v1/federation/backends/{backend_id}",
        Operator(Scope::FederationRead, act!(backends::show, as operator)),
        "Shows a secret backend",
    )
    .limited(Category::FederationOperations)
    .ok(schema::<backends::BackendBody>()),
    Route::new(
        Patch,
        "/v1/federation/backends/{backend_id}",
        Operator(Scope::FederationWrite, act!(backends::patch, as operator)),
        "Changes a secret backend",
    )
    .limited(Category::FederationOperations)
    .json(schema::<backends::PatchBody>())
    .ok(schema::<backends::BackendBody>()),
    Route::new(
        Delete,
        "/v1/federation/backends/{backend_id}",
        Operator(Scope::FederationWrite, act!(backends::remove, as operator)),
        "Removes a secret backend and its copies",
    )
    .limited(Category::FederationOperations)
    .query(backends::DELETE_QUERY),
    Route::new(
        Get,
        "/v1/federation/backends/{backend_id}/status",
        Operator(Scope::FederationRead, act!(backends::status, as operator)),
        "Shows how a secret backend does",
    )
    .limited(Category::FederationOperations)
    .ok(schema::<backends::StatusBody>()),
    Route::new(
        Post,
        "/v1/federation/backends/{backend_id}/sync",
        Operator(Scope::FederationWrite, act!(backends::sync, as operator)),
        "Starts a sync, or joins the running one",
    )
    .limited(Category::FederationOperations)
    .takes(Input::OptionalJson(schema::<backends::SyncBody>()))
    .gives(Output::Json(202, schema::<backends::StartedBody>())),
    Route::new(
        Get,
        "/v1/federation/backends/{backend_id}/conflicts",
        Operator(Scope::FederationRead, act!(backends::conflicts, as operator)),
        "Lists the conflicts of a backend's copies",
    )
    .limited(Category::FederationOperations)
    .query(LIST_QUERY)
    .ok(schema::<backends::ConflictPage>()),
    Route::new(
        Post,
        "/v1/federation/backends/{backend_id}/conflicts/{conflict_id}/resolve",
        Operator(Scope::FederationWrite, act!(backends::resolve, as operator)),
        "Ends a conflict",
    )
    .limited(Category::FederationOperations)
    .json(schema::<backends::ResolveBody>()),
    Route::new(
        Get,
        "/v1/federation/explain/{*path}",
        Operator(Scope::FederationRead, act!(backends::explain, as operator)),
        "Shows which mappings a path meets, and what becomes of it",
    )
    .limited(Category::FederationOperations)
    .ok(schema::<backends::ExplanationBody>()),
    // Secrets (contract C).
    Route::new(
        Get,
        "/v1/secrets",
        Operator(Scope::SecretsList, act!(values::list, as operator)),
        "Lists secrets below a prefix, without values",
    )
    .limited(Category::ListSecrets)
    .query(values::LIST_QUERY)
    .ok(schema::<values::PageBody>()),
    Route::new(
        Post,
        "/v1/secrets/batch",
        Operator(Scope::SecretsRead, act!(values::batch, as operator)),
        "Reads several secrets",
    )
    .limited(Category::BatchRead)
    .json(schema::<values::BatchBody>())
    .ok(schema::<values::BatchAnswer>()),
    Route::new(
        Post,
        "/v1/secrets/batch/metadata",
        Operator(Scope::SecretsList, act!(values::batch_metadata, as operator)),
        "Shows several secrets without values",
    )
    .limited(Category::BatchMetadata)
    .json(schema::<values::MetadataBatchBody>())
    .ok(schema::<values::MetadataBatchAnswer>()),
    Route::new(
        Get,
        "/v1/secrets/{*path}",
        Operator(Scope::SecretsRead, act!(values::read, as operator)),
        "Reads a secret",
    )
    .limited(Category::ReadSecrets)
    .query(values::READ_QUERY)
    .ok(schema::<values::SecretBody>()),
    Route::new(
        Put,
        "/v1/secrets/{*path}",
        Operator(Scope::SecretsWrite, act!(values::write, as operator)),
        "Stores a new version of a secret",
    )
    .limited(Category::WriteSecrets)
    .json(schema::<values::NewBody>())
    .ok(schema::<values::SummaryBody>()),
    Route::new(
        Delete,
        "/v1/secrets/{*path}",
        Operator(Scope::SecretsDelete, act!(values::delete, as operator)),
        "Deletes a secret",
    )
    .limited(Category::DeleteSecrets)
    .query(values::DELETE_QUERY),
    Route::new(
        Get,
        "/v1/secret-versions/{*path}",
        Operator(Scope::SecretsList, act!(values::versions, as operator)),
        "Lists the versions of a secret",
    )
    .limited(Category::ListSecrets)
    .ok(schema::<values::VersionsBody>()),
    // Policies on paths (contract A.3).
    Route::new(
        Get,
        "/v1/policies",
        Operator(Scope::PoliciesRead, act!(policies::list, as operator)),
        "Lists the tenant's policies on paths",
    )
    .query(LIST_QUERY)
    .ok(schema::<policies::PathPolicyPage>()),
    Route::new(
        Post,
        "/v1/policies",
        Operator(Scope::PoliciesWrite, act!(policies::create, as operator)),
        "Makes a policy on paths",
    )
    .json(schema::<policies::NewBody>())
    .gives(Output::Json(201, schema::<policies::PolicyBody>())),
    Route::new(
        Get,
        "/v1/policies/{path_policy_id}",
        Operator(Scope::PoliciesRead, act!(policies::show, as operator)),
        "Shows a policy on paths",
    )
    .ok(schema::<policies::PolicyBody>()),
    Route::new(
        Patch,
        "/v1/policies/{path_policy_id}",
        Operator(Scope::PoliciesWrite, act!(policies::patch, as operator)),
        "Changes a policy on paths",
    )
    .json(schema::<policies::PatchBody>())
    .ok(schema::<policies::PolicyBody>()),
    Route::new(
        Delete,
        "/v1/policies/{path_policy_id}",
        Operator(Scope::PoliciesWrite, act!(policies::remove, as operator)),
        "Removes a policy on paths",
    ),
    // Tenants (contract A.4).
    Route::new(
        Get,
        "/v1/tenants",
        Operator(Scope::FederationRead, read!(tenants::list, as operator)),
        "Lists the tenants that the caller may act for",
    )
    .query(LIST_QUERY)
    .ok(schema::<tenants::TenantPage>()),
    Route::new(
        Post,
        "/v1/tenants",
        Operator(Scope::Admin, act!(tenants::create, as operator)),
        "Makes a tenant",
    )
    .json(schema::<tenants::NewBody>())
    .gives(Output::Json(201, schema::<tenants::TenantBody>())),
    Route::new(
        Delete,
        "/v1/tenants/{tenant}",
        Operator(Scope::Admin, act!(tenants::remove, as operator)),
        "Removes a tenant that has nothing",
    ),
    // What was done (contract C.4).
    Route::new(
        Get,
        "/v1/audit/logs",
        Operator(Scope::AuditRead, act!(audit_logs::list, as operator)),
        "Shows what was done with the tenant's secrets",
    )
    .limited(Category::AuditQueries)
    .query(audit_logs::QUERY)
    .ok(schema::<audit_logs::LogPage>()),
];

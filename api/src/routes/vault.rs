//! The Vault-speaking surface, and the AppRoles that log in to it.

use hansa_model::limits::access::LOGIN_BODY_BYTES_MAX;
use hansa_model::machine::bucket::Category;
use hansa_model::scope::Scope;

use crate::route::Access::{AnyOperator, Operator, Public};
use crate::route::Method::{Delete, Get, Post, Put};
use crate::route::{Input, Output, Route, schema};
use crate::secrets::app_roles;
use crate::vault;

const SEES_SECRETS: &[Scope] =
    &[Scope::SecretsRead, Scope::SecretsList, Scope::SecretsWrite, Scope::SecretsDelete];

pub(super) static ROUTES: &[Route] = &[
    Route::new(
        Get,
        "/v1/approles",
        Operator(Scope::PoliciesRead, act!(app_roles::list, as operator)),
        "Lists the tenant's AppRoles",
    )
    .ok(schema::<app_roles::AppRoleList>()),
    Route::new(
        Post,
        "/v1/approles",
        Operator(Scope::PoliciesWrite, act!(app_roles::create, as operator)),
        "Makes an AppRole",
    )
    .json(schema::<app_roles::NewBody>())
    .gives(Output::Json(201, schema::<app_roles::AppRoleBody>())),
    Route::new(
        Delete,
        "/v1/approles/{name}",
        Operator(Scope::PoliciesWrite, act!(app_roles::remove, as operator)),
        "Removes an AppRole: its tokens end",
    ),
    Route::new(
        Get,
        "/v1/approles/{name}/secret-id",
        Operator(Scope::PoliciesRead, act!(app_roles::list_secret_ids, as operator)),
        "Lists an AppRole's secret ids by their accessors",
    )
    .ok(schema::<app_roles::SecretIdList>()),
    Route::new(
        Delete,
        "/v1/approles/{name}/secret-id/{accessor}",
        Operator(Scope::PoliciesWrite, act!(app_roles::remove_secret_id, as operator)),
        "Destroys a secret id: nobody logs in with it from then on",
    ),
    Route::new(
        Post,
        "/v1/approles/{name}/secret-id",
        Operator(Scope::PoliciesWrite, act!(app_roles::add_secret_id, as operator)),
        "Makes a secret id of an AppRole; it is shown once",
    )
    .takes(Input::OptionalJson(schema::<app_roles::SecretIdRequest>()))
    .gives(Output::Json(201, schema::<app_roles::SecretId>())),
    Route::new(
        Get,
        "/vault/v1/sys/health",
        Public(read!(vault::health)),
        "Says that this node serves, as Vault does",
    )
    .ok(schema::<vault::Health>()),
    Route::new(
        Get,
        "/vault/v1/sys/init",
        Public(read!(vault::init)),
        "Says that this node is set up, as Vault does",
    )
    .ok(schema::<vault::Init>()),
    Route::new(
        Get,
        "/vault/v1/sys/seal-status",
        Public(read!(vault::seal_status)),
        "Says that this node is not sealed, as Vault does",
    )
    .ok(schema::<vault::SealStatus>()),
    Route::new(
        Get,
        "/vault/v1/sys/internal/ui/mounts",
        AnyOperator(SEES_SECRETS, read!(vault::mounts, as operator)),
        "Lists the one mount, as Vault does",
    )
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Get,
        "/vault/v1/sys/internal/ui/mounts/{*mounted_path}",
        AnyOperator(SEES_SECRETS, read!(vault::mount, as operator)),
        "Shows which mount a path lies in, as Vault does",
    )
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Get,
        "/vault/v1/auth/token/lookup-self",
        AnyOperator(SEES_SECRETS, read!(vault::lookup_self, as operator)),
        "Shows the caller's token, as Vault does",
    )
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Post,
        "/vault/v1/auth/token/renew-self",
        AnyOperator(SEES_SECRETS, act!(vault::renew_self, as operator)),
        "Gives the caller's token more time, as Vault does",
    )
    .takes(Input::OptionalJson(schema::<vault::RenewalBody>()))
    .small(LOGIN_BODY_BYTES_MAX)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Post,
        "/vault/v1/auth/token/revoke-self",
        AnyOperator(SEES_SECRETS, act!(vault::revoke_self, as operator)),
        "Ends the caller's token, as Vault does",
    ),
    Route::new(
        Put,
        "/vault/v1/auth/token/renew-self",
        AnyOperator(SEES_SECRETS, act!(vault::renew_self, as operator)),
        "Gives the caller's token more time, as Vault does",
    )
    .takes(Input::OptionalJson(schema::<vault::RenewalBody>()))
    .small(LOGIN_BODY_BYTES_MAX)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Put,
        "/vault/v1/auth/token/revoke-self",
        AnyOperator(SEES_SECRETS, act!(vault::revoke_self, as operator)),
        "Ends the caller's token, as Vault does",
    ),
    Route::new(
        Post,
        "/vault/v1/auth/approle/login",
        Public(act!(vault::approle_login)),
        "Logs an AppRole in, as Vault does",
    )
    .json(schema::<vault::AppRoleBody>())
    .small(LOGIN_BODY_BYTES_MAX)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Put,
        "/vault/v1/auth/approle/login",
        Public(act!(vault::approle_login)),
        "Logs an AppRole in, as Vault does",
    )
    .json(schema::<vault::AppRoleBody>())
    .small(LOGIN_BODY_BYTES_MAX)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Post,
        "/vault/v1/auth/jwt/login",
        Public(act!(vault::jwt_login)),
        "Takes a token of this node or of a configured issuer, as Vault does",
    )
    .json(schema::<vault::JwtBody>())
    .small(LOGIN_BODY_BYTES_MAX)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Get,
        "/vault/v1/secret/data/{*path}",
        Operator(Scope::SecretsRead, act!(vault::read, as operator)),
        "Reads a secret, as Vault's KV version 2 does",
    )
    .limited(Category::ReadSecrets)
    .query(vault::READ_QUERY)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Post,
        "/vault/v1/secret/data/{*path}",
        Operator(Scope::SecretsWrite, act!(vault::write, as operator)),
        "Stores a new version of a secret, as Vault's KV version 2 does",
    )
    .limited(Category::WriteSecrets)
    .json(schema::<vault::WriteBody>())
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Put,
        "/vault/v1/secret/data/{*path}",
        Operator(Scope::SecretsWrite, act!(vault::write, as operator)),
        "Stores a new version of a secret, as Vault's KV version 2 does",
    )
    .limited(Category::WriteSecrets)
    .json(schema::<vault::WriteBody>())
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Delete,
        "/vault/v1/secret/data/{*path}",
        Operator(Scope::SecretsDelete, act!(vault::delete, as operator)),
        "Deletes a secret, as Vault's KV version 2 does",
    )
    .limited(Category::DeleteSecrets),
    Route::new(
        Get,
        "/vault/v1/secret/metadata",
        Operator(Scope::SecretsList, act!(vault::list_top, as operator)),
        "Lists the top folder, as Vault's KV version 2 does",
    )
    .limited(Category::ListSecrets)
    .ok(schema::<vault::Envelope>()),
    Route::new(
        Get,
        "/vault/v1/secret/metadata/{*path}",
        Operator(Scope::SecretsList, act!(vault::metadata, as operator)),
        "Shows a secret's versions or lists a folder, as Vault's KV version 2 does",
    )
    .limited(Category::ListSecrets)
    .query(vault::METADATA_QUERY)
    .ok(schema::<vault::Envelope>()),
];

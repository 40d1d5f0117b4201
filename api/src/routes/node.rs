//! What every node answers, whatever its role: identity, live events, operators, operations.

use hansa_model::limits::access as access_limits;
use hansa_model::scope::Scope;

use super::parameters::VERBOSE;
use crate::route::Access::{AnyOperator, Operator, Public, RefreshCookie};
use crate::route::Method::{Delete, Get, Patch, Post, Put};
use crate::route::{Input, Output, Route, schema};
use crate::v1::{access, events, identity, login, operations, root_key, server};

pub(super) static ROUTES: &[Route] = &[
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
    // Operations.
    Route::new(
        Post,
        "/api/v1/backup",
        Operator(Scope::Admin, act!(operations::backup, as operator)),
        "Copies the node's store while it runs",
    )
    .gives(Output::Json(201, schema::<operations::Backup>())),
    Route::new(
        Get,
        "/api/v1/root-key",
        Operator(Scope::Admin, read!(root_key::show, any operator)),
        "Says how the root key is kept, and how far its rotation is",
    )
    .ok(schema::<root_key::RootKeyBody>()),
    Route::new(
        Post,
        "/api/v1/root-key/rotate",
        Operator(Scope::Admin, act!(root_key::rotate, as operator)),
        "Rotates the root key while the node runs",
    )
    .takes(Input::OptionalJson(schema::<root_key::RotateBody>()))
    .gives(Output::Json(202, schema::<root_key::RootKeyBody>()))
    .small(access_limits::LOGIN_BODY_BYTES_MAX),
    Route::new(Get, "/livez", Public(read!(operations::livez)), "Says that the process answers")
        .ok(schema::<operations::Liveness>()),
    Route::new(Get, "/readyz", Public(read!(operations::readyz)), "Says whether the node can do its work")
        .query(VERBOSE)
        .ok(schema::<operations::ReadinessAnswer>())
        .or(503, schema::<operations::ReadinessAnswer>()),
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

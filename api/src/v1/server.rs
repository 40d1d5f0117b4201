//! What the frontend asks before it shows anything (contract A.5). Both roles are built in, nothing is sold
//! apart: every engine is there in every role.

use hansa_actors::Federation;
use hansa_model::enrollment::Role;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::problem::Problem;
use crate::request::Request;

const CONTROLLER: &str = "federation_controller_engine";
const SITE: &str = "federation_site_engine";

/// What kind of server this is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerInfo {
    /// Always `server`.
    role: &'static str,
    version: &'static str,
    license_tier: &'static str,
    loaded_engines: [&'static str; 2],
    /// No engine is expected of a plain server.
    expected_engine_for_role: Option<&'static str>,
    role_engine_loaded: bool,
    /// `none`, `coordinator` or `site`.
    federation_role: &'static str,
    /// The engine of the role; null without one.
    expected_federation_engine_for_role: Option<&'static str>,
    /// Always true: both engines are built in.
    federation_engine_loaded: bool,
}

/// Which modules there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct License {
    licensed: bool,
    license_tier: &'static str,
    modules: [&'static str; 2],
}

const TIER: &str = "enterprise";

pub(crate) fn server_info(request: &Request) -> Result<Answer, Problem> {
    let role = request.federation.role();
    let expected = match role {
        Role::None => None,
        Role::Coordinator => Some(CONTROLLER),
        Role::Site => Some(SITE),
    };
    Answer::ok(&ServerInfo {
        role: "server",
        version: Federation::version(),
        license_tier: TIER,
        loaded_engines: [CONTROLLER, SITE],
        expected_engine_for_role: None,
        role_engine_loaded: true,
        federation_role: role.as_str(),
        expected_federation_engine_for_role: expected,
        federation_engine_loaded: true,
    })
}

pub(crate) fn license(_request: &Request) -> Result<Answer, Problem> {
    Answer::ok(&License { licensed: true, license_tier: TIER, modules: [CONTROLLER, SITE] })
}

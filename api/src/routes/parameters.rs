//! Query parameters that the table documents, where their noun has no list of its own.

use crate::route::{Parameter, ParameterKind};

pub(super) const LIMIT: Parameter =
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "rows of the answer at most" };

pub(super) const SITES_QUERY: &[Parameter] = &[
    Parameter { name: "status", kind: ParameterKind::Text, description: "exactly this status" },
    Parameter { name: "include_removed", kind: ParameterKind::Boolean, description: "removed sites too" },
    LIMIT,
];

pub(super) const LEASES_QUERY: &[Parameter] = &[
    Parameter { name: "site_id", kind: ParameterKind::Text, description: "leases of this site alone" },
    Parameter { name: "status", kind: ParameterKind::Text, description: "exactly this status" },
    LIMIT,
];

pub(super) const CONFIRM_REMOVALS: &[Parameter] = &[Parameter {
    name: "confirm_removals",
    kind: ParameterKind::Boolean,
    description: "remove the hosts that the snapshot leaves out, however many",
}];

pub(super) const POLICIES_QUERY: &[Parameter] = &[
    Parameter { name: "policy_type", kind: ParameterKind::Text, description: "exactly this type" },
    Parameter {
        name: "active_only",
        kind: ParameterKind::Boolean,
        description: "leave deactivated policies out; true unless said otherwise",
    },
];

pub(super) const HOLD: &[Parameter] = &[Parameter {
    name: "hold",
    kind: ParameterKind::Boolean,
    description: "keep it back from the sites until a push",
}];

pub(super) const VERBOSE: &[Parameter] = &[Parameter {
    name: "verbose",
    kind: ParameterKind::Text,
    description: "name each check; `false` is not",
}];

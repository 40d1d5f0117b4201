//! The OpenAPI document, assembled from the table of routes and the schemas of their bodies.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter as PathParameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, Content, Header, HeaderBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder,
    PathsBuilder, Ref, RefOr, Required, Schema,
};

use crate::problem::ProblemBody;
use crate::route::{Input, Method, Output, Parameter, ParameterKind, Principal, Route, SchemaOf, schema};
use crate::routes::routes;
use crate::v1::login::REFRESH_COOKIE;
use crate::voice::{SecretsRefusal, VaultRefusal, Voice};

const OPERATOR: &str = "operator";
const SITE: &str = "site";
const REFRESH: &str = "refresh_cookie";
const COORDINATOR: &str = "coordinator_bearer";

/// The name of the answer that every refusal is.
const REFUSAL: &str = "Refusal";
/// The same of `/v1`, and of `/vault`.
const SECRETS_REFUSAL: &str = "SecretsRefusal";
const VAULT_REFUSAL: &str = "VaultRefusal";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// The specification of the whole surface as JSON text; the same for every node.
pub fn open_api() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = document().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

fn document() -> OpenApi {
    let paths = routes().fold(PathsBuilder::new(), |paths, route| {
        let item = utoipa::openapi::PathItem::new(http_method(route.method), operation(route));
        paths.path(route.path.replace("{*", "{"), item)
    });
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("hansa").version("v1").description(Some(
            "Federation of autonomous servers: sites, hosts, and what a node says of itself.",
        )))
        .paths(paths)
        .components(Some(components()))
        .build()
}

fn components() -> utoipa::openapi::Components {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    (schema::<ProblemBody<'static>>().collect)(&mut schemas);
    (schema::<SecretsRefusal>().collect)(&mut schemas);
    (schema::<VaultRefusal>().collect)(&mut schemas);
    for route in routes() {
        if let Input::Json(schema) | Input::OptionalJson(schema) | Input::Entries(schema) = route.input {
            (schema.collect)(&mut schemas);
        }
        if let Output::Json(_, schema) | Output::Events(schema) = route.output {
            (schema.collect)(&mut schemas);
        }
    }
    let schemas: BTreeMap<String, RefOr<Schema>> = schemas.into_iter().collect();
    let bearer = |description: &str| {
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build(),
        )
    };
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .response(REFUSAL, refusal(PROBLEM, schema::<ProblemBody<'static>>()))
        .response(SECRETS_REFUSAL, refusal(JSON, schema::<SecretsRefusal>()))
        .response(VAULT_REFUSAL, refusal(JSON, schema::<VaultRefusal>()))
        .security_scheme(OPERATOR, bearer(
            "An operator's token (of a login, of `hansa token mint`, of a configured issuer) or API key (`smk_…`), \
             with the scope that the route names.",
        ))
        .security_scheme(
            COORDINATOR,
            bearer("The bearer that a coordinator got when it completed this site's enrollment."),
        )
        .security_scheme(
            REFRESH,
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                REFRESH_COOKIE,
                "The refresh token that a login set; HttpOnly, SameSite=Strict.",
            ))),
        )
        .security_scheme(SITE, bearer("The bearer that a site got when its enrollment completed."))
        .build()
}

fn operation(route: &Route) -> Operation {
    let operation = OperationBuilder::new()
        .operation_id(Some(operation_id(route)))
        .summary(Some(route.summary))
        .request_body(request_body(route.input))
        .response(status(route.output).to_string(), done(route))
        .response("4XX", Ref::from_response_name(refusal_name(route)))
        .response("5XX", Ref::from_response_name(refusal_name(route)));
    let operation = match route.also {
        Some((status, schema)) => operation.response(status.to_string(), either(schema)),
        None => operation,
    };
    let operation = path_parameters(route.path).fold(operation, OperationBuilder::parameter);
    let operation = route.query.iter().map(query_parameter).fold(operation, OperationBuilder::parameter);
    let none: [&str; 0] = [];
    let operation = match route.access.principal() {
        Principal::Public | Principal::TokenInPath => operation,
        Principal::RefreshCookie => operation.security(SecurityRequirement::new(REFRESH, none)),
        Principal::Operator(scope) => {
            operation.security(SecurityRequirement::new(OPERATOR, [scope.as_str()]))
        }
        Principal::AnyOperator(scopes) => scopes.iter().fold(operation, |operation, scope| {
            operation.security(SecurityRequirement::new(OPERATOR, [scope.as_str()]))
        }),
        Principal::CoordinatorBearer => operation.security(SecurityRequirement::new(COORDINATOR, none)),
        Principal::SiteBearer => operation.security(SecurityRequirement::new(SITE, none)),
    };
    operation.build()
}

/// The path and method in words: `get_federation_sites_site_id`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1").replace(['/', '-', '.', '{', '}', '*'], "_");
    let words: Vec<&str> = path.split('_').filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn http_method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Patch => HttpMethod::Patch,
        Method::Delete => HttpMethod::Delete,
    }
}

fn path_parameters(path: &'static str) -> impl Iterator<Item = PathParameter> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .map(|name| {
            let prefixed = ["backend_id", "conflict_id", "path_policy_id"].contains(&name);
            let uuid =
                (name.ends_with("_id") && !prefixed).then_some(SchemaFormat::KnownFormat(KnownFormat::Uuid));
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).format(uuid)))
                .build()
        })
}

fn query_parameter(parameter: &Parameter) -> PathParameter {
    let typed = |kind| ObjectBuilder::new().schema_type(kind);
    let schema: Schema = match parameter.kind {
        ParameterKind::Text => typed(Type::String).into(),
        ParameterKind::Integer => typed(Type::Integer).into(),
        ParameterKind::Boolean => typed(Type::Boolean).into(),
        // Empty is none: forms send all their fields.
        ParameterKind::Instant => AnyOfBuilder::new()
            .item(typed(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
            .item(typed(Type::String).max_length(Some(0)))
            .into(),
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(parameter.description))
        .schema(Some(schema))
        .build()
}

fn reference(schema: SchemaOf) -> Content {
    Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name((schema.name)()))))
}

fn request_body(input: Input) -> Option<RequestBody> {
    let (schema, required) = match input {
        Input::None => return None,
        Input::OptionalJson(schema) => (schema, Required::False),
        Input::Json(schema) | Input::Entries(schema) => (schema, Required::True),
    };
    let body = RequestBodyBuilder::new().content(JSON, reference(schema)).required(Some(required));
    let text = ObjectBuilder::new().schema_type(Type::String);
    Some(match input {
        Input::Entries(_) => body.content("application/x-ndjson", Content::new(Some(text))).build(),
        Input::None | Input::OptionalJson(_) | Input::Json(_) => body.build(),
    })
}

fn status(output: Output) -> u16 {
    match output {
        Output::Json(status, _) => status,
        Output::Nothing => 204,
        Output::Text(_) | Output::Events(_) => 200,
    }
}

fn response(output: Output) -> Response {
    match output {
        Output::Json(_, schema) => {
            ResponseBuilder::new().description("done").content(JSON, reference(schema)).build()
        }
        Output::Nothing => ResponseBuilder::new().description("done").build(),
        Output::Events(schema) => ResponseBuilder::new()
            .description(format!(
                "events as they happen; `data` of each, or each line, is an `{}`",
                (schema.name)()
            ))
            .content("text/event-stream", Content::new(Some(server_sent_event())))
            .content("application/x-ndjson", reference(schema))
            .build(),
        Output::Text(content_type) => {
            let body = if content_type == JSON { Type::Object } else { Type::String };
            let body = ObjectBuilder::new().schema_type(body);
            ResponseBuilder::new().description("done").content(content_type, Content::new(Some(body))).build()
        }
    }
}

/// The answer of a route that did what it was asked for.
fn done(route: &Route) -> Response {
    let mut response = response(route.output);
    if route.category.is_some() {
        response.headers.extend(rate_fields().map(|(name, header)| (name, header.into())));
    }
    response
}

/// The fields that tell a caller of a limited route what is left.
fn rate_fields() -> [(String, Header); 2] {
    [
        ("RateLimit-Policy", "calls (`q`) that the caller has in a window of `w` seconds, by kind of call"),
        ("RateLimit", "calls that are left (`r`), and seconds until there are as many as at first (`t`)"),
    ]
    .map(|(name, description)| {
        let text = Header::new(ObjectBuilder::new().schema_type(Type::String));
        (name.to_owned(), HeaderBuilder::from(text).description(Some(description)).build())
    })
}

/// What the fields of a server-sent event hold.
fn server_sent_event() -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .property("id", text())
        .property("event", text())
        .property("data", text().content_media_type(JSON))
        .required("data")
}

/// Which of the refusals a route gives.
fn refusal_name(route: &Route) -> &'static str {
    match Voice::of(route.path) {
        Voice::Sites => REFUSAL,
        Voice::Secrets => SECRETS_REFUSAL,
        Voice::Vault => VAULT_REFUSAL,
    }
}

fn refusal(content_type: &str, body: SchemaOf) -> Response {
    let text = || Header::new(ObjectBuilder::new().schema_type(Type::String));
    let whole = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let header = |header: Header, description: &str| {
        HeaderBuilder::from(header).description(Some(description)).build()
    };
    let refused = ResponseBuilder::new()
        .description("refused: `detail` says what to do, `code` is stable")
        .content(content_type, reference(body))
        .header("X-Request-Id", header(text(), "stands in the node's log beside the reason"))
        .header("Allow", header(text(), "the methods of the path, with 405"))
        .header("Retry-After", header(Header::new(whole), "seconds, where waiting helps"));
    let limited = rate_fields();
    limited.into_iter().fold(refused, |refused, (name, header)| refused.header(name, header)).build()
}

/// An answer that says what a route says with another status, or a refusal.
fn either(body: SchemaOf) -> Response {
    ResponseBuilder::new()
        .description("not now: the same as with 200, or refused")
        .content(JSON, reference(body))
        .content(PROBLEM, reference(schema::<ProblemBody<'static>>()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn committed_specification_is_the_code_s() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/v1.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, open_api()).unwrap();
        }

        let committed = std::fs::read_to_string(&path).unwrap();

        assert!(committed == open_api(), "run UPDATE=1 cargo test -p hansa-api, and look at the diff");
    }

    #[test]
    fn every_reference_has_its_schema() {
        let document: serde_json::Value = serde_json::from_str(open_api()).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();

        for reference in open_api().split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn every_route_is_described() {
        let document: serde_json::Value = serde_json::from_str(open_api()).unwrap();

        for route in routes() {
            let method = route.method.as_str().to_ascii_lowercase();
            let path = route.path.replace("{*", "{");
            assert!(document["paths"][path][method].is_object(), "{route:?}");
        }
    }
}

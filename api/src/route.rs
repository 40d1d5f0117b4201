//! What a route is: method, path, who may call it, what it takes, and the handler that answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http;
use hansa_model::limits::http as limits;
use hansa_model::machine::bucket::Category;
use hansa_model::scope::{Operator, Scope};
use hansa_model::{Secret, SiteId};
use utoipa::openapi::{RefOr, Schema};

use crate::answer::Answer;
use crate::problem::Problem;
use crate::request::Request;

/// The method of a route. `HEAD` is answered where `GET` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are HTTP's own")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The route method that answers a request's method.
    pub(crate) fn of(method: &http::Method) -> Option<Self> {
        match *method {
            http::Method::GET | http::Method::HEAD => Some(Self::Get),
            http::Method::POST => Some(Self::Post),
            http::Method::PUT => Some(Self::Put),
            http::Method::PATCH => Some(Self::Patch),
            http::Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// Anybody.
    Public,
    /// An operator whose token has this scope.
    Operator(Scope),
    /// An operator whose token has one of these scopes; what they are shown depends on which.
    AnyOperator(&'static [Scope]),
    /// Whoever holds the one-time token in the path.
    TokenInPath,
    /// Whoever holds the refresh token of a login, in its cookie.
    RefreshCookie,
    /// This site's coordinator, by the bearer that it presents.
    CoordinatorBearer,
    /// The enrolled site whose bearer is sent and whose id stands in the path.
    SiteBearer,
}

/// One line of the route table, for tests and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// See [`Method`].
    pub method: Method,
    /// The path's template: names in braces stand for one segment.
    pub path: &'static str,
    /// See [`Principal`].
    pub principal: Principal,
}

/// A handler's answer on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// Who may call a route, together with the handler for just that principal: a handler that needs an
/// operator or a site cannot be mounted without the check that yields one.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Public(fn(Request) -> Answering),
    Operator(Scope, fn(Request, Arc<Operator>) -> Answering),
    AnyOperator(&'static [Scope], fn(Request, Arc<Operator>) -> Answering),
    TokenInPath(fn(Request) -> Answering),
    RefreshCookie(fn(Request, Secret<String>) -> Answering),
    CoordinatorBearer(fn(Request) -> Answering),
    SiteBearer(fn(Request, SiteId) -> Answering),
}

impl Access {
    /// Who may call.
    pub(crate) const fn principal(&self) -> Principal {
        match self {
            Self::Public(_) => Principal::Public,
            Self::Operator(scope, _) => Principal::Operator(*scope),
            Self::AnyOperator(scopes, _) => Principal::AnyOperator(scopes),
            Self::TokenInPath(_) => Principal::TokenInPath,
            Self::RefreshCookie(_) => Principal::RefreshCookie,
            Self::CoordinatorBearer(_) => Principal::CoordinatorBearer,
            Self::SiteBearer(_) => Principal::SiteBearer,
        }
    }
}

/// A type's schema: its name, and how to collect it with all that it refers to.
#[derive(Clone, Copy)]
pub(crate) struct SchemaOf {
    pub(crate) name: fn() -> std::borrow::Cow<'static, str>,
    pub(crate) collect: fn(&mut Vec<(String, RefOr<Schema>)>),
}

/// The schema of `T`, for the table.
pub(crate) const fn schema<T: utoipa::ToSchema>() -> SchemaOf {
    SchemaOf {
        name: T::name,
        collect: |schemas| {
            schemas.push((T::name().into_owned(), T::schema()));
            T::schemas(schemas);
        },
    }
}

/// A query parameter, for the documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: ParameterKind,
    pub(crate) description: &'static str,
}

/// The form of a query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    Text,
    Integer,
    Boolean,
    Instant,
}

/// What a route takes as its body.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    /// Nothing; what is sent is not read.
    None,
    /// JSON that may be left out.
    OptionalJson(SchemaOf),
    /// JSON.
    Json(SchemaOf),
    /// JSON or NDJSON, read as it arrives.
    Entries(SchemaOf),
}

/// What a route answers.
#[derive(Clone, Copy)]
pub(crate) enum Output {
    /// JSON with this status.
    Json(u16, SchemaOf),
    /// 204.
    Nothing,
    /// Some other text.
    Text(&'static str),
    /// Server-sent events, or one JSON value a line, each of this type.
    Events(SchemaOf),
}

/// One entry of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Parameter],
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// The same body with another status.
    pub(crate) also: Option<(u16, SchemaOf)>,
    /// Bytes of the body.
    pub(crate) body_bytes_max: usize,
    /// Time for the request and its answer.
    pub(crate) wait_max: Duration,
    /// What it counts as among the calls that are limited (contract of the secret federation API, A.8).
    pub(crate) category: Option<Category>,
}

impl Route {
    /// A route without query, body and documented answer.
    pub(crate) const fn new(
        method: Method,
        path: &'static str,
        access: Access,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            access,
            summary,
            query: &[],
            input: Input::None,
            output: Output::Nothing,
            also: None,
            body_bytes_max: limits::BODY_BYTES_MAX,
            wait_max: limits::REQUEST_WAIT_MAX,
            category: None,
        }
    }

    /// The same with query parameters.
    pub(crate) const fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    /// The same with a body.
    pub(crate) const fn takes(self, input: Input) -> Self {
        Self { input, ..self }
    }

    /// The same with a JSON body of this type.
    pub(crate) const fn json(self, schema: SchemaOf) -> Self {
        self.takes(Input::Json(schema))
    }

    /// The same with an answer.
    pub(crate) const fn gives(self, output: Output) -> Self {
        Self { output, ..self }
    }

    /// The same with 200 and a JSON answer of this type.
    pub(crate) const fn ok(self, schema: SchemaOf) -> Self {
        self.gives(Output::Json(200, schema))
    }

    /// The same, where the answer may come with another status.
    pub(crate) const fn or(self, status: u16, schema: SchemaOf) -> Self {
        Self { also: Some((status, schema)), ..self }
    }

    /// The same, limited by caller as this category.
    pub(crate) const fn limited(self, category: Category) -> Self {
        Self { category: Some(category), ..self }
    }

    /// The same for bodies that are smaller than most, because strangers send them.
    pub(crate) const fn small(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// The same for bodies that are larger than most.
    pub(crate) const fn upload(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, wait_max: limits::UPLOAD_WAIT_MAX, ..self }
    }

    /// The public line of the table.
    pub(crate) const fn info(&self) -> RouteInfo {
        RouteInfo { method: self.method, path: self.path, principal: self.access.principal() }
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info().fmt(f)
    }
}

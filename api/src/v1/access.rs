//! Local users and API keys (ours). Never a password, a hash or a key, except the new key once.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{LINK, LOCATION};
use hansa_actors::{ApiKeyView, NewApiKey, NewUser, UserPatch, UserView};
use hansa_model::access::{Grant, InvalidAccess, OperatorRole};
use hansa_model::scope::{Operator, Scope};
use hansa_model::{Secret, SiteId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::json::given;
use crate::problem::Problem;
use crate::request::Request;
use crate::route::{Parameter, ParameterKind};

/// Rows of a page when no limit is asked for, and at most.
const LIMITS: (usize, usize) = (50, 1_000);

/// The parameters of a list.
pub(crate) const LIST_QUERY: &[Parameter] = &[
    Parameter { name: "limit", kind: ParameterKind::Integer, description: "rows of the page, 1 to 1,000" },
    Parameter {
        name: "cursor",
        kind: ParameterKind::Text,
        description: "what the page before gave as next_cursor",
    },
];

/// A local user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserBody {
    /// E-mail address, in lower case.
    userid: String,
    /// `viewer`, `operator` or `administrator`; null for scopes alone.
    role: Option<&'static str>,
    /// Scopes beside the role's.
    scopes: Vec<&'static str>,
    /// The sites they may see; null for all.
    sites: Option<Vec<Uuid>>,
    /// Cannot log in.
    disabled: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserPage {
    /// Ordered by user id.
    items: Vec<UserBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// Users in all.
    total: usize,
}

/// A user to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewUser)]
pub(crate) struct NewUserBody {
    /// E-mail address.
    userid: String,
    /// At least 12 characters.
    password: String,
    /// `viewer`, `operator` or `administrator`.
    role: Option<String>,
    /// Scopes beside the role's.
    #[serde(default)]
    scopes: Vec<String>,
    /// The sites they may see; absent or null for all.
    #[schema(value_type = Option<Vec<Uuid>>)]
    sites: Option<BTreeSet<SiteId>>,
    /// Cannot log in yet.
    #[serde(default)]
    disabled: bool,
}

/// Changes of a user: absent keeps, null clears. Their logins end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserPatch)]
pub(crate) struct UserPatchBody {
    password: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    role: Option<Option<String>>,
    scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<Uuid>>)]
    sites: Option<Option<BTreeSet<SiteId>>>,
    disabled: Option<bool>,
}

/// An API key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyBody {
    id: Uuid,
    /// Unique; the audit log shows it as `api-key:NAME`.
    name: String,
    /// `viewer`, `operator` or `administrator`; null for scopes alone.
    role: Option<&'static str>,
    /// Scopes beside the role's.
    scopes: Vec<&'static str>,
    /// The sites it may see; null for all.
    sites: Option<Vec<Uuid>>,
    /// Null when it does not end.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// To within an hour; null when it was never used.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    created_by: String,
}

/// A page of API keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyPage {
    /// Ordered by name.
    items: Vec<ApiKeyBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    next_cursor: Option<String>,
    /// Keys in all.
    total: usize,
}

/// An API key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApiKey)]
pub(crate) struct NewApiKeyBody {
    /// Unique; letters, digits, dots, dashes, underscores.
    name: String,
    /// `viewer`, `operator` or `administrator`.
    role: Option<String>,
    /// Scopes beside the role's.
    #[serde(default)]
    scopes: Vec<String>,
    /// The sites it may see; absent or null for all.
    #[schema(value_type = Option<Vec<Uuid>>)]
    sites: Option<BTreeSet<SiteId>>,
    /// Absent or null for a key that does not end.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A new API key.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewApiKeyAnswer {
    /// The key, in plain text here and nowhere else; goes into `Authorization: Bearer …`.
    key: String,
    api_key: ApiKeyBody,
}

impl From<UserView> for UserBody {
    fn from(user: UserView) -> Self {
        let (role, scopes, sites) = grant_members(&user.grant);
        Self {
            userid: user.userid,
            role,
            scopes,
            sites,
            disabled: user.disabled,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

impl From<ApiKeyView> for ApiKeyBody {
    fn from(key: ApiKeyView) -> Self {
        let (role, scopes, sites) = grant_members(&key.grant);
        Self {
            id: key.id.0,
            name: key.name,
            role,
            scopes,
            sites,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
            created_by: key.created_by,
        }
    }
}

type GrantMembers = (Option<&'static str>, Vec<&'static str>, Option<Vec<Uuid>>);

fn grant_members(grant: &Grant) -> GrantMembers {
    let sites = grant.sites.as_ref().map(|sites| sites.iter().map(|site| site.0).collect());
    let scopes = grant.scopes.iter().map(|scope| scope.as_str()).collect();
    (grant.role.map(OperatorRole::as_str), scopes, sites)
}

fn parse_scopes(texts: &[String]) -> Result<BTreeSet<Scope>, InvalidAccess> {
    texts.iter().map(|text| text.parse().map_err(|_| InvalidAccess::Scope)).collect()
}

fn parse_role(text: Option<&str>) -> Result<Option<OperatorRole>, InvalidAccess> {
    text.map(str::parse).transpose()
}

pub(crate) fn users(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let page = Page::of(request, request.federation.users(operator)?, |user| &user.userid)?;
    let answer = Answer::ok(&UserPage {
        items: page.items.into_iter().map(UserBody::from).collect(),
        next_cursor: page.next_cursor,
        total: page.total,
    })?;
    Ok(linked(answer, page.link))
}

pub(crate) fn user(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let user = request.federation.user(operator, request.argument("userid"))?;
    Answer::ok(&UserBody::from(user))
}

pub(crate) async fn add_user(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewUserBody = request.json().await?;
    let password = Secret::new(body.password);
    let grant = Grant {
        role: parse_role(body.role.as_deref())?,
        scopes: parse_scopes(&body.scopes)?,
        sites: body.sites,
    };
    let new = NewUser { userid: body.userid, password, grant, disabled: body.disabled };
    let user = request.federation.add_user(&operator, new).await?;
    let location = format!("/api/v1/users/{}", crate::query::escape(&user.userid));
    Ok(Answer::json(StatusCode::CREATED, &UserBody::from(user))?.with_header(LOCATION, location))
}

pub(crate) async fn patch_user(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: UserPatchBody = request.json().await?;
    let patch = UserPatch {
        password: body.password.map(Secret::new),
        role: body.role.map(|role| parse_role(role.as_deref())).transpose()?,
        scopes: body.scopes.as_deref().map(parse_scopes).transpose()?,
        sites: body.sites,
        disabled: body.disabled,
    };
    let userid = request.argument("userid");
    let user = request.federation.patch_user(&operator, userid, patch).await?;
    Answer::ok(&UserBody::from(user))
}

pub(crate) async fn remove_user(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    request.federation.remove_user(&operator, request.argument("userid")).await?;
    Ok(Answer::no_content())
}

pub(crate) fn api_keys(request: &Request, operator: &Operator) -> Result<Answer, Problem> {
    let page = Page::of(request, request.federation.api_keys(operator)?, |key| &key.name)?;
    let answer = Answer::ok(&ApiKeyPage {
        items: page.items.into_iter().map(ApiKeyBody::from).collect(),
        next_cursor: page.next_cursor,
        total: page.total,
    })?;
    Ok(linked(answer, page.link))
}

pub(crate) async fn add_api_key(mut request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    let body: NewApiKeyBody = request.json().await?;
    let grant = Grant {
        role: parse_role(body.role.as_deref())?,
        scopes: parse_scopes(&body.scopes)?,
        sites: body.sites,
    };
    let new = NewApiKey { name: body.name, grant, expires_at: body.expires_at };
    let (api_key, key) = request.federation.add_api_key(&operator, new).await?;
    let location = format!("/api/v1/api-keys/{}", api_key.id);
    let answer = NewApiKeyAnswer { key: key.expose().clone(), api_key: api_key.into() };
    Ok(Answer::json(StatusCode::CREATED, &answer)?.with_header(LOCATION, location))
}

pub(crate) async fn remove_api_key(request: Request, operator: Arc<Operator>) -> Result<Answer, Problem> {
    request.federation.remove_api_key(&operator, request.id("key_id")?).await?;
    Ok(Answer::no_content())
}

/// A part of a short list that is ordered by unique texts; the cursor is the last text of a page.
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
    total: usize,
    link: Option<String>,
}

impl<T> Page<T> {
    fn of(request: &Request, rows: Vec<T>, key: impl Fn(&T) -> &String) -> Result<Self, Problem> {
        let query = request.query()?;
        let limit = query.number("limit", 1..=LIMITS.1)?.unwrap_or(LIMITS.0);
        let cursor = query.text("cursor")?;
        let total = rows.len();
        let mut rest = rows.into_iter().filter(|row| cursor.as_ref().is_none_or(|cursor| key(row) > cursor));
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let next_cursor = items.last().filter(|_| more).map(|row| key(row).clone());
        let link =
            next_cursor.as_ref().map(|cursor| format!("<?{}>; rel=\"next\"", query.with("cursor", cursor)));
        Ok(Self { items, next_cursor, total, link })
    }
}

fn linked(answer: Answer, link: Option<String>) -> Answer {
    match link {
        Some(link) => answer.with_header(LINK, link),
        None => answer,
    }
}

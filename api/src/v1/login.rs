//! Logins of local users (contract A.4): a short-lived token in the body, the refresh token in a cookie that
//! no script can read and no other site's page can send.

use axum::http::header::SET_COOKIE;
use hansa_actors::LoggedIn;
use hansa_model::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::problem::Problem;
use crate::request::Request;

/// Name of the cookie with the refresh token.
pub(crate) const REFRESH_COOKIE: &str = "refresh_token";

/// Who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Login)]
pub(crate) struct LoginBody {
    /// E-mail address.
    userid: String,
    password: String,
}

/// Nothing; the refresh token is in the cookie.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = Refresh)]
pub(crate) struct RefreshBody {}

/// The token of a login. The refresh token is in the cookie `refresh_token`.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginAnswer {
    /// For the header `Authorization: Bearer …`; good for 15 minutes.
    #[serde(rename = "Authorization")]
    authorization: String,
}

pub(crate) async fn login(mut request: Request) -> Result<Answer, Problem> {
    let LoginBody { userid, password } = request.json().await?;
    let password = Secret::new(password);
    let logged_in = request.federation.login(&userid, &password).await?;
    answer(&request, &logged_in)
}

pub(crate) async fn refresh(mut request: Request, token: Secret<String>) -> Result<Answer, Problem> {
    let RefreshBody {} = request.optional_json().await?;
    let logged_in = request.federation.refresh_login(&token).await?;
    answer(&request, &logged_in)
}

pub(crate) async fn logout(request: Request, token: Secret<String>) -> Result<Answer, Problem> {
    request.federation.logout(&token).await?;
    let cookie = cookie(&request, "", 0);
    Ok(Answer::no_content().with_header(SET_COOKIE, cookie))
}

fn answer(request: &Request, logged_in: &LoggedIn) -> Result<Answer, Problem> {
    let answer = Answer::ok(&LoginAnswer { authorization: logged_in.token.expose().clone() })?;
    Ok(match &logged_in.refresh_token {
        Some(token) => {
            let cookie = cookie(request, token.expose(), logged_in.idle_max.as_secs());
            answer.with_header(SET_COOKIE, cookie)
        }
        None => answer,
    })
}

fn cookie(request: &Request, value: &str, seconds: u64) -> String {
    let secure = if request.federation.secure_cookies() { "; Secure" } else { "" };
    format!("{REFRESH_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

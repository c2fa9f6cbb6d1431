//! Sign-in at a provider: away to it, back from it, and the code of the second factor afterwards.
//!
//! A log-in begins with a plain link. What a session begins, to link an identity or to confirm its user, is a form
//! with the session's token, so that no other site can begin it; its page leads on by a link, because the policy of
//! pages lets no form lead to another site.

use super::login;
use crate::console::error::{PageError, form_page, html, redirect, safe_next, with_next};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::{
    SignInCookie, SignedIn, Visitor, remove_sign_in_cookie, set_cookie, set_sign_in_cookie,
    sign_in_cookie,
};
use crate::control::api_error::ApiError;
use crate::control::auth::sign_in_cookies::SignInGoal;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::external_login::{self, Begun, Finished};
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use crate::oidc::AuthorizationResponse;
use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use domain::id::SessionId;
use jiff::Timestamp;
use serde::Deserialize;
use system::clock;

const LINKED: &str = "/console/account?done=linked";
const CODE: &str = "/console/login/code";

/// Leads on to the provider.
#[derive(Template)]
#[template(path = "console/oidc/leave.html")]
struct LeavePage {
    page: Page,
    title: String,
    url: String,
}

#[derive(Template)]
#[template(path = "console/oidc/code.html")]
struct CodePage {
    page: Page,
    problem: String,
}

/// The link that begins a log-in at the provider.
pub struct ProviderLink {
    pub label: String,
    pub href: String,
}

#[derive(Default, Deserialize)]
pub struct StartQuery {
    next: Option<String>,
}

/// The parameters of a provider's response; others are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct CallbackQuery {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmForm {
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeForm {
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlinkForm {
    id: String,
}

/// The pages of sign-ins at a provider.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/oidc/start", get(start))
        .route("/console/oidc/callback", get(callback))
        .route("/console/login/code", get(code_form).post(enter_code))
        .route("/console/confirm/provider", get(super::confirm::form).post(confirm))
        .route("/console/account/identity/link", post(link))
        .route("/console/account/identity/unlink", post(unlink))
}

impl ProviderLink {
    /// The link of the configured provider, which leads to `next` afterwards.
    #[must_use]
    pub fn of(state: &ControlState, page: &Page, next: &str) -> Option<Self> {
        let label = page.fill("Sign in with {}", &[&state.provider_name()?]);
        Some(Self { label, href: with_next("/console/oidc/start", next) })
    }
}

/// `GET /console/oidc/start`: begins a log-in.
async fn start(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<StartQuery>,
) -> Result<Response, PageError> {
    let next = safe_next(query.next.as_deref()).to_owned();
    if visitor.is_logged_in && state.sign_in.is_some() {
        return Ok(redirect(&next));
    }
    match external_login::begin(&state, SignInGoal::LogIn, &next).await {
        Ok(Begun { url, cookie }) => {
            let mut response = redirect(&url);
            let over_tls = visitor.context.over_tls;
            set_sign_in_cookie(&mut response, SignInCookie::Attempt, &cookie, over_tls);
            Ok(response)
        }
        Err(error @ ApiError::ProviderUnavailable) => {
            login::refused_page(&state, visitor.page, next, &error)
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /console/account/identity/link`.
async fn link(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    signed_in.confirmed("/console/account")?;
    let goal = SignInGoal::Link(signed_in.current.session);
    leave(&state, signed_in, goal, LINKED).await
}

/// `POST /console/confirm/provider`: confirms the user by signing in again.
async fn confirm(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let next = safe_next(form.next.as_deref()).to_owned();
    let goal = SignInGoal::Confirm(signed_in.current.session);
    leave(&state, signed_in, goal, &next).await
}

async fn leave(
    state: &ControlState,
    signed_in: SignedIn,
    goal: SignInGoal,
    next: &str,
) -> Result<Response, PageError> {
    let Begun { url, cookie } = external_login::begin(state, goal, next).await?;
    // The address of a form makes no page for another language or theme.
    let page = Page { path: "/console/account".to_owned(), ..signed_in.page };
    let title = page.fill("Continue to {}", &[&state.provider_name().unwrap_or_default()]);
    let mut response = html(&LeavePage { page, title, url })?;
    let over_tls = signed_in.context.over_tls;
    set_sign_in_cookie(&mut response, SignInCookie::Attempt, &cookie, over_tls);
    Ok(response)
}

/// `POST /console/account/identity/unlink`.
async fn unlink(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<UnlinkForm>,
) -> Result<Response, PageError> {
    signed_in.confirmed("/console/account")?;
    let language = signed_in.page.language;
    external_login::unlink(&state, &signed_in.current, &form.id, language).await?;
    Ok(redirect("/console/account?done=unlinked"))
}

/// `GET /console/oidc/callback`: the provider sends the browser back.
async fn callback(
    State(state): State<ControlState>,
    visitor: Visitor,
    signed_in: Result<SignedIn, PageError>,
    headers: HeaderMap,
    Query(query): Query<CallbackQuery>,
) -> Result<Response, PageError> {
    let over_tls = visitor.context.over_tls;
    let cookie = sign_in_cookie(&headers, SignInCookie::Attempt, over_tls);
    let response = AuthorizationResponse {
        code: query.code.as_deref(),
        error: query.error.as_deref(),
        issuer: query.iss.as_deref(),
    };
    let current = signed_in.ok().map(|signed_in| signed_in.current);
    let attempt = (cookie, query.state.as_str());
    let reader = (&visitor.context, visitor.page.language);
    let finished =
        external_login::finish(&state, attempt, &response, current.as_ref(), reader).await;
    let mut reply = match finished {
        Ok(finished) => after(&state, &visitor, finished).await?,
        Err(error @ ApiError::RouteNotFound) => return Err(error.into()),
        Err(error) if visitor.is_logged_in => return Err(error.into()),
        Err(error) => {
            let next = "/console".to_owned();
            return login::refused_page(&state, visitor.page, next, &error);
        }
    };
    remove_sign_in_cookie(&mut reply, SignInCookie::Attempt, over_tls);
    Ok(reply)
}

async fn after(
    state: &ControlState,
    visitor: &Visitor,
    finished: Finished,
) -> Result<Response, PageError> {
    match finished {
        Finished::LoggedIn { verified, authenticated_at, next } => {
            begin_session(state, visitor, verified, (authenticated_at, &next)).await
        }
        Finished::CodeRequired { cookie } => {
            let mut response = redirect(CODE);
            let over_tls = visitor.context.over_tls;
            set_sign_in_cookie(&mut response, SignInCookie::Code, &cookie, over_tls);
            Ok(response)
        }
        Finished::Linked => Ok(redirect(LINKED)),
        Finished::Confirmed { next } => Ok(redirect(safe_next(Some(&next)))),
    }
}

/// Begins a session. A person who entered no password at the provider just now has confirmed nothing since then.
async fn begin_session(
    state: &ControlState,
    visitor: &Visitor,
    verified: VerifiedUser,
    (authenticated_at, next): (Option<Timestamp>, &str),
) -> Result<Response, PageError> {
    let (context, now) = (&visitor.context, clock::now());
    let token =
        state.identity.begin_console(&*state.store, verified, context.client(), now).await?;
    let session: SessionId = token.session();
    if let Some(at) = authenticated_at.filter(|at| *at < now) {
        state.store.confirm_session(session, at).await?;
    }
    let mut response = redirect(safe_next(Some(next)));
    set_cookie(&mut response, &token, context.over_tls);
    Ok(response)
}

/// `GET /console/login/code`.
async fn code_form(
    State(state): State<ControlState>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let cookie = sign_in_cookie(&headers, SignInCookie::Code, visitor.context.over_tls);
    if visitor.is_logged_in || !external_login::awaits_code(&state, cookie) {
        return Ok(redirect("/console"));
    }
    html(&CodePage { page: visitor.page, problem: String::new() })
}

/// `POST /console/login/code`.
async fn enter_code(
    State(state): State<ControlState>,
    visitor: Visitor,
    headers: HeaderMap,
    SafeForm(form): SafeForm<CodeForm>,
) -> Result<Response, PageError> {
    let over_tls = visitor.context.over_tls;
    let cookie = sign_in_cookie(&headers, SignInCookie::Code, over_tls);
    let reader = (&visitor.context, visitor.page.language);
    let entered = match fields::code(form.code) {
        Ok(Some(code)) => external_login::enter_code(&state, (cookie, &code.0), reader).await,
        Ok(None) => Err(ApiError::CodeRequired),
        Err(error) => Err(error),
    };
    match entered {
        Ok((verified, next)) => {
            // The code is a proof of this moment.
            let mut response = begin_session(&state, &visitor, verified, (None, &next)).await?;
            remove_sign_in_cookie(&mut response, SignInCookie::Code, over_tls);
            Ok(response)
        }
        Err(error @ ApiError::InvalidSignIn) => {
            login::refused_page(&state, visitor.page, "/console".to_owned(), &error)
        }
        Err(error) => {
            let problem = message(&visitor.page, &error);
            form_page(&CodePage { page: visitor.page, problem }, Some(&error))
        }
    }
}

//! Who sees a page. Each extractor is a rule; the arguments of a handler show which one its page has.

use super::error::PageError;
use super::page::{Account, Page, cookie};
use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader, CurrentUser};
use crate::control::http::middleware::RequestContext;
use crate::control::routes::announcements;
use crate::control::state::ControlState;
use axum::extract::FromRequestParts;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use domain::actor::{Actor, AuditContext};
use domain::refresh_token::RefreshToken;
use jiff::{SignedDuration, Timestamp};
use system::clock;

/// 400 days, the longest that browsers keep a cookie. Sessions are shorter, and the store decides when they end.
const COOKIE_SECONDS: u32 = 34_560_000;
/// Time to sign in at a provider, in seconds. What is in the cookie ends no later.
const SIGN_IN_SECONDS: u32 = 600;
/// The page on which htmx makes a request.
const HX_CURRENT_URL: HeaderName = HeaderName::from_static("hx-current-url");

/// What a browser carries while it signs in at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInCookie {
    /// The attempt that the browser has begun.
    Attempt,
    /// The person who still has to enter a code.
    Code,
}

/// How long after a password was entered sensitive changes are allowed.
const CONFIRMED_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Any visitor, logged in or not.
pub struct Visitor {
    pub page: Page,
    pub is_logged_in: bool,
    pub context: RequestContext,
}

/// A logged-in user.
pub struct SignedIn {
    pub page: Page,
    pub current: CurrentUser,
    pub context: RequestContext,
    confirmed_at: Timestamp,
}

/// A logged-in admin or auditor: the page shows the data of all users and changes nothing.
pub struct AdminOrAuditor {
    pub page: Page,
    pub reader: AdminReader,
    confirmed_at: Timestamp,
}

/// A logged-in admin: the page changes something of others, or is the form of such a change.
pub struct AdminOnly {
    pub page: Page,
    pub admin: Admin,
    confirmed_at: Timestamp,
}

impl SignedIn {
    /// Checks that the password was entered within the last 15 minutes.
    ///
    /// # Errors
    /// [`PageError::ConfirmFirst`]: the page to enter it, which leads back to `next`.
    pub fn confirmed(&self, next: &str) -> Result<(), PageError> {
        confirmed(self.confirmed_at, next)
    }
}

impl AdminOrAuditor {
    /// As [`SignedIn::confirmed`], for a page with the form of a change. An auditor sees it without the form, so
    /// there is nothing to confirm.
    ///
    /// # Errors
    /// [`PageError::ConfirmFirst`].
    pub fn confirmed(&self, next: &str) -> Result<(), PageError> {
        if self.page.may_change() { confirmed(self.confirmed_at, next) } else { Ok(()) }
    }
}

impl AdminOnly {
    /// As [`SignedIn::confirmed`].
    ///
    /// # Errors
    /// [`PageError::ConfirmFirst`].
    pub fn confirmed(&self, next: &str) -> Result<(), PageError> {
        confirmed(self.confirmed_at, next)
    }
}

fn confirmed(at: Timestamp, next: &str) -> Result<(), PageError> {
    if clock::now().duration_since(at) < CONFIRMED_FOR {
        return Ok(());
    }
    Err(PageError::ConfirmFirst { next: next.to_owned() })
}

impl FromRequestParts<ControlState> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ControlState,
    ) -> Result<Self, PageError> {
        match SignedIn::from_request_parts(parts, state).await {
            Ok(SignedIn { page, context, .. }) => Ok(Self { page, is_logged_in: true, context }),
            // A suspended user can still see the page to log in with another account.
            Err(PageError::LogInFirst { .. } | PageError::Api(ApiError::Suspended)) => {
                let (page, context) = anonymous(parts, state);
                Ok(Self { page, is_logged_in: false, context })
            }
            Err(error) => Err(error),
        }
    }
}

impl FromRequestParts<ControlState> for SignedIn {
    type Rejection = PageError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ControlState,
    ) -> Result<Self, PageError> {
        let now = clock::now();
        let (mut page, context) = anonymous(parts, state);
        let log_in_first = || {
            // A form cannot be sent again after log-in.
            let next = match parts.headers.get(HX_CURRENT_URL) {
                // A part of a page: the page that has asked for it.
                Some(url) => console_path(url),
                None if parts.method == Method::GET => page.path.as_str(),
                None => "/console",
            };
            PageError::LogInFirst { next: next.to_owned() }
        };
        let Some(cookie) = session_cookie(&parts.headers, context.over_tls) else {
            return Err(log_in_first());
        };
        let found = state.identity.console_session(&*state.store, cookie, now).await?;
        let (session, found) = found.ok_or_else(log_in_first)?;
        context.set_user(found.user.id);
        page.account = Some(Account { email: found.user.email.clone(), role: found.user.role });
        page.announcements = announcements::cached(state, now).await;
        let by = AuditContext {
            actor: Actor::User(found.user.id),
            at: now,
            request_id: Some(context.request_id()),
        };
        let current = CurrentUser { user: found.user, session, by };
        Ok(Self { page, current, context, confirmed_at: found.confirmed_at })
    }
}

impl FromRequestParts<ControlState> for AdminOrAuditor {
    type Rejection = PageError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ControlState,
    ) -> Result<Self, PageError> {
        let SignedIn { page, current, confirmed_at, .. } =
            SignedIn::from_request_parts(parts, state).await?;
        let reader = AdminReader::of(current).map_err(hidden)?;
        Ok(Self { page, reader, confirmed_at })
    }
}

impl FromRequestParts<ControlState> for AdminOnly {
    type Rejection = PageError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ControlState,
    ) -> Result<Self, PageError> {
        let SignedIn { page, current, confirmed_at, .. } =
            SignedIn::from_request_parts(parts, state).await?;
        let admin = Admin::of(current).map_err(hidden)?;
        Ok(Self { page, admin, confirmed_at })
    }
}

/// The error of an admin page for this user: to those who see no admin pages, as if there were no such page.
fn hidden(error: ApiError) -> PageError {
    match error {
        ApiError::AdminsOnly => PageError::not_found(),
        error => error.into(),
    }
}

/// The path of a page of the console, by its address.
fn console_path(url: &HeaderValue) -> &str {
    let url = url.to_str().unwrap_or_default();
    url.find("/console").map_or("/console", |at| &url[at..])
}

/// The page of a request before it is known who sent it.
fn anonymous(parts: &Parts, state: &ControlState) -> (Page, RequestContext) {
    let context = RequestContext::of(&parts.extensions);
    let page = Page::of(parts, context.over_tls, &state.pepper);
    (page, context)
}

/// The name of the session's cookie. Over TLS a browser accepts it from this host alone (`__Host-`).
fn cookie_name(over_tls: bool) -> &'static str {
    if over_tls { "__Host-kx" } else { "kx" }
}

/// The value of the session's cookie.
#[must_use]
pub fn session_cookie(headers: &HeaderMap, over_tls: bool) -> Option<&str> {
    cookie(headers, cookie_name(over_tls))
}

/// Adds the cookie of a session that has begun.
pub fn set_cookie(response: &mut Response, token: &RefreshToken, over_tls: bool) {
    let value = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}{}",
        cookie_name(over_tls),
        token.reveal(),
        if over_tls { "; Secure" } else { "" },
    );
    response
        .headers_mut()
        .extend(HeaderValue::try_from(value).ok().map(|value| (SET_COOKIE, value)));
}

/// Removes the session's cookie.
pub fn remove_cookie(response: &mut Response, over_tls: bool) {
    let secure = if over_tls { "; Secure" } else { "" };
    let name = cookie_name(over_tls);
    let value = format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}");
    response
        .headers_mut()
        .extend(HeaderValue::try_from(value).ok().map(|value| (SET_COOKIE, value)));
}

impl SignInCookie {
    fn name(self, over_tls: bool) -> &'static str {
        match (self, over_tls) {
            (Self::Attempt, true) => "__Host-kx_sign_in",
            (Self::Attempt, false) => "kx_sign_in",
            (Self::Code, true) => "__Host-kx_code",
            (Self::Code, false) => "kx_code",
        }
    }
}

/// The value of a cookie of a sign-in.
#[must_use]
pub fn sign_in_cookie(headers: &HeaderMap, kind: SignInCookie, over_tls: bool) -> Option<&str> {
    cookie(headers, kind.name(over_tls))
}

/// Adds a cookie of a sign-in, which lasts a few minutes. `Lax`: the provider sends the browser back by a link.
pub fn set_sign_in_cookie(
    response: &mut Response,
    kind: SignInCookie,
    value: &str,
    over_tls: bool,
) {
    append_sign_in_cookie(response, kind, (value, SIGN_IN_SECONDS), over_tls);
}

/// Removes a cookie of a sign-in.
pub fn remove_sign_in_cookie(response: &mut Response, kind: SignInCookie, over_tls: bool) {
    append_sign_in_cookie(response, kind, ("", 0), over_tls);
}

fn append_sign_in_cookie(
    response: &mut Response,
    kind: SignInCookie,
    (value, seconds): (&str, u32),
    over_tls: bool,
) {
    let (name, secure) = (kind.name(over_tls), if over_tls { "; Secure" } else { "" });
    let cookie =
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

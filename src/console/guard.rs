//! The layer around all pages: refuses changes from other sites, adds headers, shows errors as pages.

use super::error::{PageError, ShownCrossSite, ShownError, html, whole_page_redirect};
use super::forms;
use super::page::{Page, text};
use crate::control::api_error::ApiError;
use crate::control::http::middleware::RequestContext;
use askama::Template;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::key::Pepper;

/// No inline script or style, nothing from elsewhere, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const CROSS_SITE: &str = text(
    "This form was not sent by a page of this console, or its session has ended. Go back, reload the page and try again.",
);

/// An error, as a page.
#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage {
    page: Page,
    status: u16,
    message: String,
}

/// Lets a request of our own pages pass, and finishes the response.
pub async fn guard(State(pepper): State<Pepper>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let over_tls = RequestContext::of(&parts.extensions).over_tls;
    let page = Page::of(&parts, over_tls, &pepper);
    let by_htmx = parts.headers.contains_key(HX_REQUEST);
    let response = if parts.method.is_safe() || forms::is_same_origin(&parts, over_tls) {
        next.run(Request::from_parts(parts, body)).await
    } else {
        PageError::CrossSite.into_response()
    };
    let mut response = shown(response, page);
    if by_htmx && response.status() == StatusCode::SEE_OTHER {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let mut whole = whole_page_redirect(location.unwrap_or("/console"));
        let cookies = response.headers_mut().remove(axum::http::header::SET_COOKIE);
        whole.headers_mut().extend(cookies.map(|value| (axum::http::header::SET_COOKIE, value)));
        response = whole;
    }
    add_headers(&mut response);
    response
}

/// The response, or the page of its error.
fn shown(response: Response, page: Page) -> Response {
    let status = response.status();
    let message = if let Some(ShownError(error)) = response.extensions().get() {
        message(&page, error)
    } else if response.extensions().get::<ShownCrossSite>().is_some() {
        page.t(CROSS_SITE).to_owned()
    } else {
        return response;
    };
    let error = ErrorPage { page, status: status.as_u16(), message };
    let Ok(mut shown) = html(&error) else { return status.into_response() };
    *shown.status_mut() = status;
    shown
}

/// The message of an error in the language of the page, where it has a translation.
#[must_use]
pub fn message(page: &Page, error: &ApiError) -> String {
    match error {
        ApiError::RouteNotFound => page.t("This page does not exist.").to_owned(),
        ApiError::NotFound(_) => {
            page.t("There is no such record. It may have been deleted.").to_owned()
        }
        ApiError::InvalidCredentials => {
            page.t("The e-mail address or the password is wrong.").to_owned()
        }
        ApiError::CodeRequired => page.t("Enter a code of the second factor.").to_owned(),
        ApiError::SecondFactorRequired => {
            page.t("Enter the password again, with the code of your authenticator app or a recovery code.").to_owned()
        }
        ApiError::InvalidCode | ApiError::WrongCode => {
            page.t("The code is wrong, has expired, or was already used.").to_owned()
        }
        ApiError::WrongPassword => page.t("The password is wrong.").to_owned(),
        ApiError::Suspended => {
            page.t("This account is suspended. Ask the operator to resume it.").to_owned()
        }
        ApiError::RegistrationClosed => {
            page.t("Registration is closed. Ask the operator for an account.").to_owned()
        }
        ApiError::RetiredPlan => {
            page.t("This plan is closed to new subscribers. Choose another one.").to_owned()
        }
        ApiError::TooManyKeys(most) => {
            page.fill("An account can have at most {} active keys. Revoke one first.", &[most])
        }
        ApiError::AddressReserved(until) => page.fill(
            "Another account had this e-mail address today. It can be used again from {}.",
            &[until],
        ),
        ApiError::TooManyAttempts(wait) => {
            page.fill("Too many attempts. Retry in {} s.", &[&(wait.as_secs() + 1)])
        }
        error => account_message(page, error),
    }
}

/// The messages of the account pages.
fn account_message(page: &Page, error: &ApiError) -> String {
    let text = match error {
        ApiError::AlreadyTaken("username") => page.t("Another account has this username."),
        ApiError::AlreadyTaken(_) => page.t("Another account has this e-mail address."),
        ApiError::MailQueueFull => {
            page.t("Too many mails are waiting for the mail server. Retry in a few minutes.")
        }
        ApiError::MailNotConfigured => page.t("This gateway has no mail server."),
        ApiError::UnreadableSecondFactor => {
            page.t("The second factor cannot be checked, because the secret of the server has changed. Ask an admin to remove it.")
        }
        ApiError::SecondFactorEnabled => page.t("The second factor is already on."),
        ApiError::NoSecondFactor => page.t("There is no second factor."),
        ApiError::LastAdmin => page.t("This is the last admin. Make another user an admin first."),
        error => return error.to_string(),
    };
    text.to_owned()
}

fn add_headers(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // With `no-referrer`, browsers would send `Origin: null` with forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    );
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        // A fragment is never taken for the page.
        headers.append(VARY, HeaderValue::from_static("HX-Request, Cookie, Accept-Language"));
    }
}

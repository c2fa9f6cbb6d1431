//! Log-in and log-out.

use super::oidc::ProviderLink;
use crate::console::error::{PageError, html, redirect, refused, safe_next};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::session::{SignedIn, Visitor, remove_cookie, set_cookie};
use crate::control::api_error::ApiError;
use crate::control::auth::AttemptTime;
use crate::control::auth::identity::LogInProof;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use crate::control::views::fields::{Email, Password};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use system::clock;

#[derive(Template)]
#[template(path = "console/login.html")]
struct LogInPage {
    page: Page,
    email: String,
    next: String,
    problem: String,
    /// True once the password was right and a code is missing or wrong.
    asks_code: bool,
    /// What was done before this page is shown.
    done: &'static str,
    registration: bool,
    provider: Option<ProviderLink>,
}

#[derive(Default, Deserialize)]
pub struct LogInQuery {
    next: Option<String>,
    done: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInForm {
    email: String,
    password: Password,
    code: Option<String>,
    /// `yes` if the form has the field for the code.
    asks_code: Option<String>,
    next: Option<String>,
}

/// `GET /console/login`.
pub async fn form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<LogInQuery>,
) -> Result<Response, PageError> {
    let next = safe_next(query.next.as_deref()).to_owned();
    if visitor.is_logged_in {
        return Ok(redirect(&next));
    }
    let done = done(query.done.as_deref());
    html(&LogInPage { done, ..page(&state, visitor.page, String::new(), next, None) })
}

/// `POST /console/login`.
pub async fn log_in(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<LogInForm>,
) -> Result<Response, PageError> {
    let next = safe_next(form.next.as_deref()).to_owned();
    let (context, identity) = (&visitor.context, &state.identity);
    let from = (context.address, AttemptTime::now());
    let code = form.code.as_deref().filter(|code| !code.trim().is_empty());
    let checked = match Email::try_from(form.email.clone()) {
        Ok(email) => {
            let presented = LogInProof { email: &email.0, password: &form.password.0, code };
            identity.check(&*state.store, presented, from).await
        }
        Err(_) => Err(ApiError::InvalidCredentials),
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            let mut again = page(&state, visitor.page, form.email, next, Some(&error));
            // A user who has to wait, or mistyped the password, still needs the code.
            again.asks_code |= form.asks_code.is_some();
            return refused(&again, &error);
        }
    };
    begin_session(&state, &visitor, checked, &next).await
}

/// Begins the session of a user who has proved who it is, and leads to `next`.
pub(super) async fn begin_session(
    state: &ControlState,
    visitor: &Visitor,
    checked: VerifiedUser,
    next: &str,
) -> Result<Response, PageError> {
    let (context, identity) = (&visitor.context, &state.identity);
    context.set_user(checked.credentials.user.id);
    let token =
        identity.begin_console(&*state.store, checked, context.client(), clock::now()).await?;
    let mut response = redirect(next);
    set_cookie(&mut response, &token, context.over_tls);
    Ok(response)
}

/// `POST /console/logout`.
pub async fn log_out(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    state.store.end_session(signed_in.current.session).await?;
    let mut response = redirect("/console/login");
    remove_cookie(&mut response, signed_in.context.over_tls);
    Ok(response)
}

/// The page to log in, with the reason for which a sign-in at the provider failed.
pub(super) fn refused_page(
    state: &ControlState,
    shown: Page,
    next: String,
    error: &ApiError,
) -> Result<Response, PageError> {
    // The address of this page has the response of the provider in its query.
    let shown = Page { path: "/console/login".to_owned(), ..shown };
    refused(&page(state, shown, String::new(), next, Some(error)), error)
}

fn page(
    state: &ControlState,
    page: Page,
    email: String,
    next: String,
    error: Option<&ApiError>,
) -> LogInPage {
    let asks_code = matches!(error, Some(ApiError::SecondFactorRequired | ApiError::InvalidCode));
    LogInPage {
        problem: error.map(|error| message(&page, error)).unwrap_or_default(),
        provider: ProviderLink::of(state, &page, &next),
        page,
        email,
        next,
        asks_code,
        registration: state.identity.accounts.registration,
        done: "",
    }
}

/// The text of what was done.
fn done(word: Option<&str>) -> &'static str {
    match word {
        Some("password") => text("Your password is set. Log in with it."),
        Some("verified") => text("Your e-mail address is verified."),
        Some("deleted") => text("Your account is deleted."),
        _ => "",
    }
}

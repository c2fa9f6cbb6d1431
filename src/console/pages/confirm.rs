//! Entering the password again, before a sensitive change.

use crate::console::error::{PageError, html, redirect, refused, safe_next};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::auth::AttemptTime;
use crate::control::external_login::identity_at_provider;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use crate::control::views::fields::Password;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use system::clock;

#[derive(Template)]
#[template(path = "console/confirm.html")]
struct ConfirmPage {
    page: Page,
    next: String,
    problem: String,
    /// False if the user has never set one.
    has_password: bool,
    /// The button that leads to the provider, if the user can sign in there again.
    again: Option<String>,
}

#[derive(Deserialize)]
pub struct ConfirmQuery {
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmForm {
    password: Password,
    next: Option<String>,
}

/// `GET /console/confirm`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    Query(query): Query<ConfirmQuery>,
) -> Result<Response, PageError> {
    let next = safe_next(query.next.as_deref()).to_owned();
    html(&page(&state, signed_in, next, String::new()).await?)
}

/// `POST /console/confirm`.
pub async fn confirm(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let current = &signed_in.current;
    let next = safe_next(form.next.as_deref()).to_owned();
    let who = (&current.user, current.session);
    let (proof, at) = ((Some(&*form.password.0), None), AttemptTime::now());
    let checked = state.identity.confirm_either(&*state.store, who, proof, at).await;
    if let Err(error) = checked {
        let problem = message(&signed_in.page, &error);
        return refused(&page(&state, signed_in, next, problem).await?, &error);
    }
    state.store.confirm_session(current.session, clock::now()).await?;
    Ok(redirect(&next))
}

async fn page(
    state: &ControlState,
    signed_in: SignedIn,
    next: String,
    problem: String,
) -> Result<ConfirmPage, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let credentials = state.store.credentials_of(current.user.id).await?;
    let has_password = credentials.is_some_and(|found| found.password_hash.is_some());
    let identity = identity_at_provider(state, &current.user).await?;
    let provider = identity.and_then(|_| state.provider_name());
    let again = provider.map(|name| page.fill("Sign in again with {}", &[&name]));
    Ok(ConfirmPage { page, next, problem, has_password, again })
}

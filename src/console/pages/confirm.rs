//! Entering the password again, before a sensitive change.

use crate::console::error::{PageError, html, redirect, refused, safe_next};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::auth::AttemptTime;
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
    signed_in: SignedIn,
    Query(query): Query<ConfirmQuery>,
) -> Result<Response, PageError> {
    let next = safe_next(query.next.as_deref()).to_owned();
    html(&ConfirmPage { page: signed_in.page, next, problem: String::new() })
}

/// `POST /console/confirm`.
pub async fn confirm(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let next = safe_next(form.next.as_deref()).to_owned();
    let who = (&current.user, current.session);
    let (proof, at) = ((Some(&*form.password.0), None), AttemptTime::now());
    let checked = state.identity.confirm_either(&*state.store, who, proof, at).await;
    if let Err(error) = checked {
        let problem = message(&page, &error);
        return refused(&ConfirmPage { page, next, problem }, &error);
    }
    state.store.confirm_session(current.session, clock::now()).await?;
    Ok(redirect(&next))
}

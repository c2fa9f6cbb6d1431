//! `/console/reset` and `/console/invitation`: a link sets a password. Afterwards the user logs in with it, and
//! with the second factor if there is one.

use super::{LinkQuery, SEND_ANOTHER, unusable};
use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::session::Visitor;
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::one_time_link::LinkPurpose;
use serde::Deserialize;

const ASK_AN_ADMIN: &str = text("Ask the operator for another invitation.");
const DONE: &str = "/console/login?done=password";

#[derive(Template)]
#[template(path = "console/links/password.html")]
struct PasswordPage {
    page: Page,
    title: &'static str,
    explanation: &'static str,
    /// The path that the form is sent to.
    action: &'static str,
    token: String,
    email: String,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPasswordForm {
    #[serde(default)]
    token: String,
    new_password: Option<String>,
}

/// `GET /console/reset`.
pub async fn reset_form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<LinkQuery>,
) -> Result<Response, PageError> {
    form(&state, visitor.page, LinkPurpose::ResetPassword, query.token).await
}

/// `GET /console/invitation`.
pub async fn invitation_form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<LinkQuery>,
) -> Result<Response, PageError> {
    form(&state, visitor.page, LinkPurpose::Invitation, query.token).await
}

/// `POST /console/reset`. Ends all sessions of the user.
pub async fn reset(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<LinkPasswordForm>,
) -> Result<Response, PageError> {
    let set = match fields::new_password(&visitor.page, form.new_password) {
        Ok(new) => {
            let context = &visitor.context;
            let new = (&*new.0, visitor.page.language);
            account_links::reset_password(&state, &form.token, new, context).await
        }
        Err(error) => Err(error),
    };
    match set {
        Ok(_) => Ok(redirect(DONE)),
        Err(error) => {
            shown_again(&state, visitor.page, LinkPurpose::ResetPassword, form.token, error).await
        }
    }
}

/// `POST /console/invitation`.
pub async fn accept(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<LinkPasswordForm>,
) -> Result<Response, PageError> {
    let set = match fields::new_password(&visitor.page, form.new_password) {
        Ok(new) => {
            let (chosen, context) = ((&*new.0, None), &visitor.context);
            let language = visitor.page.language;
            account_links::accept_invitation(&state, &form.token, chosen, language, context).await
        }
        Err(error) => Err(error),
    };
    match set {
        Ok(_) => Ok(redirect(DONE)),
        Err(error) => {
            shown_again(&state, visitor.page, LinkPurpose::Invitation, form.token, error).await
        }
    }
}

async fn form(
    state: &ControlState,
    page: Page,
    purpose: LinkPurpose,
    token: String,
) -> Result<Response, PageError> {
    match account_links::link_user(state, &token, purpose).await {
        Ok(user) => html(&password_page(page, purpose, token, user.email)),
        Err(error) => unusable(page, error, advice(purpose)),
    }
}

/// The form again with an error, or the page of a link that cannot be used any more.
async fn shown_again(
    state: &ControlState,
    page: Page,
    purpose: LinkPurpose,
    token: String,
    error: ApiError,
) -> Result<Response, PageError> {
    let user = match account_links::link_user(state, &token, purpose).await {
        Ok(user) => user,
        Err(error) => return unusable(page, error, advice(purpose)),
    };
    let mut shown = password_page(page, purpose, token, user.email);
    shown.problem = message(&shown.page, &error);
    refused(&shown, &error)
}

fn advice(purpose: LinkPurpose) -> &'static str {
    if purpose == LinkPurpose::Invitation { ASK_AN_ADMIN } else { SEND_ANOTHER }
}

fn password_page(page: Page, purpose: LinkPurpose, token: String, email: String) -> PasswordPage {
    let (title, explanation, action) = if purpose == LinkPurpose::Invitation {
        (
            text("Welcome"),
            text("An account was made for you. Choose its password."),
            "/console/invitation",
        )
    } else {
        (
            text("Set a new password"),
            text("All sessions of the account end. API keys keep working."),
            "/console/reset",
        )
    };
    PasswordPage { page, title, explanation, action, token, email, problem: String::new() }
}

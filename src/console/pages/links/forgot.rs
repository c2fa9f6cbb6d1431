//! `/console/forgot`: mails a link that sets a new password. What the page says does not depend on whether there
//! is such an account.

use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::Visitor;
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/links/forgot.html")]
struct ForgotPage {
    page: Page,
    /// True if a mail server is configured.
    sends_mail: bool,
    is_sent: bool,
    email: String,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgotForm {
    email: Option<String>,
}

#[derive(Default, Deserialize)]
pub struct ForgotQuery {
    /// `sent` after a link was asked for.
    done: Option<String>,
}

/// `GET /console/forgot`.
pub async fn form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<ForgotQuery>,
) -> Result<Response, PageError> {
    let is_sent = query.done.as_deref() == Some("sent");
    html(&ForgotPage { is_sent, ..page(&state, visitor.page, String::new()) })
}

/// `POST /console/forgot`.
pub async fn send(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<ForgotForm>,
) -> Result<Response, PageError> {
    let entered = form.email.clone().unwrap_or_default();
    let sent = try_send(&state, &visitor, form);
    match sent {
        Ok(()) => Ok(redirect("/console/forgot?done=sent")),
        Err(error) => {
            let mut shown = page(&state, visitor.page, entered);
            shown.problem = message(&shown.page, &error);
            refused(&shown, &error)
        }
    }
}

fn try_send(state: &ControlState, visitor: &Visitor, form: ForgotForm) -> Result<(), ApiError> {
    let email = fields::email(&visitor.page, form.email)?;
    let from = (visitor.context.address, visitor.page.language);
    account_links::forgot_password(state, &email.0, from)
}

fn page(state: &ControlState, page: Page, email: String) -> ForgotPage {
    let sends_mail = state.mailer.is_on();
    ForgotPage { page, sends_mail, is_sent: false, email, problem: String::new() }
}

//! `/console/verify`: proves that the user receives mail at the address.

use super::{LinkQuery, unusable};
use crate::console::error::{PageError, html, redirect};
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::session::Visitor;
use crate::control::account_links;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::one_time_link::LinkPurpose;
use serde::Deserialize;

const LOG_IN: &str = text("Log in; the page of your account can send another one.");

#[derive(Template)]
#[template(path = "console/links/verify.html")]
struct VerifyPage {
    page: Page,
    token: String,
    email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyForm {
    #[serde(default)]
    token: String,
}

/// `GET /console/verify`.
pub async fn form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<LinkQuery>,
) -> Result<Response, PageError> {
    let token = query.token;
    match account_links::link_user(&state, &token, LinkPurpose::VerifyEmail).await {
        Ok(user) => html(&VerifyPage { page: visitor.page, token, email: user.email }),
        Err(error) => unusable(visitor.page, error, LOG_IN),
    }
}

/// `POST /console/verify`.
pub async fn verify(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<VerifyForm>,
) -> Result<Response, PageError> {
    match account_links::verify_email(&state, &form.token, &visitor.context).await {
        Ok(_) if visitor.is_logged_in => Ok(redirect("/console/account?done=verified")),
        Ok(_) => Ok(redirect("/console/login?done=verified")),
        Err(error) => unusable(visitor.page, error, LOG_IN),
    }
}

//! `/console/setup`: the link in the gateway's log creates the first admin.

use super::{LinkQuery, unusable};
use crate::console::error::{PageError, html, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::pages::login::begin_session;
use crate::console::session::Visitor;
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

const NEWEST: &str = text("Use the newest link in the gateway's log, or log in as the admin.");

#[derive(Template)]
#[template(path = "console/links/setup.html")]
struct SetupPage {
    page: Page,
    token: String,
    email: String,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupForm {
    #[serde(default)]
    token: String,
    email: Option<String>,
    new_password: Option<String>,
}

/// `GET /console/setup`.
pub async fn form(
    State(state): State<ControlState>,
    visitor: Visitor,
    Query(query): Query<LinkQuery>,
) -> Result<Response, PageError> {
    let (page, token) = (visitor.page, query.token);
    match account_links::check_setup(&state, &token).await {
        Ok(()) => {
            let (email, problem) = (String::new(), String::new());
            html(&SetupPage { page, token, email, problem })
        }
        Err(error) => unusable(page, error, NEWEST),
    }
}

/// `POST /console/setup`. Logs the admin in.
pub async fn create(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<SetupForm>,
) -> Result<Response, PageError> {
    let (token, email) = (form.token.clone(), form.email.clone().unwrap_or_default());
    match try_create(&state, &visitor, form).await {
        Ok(checked) => begin_session(&state, &visitor, checked, "/console").await,
        Err(error @ (ApiError::InvalidLink | ApiError::AdminExists)) => {
            unusable(visitor.page, error, NEWEST)
        }
        Err(error) => {
            let page = visitor.page;
            let problem = message(&page, &error);
            refused(&SetupPage { page, token, email, problem }, &error)
        }
    }
}

async fn try_create(
    state: &ControlState,
    visitor: &Visitor,
    form: SetupForm,
) -> Result<VerifiedUser, ApiError> {
    let email = fields::new_email(&visitor.page, form.email)?;
    let password = fields::new_password(&visitor.page, form.new_password)?;
    let admin = (email.0, &*password.0);
    account_links::create_first_admin(state, &form.token, admin, &visitor.context).await
}

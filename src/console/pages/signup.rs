//! Registration: the account, its first key (shown once), and how to use it.

use super::oidc::ProviderLink;
use super::overview::snippets;
use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::forms::{SafeForm, csrf_token};
use crate::console::page::{Account, Page};
use crate::console::session::{Visitor, set_cookie};
use crate::control::api_error::ApiError;
use crate::control::routes::session::{NewAccount, Registration, create_account};
use crate::control::state::ControlState;
use crate::control::views::fields::{NewEmail, NewPassword};
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::user::Role;
use serde::Deserialize;
use system::clock;

#[derive(Template)]
#[template(path = "console/signup.html")]
struct SignUpPage {
    page: Page,
    email: String,
    problem: String,
    registration: bool,
    provider: Option<ProviderLink>,
}

/// The page after registration. It is the only one that shows the key.
#[derive(Template)]
#[template(path = "console/welcome.html")]
struct WelcomePage {
    page: Page,
    api_key: String,
    snippets: Vec<super::overview::Snippet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUpForm {
    email: String,
    password: Option<String>,
}

/// `GET /console/signup`.
pub async fn form(
    State(state): State<ControlState>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    if visitor.is_logged_in {
        return Ok(redirect("/console"));
    }
    html(&page(&state, visitor.page, String::new(), String::new()))
}

/// `POST /console/signup`.
pub async fn sign_up(
    State(state): State<ControlState>,
    visitor: Visitor,
    SafeForm(form): SafeForm<SignUpForm>,
) -> Result<Response, PageError> {
    let email = form.email.clone();
    match create(&state, &visitor, form).await {
        Ok(account) => welcome(&state, visitor, account).await,
        Err(error) => {
            let problem = message(&visitor.page, &error);
            refused(&page(&state, visitor.page, email, problem), &error)
        }
    }
}

async fn create(
    state: &ControlState,
    visitor: &Visitor,
    form: SignUpForm,
) -> Result<NewAccount, ApiError> {
    let email = NewEmail::try_from(form.email)
        .map_err(|_| ApiError::form_field(visitor.page.t("This is not an e-mail address.")))?;
    let password = NewPassword::try_from(form.password.unwrap_or_default())
        .map_err(|_| ApiError::form_field(visitor.page.t("A password has 8 to 128 characters.")))?;
    let form = Registration { email, password, username: None };
    create_account(state, &visitor.context, form, visitor.page.language).await
}

async fn welcome(
    state: &ControlState,
    visitor: Visitor,
    account: NewAccount,
) -> Result<Response, PageError> {
    let Visitor { mut page, context, .. } = visitor;
    let email = account.checked.credentials.user.email.clone();
    let client = context.client();
    let token =
        state.identity.begin_console(&*state.store, account.checked, client, clock::now()).await?;
    let Some(secret) = account.secret else {
        // The page of the account says how to verify the address, and can send the link again.
        let mut response = redirect("/console/account?done=registered");
        set_cookie(&mut response, &token, context.over_tls);
        return Ok(response);
    };
    page.account = Some(Account { email, role: Role::User });
    page.csrf = csrf_token(&state.pepper, token.reveal());
    let api_key = secret.reveal().to_owned();
    let snippets = snippets(&page, state, &api_key);
    let mut response = html(&WelcomePage { page, api_key, snippets })?;
    *response.status_mut() = StatusCode::CREATED;
    set_cookie(&mut response, &token, context.over_tls);
    Ok(response)
}

fn page(state: &ControlState, page: Page, email: String, problem: String) -> SignUpPage {
    let registration = state.identity.accounts.registration;
    let provider = ProviderLink::of(state, &page, "/console");
    SignUpPage { page, email, problem, registration, provider }
}

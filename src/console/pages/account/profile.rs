//! `/console/account`: e-mail address, username, password, and what a client needs.

use super::{AccountQuery, Problem};
use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::session::{SignedIn, set_cookie};
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::external_login::identity_at_provider;
use crate::control::http::extract::Query;
use crate::control::routes::profile::{self, PasswordChange, ProfileChange};
use crate::control::routes::second_factor;
use crate::control::state::ControlState;
use crate::mail::message::Language;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::user::User;
use serde::Deserialize;
use std::net::IpAddr;
use store::external_identities::ExternalIdentity;
use system::clock;

const PATH: &str = "/console/account";

#[derive(Template)]
#[template(path = "console/account/profile.html")]
struct ProfilePage {
    page: Page,
    user: User,
    /// As they were entered, or as they are.
    email: String,
    username: String,
    /// True if the gateway can send the link that verifies the e-mail address.
    sends_mail: bool,
    has_second_factor: bool,
    has_password: bool,
    identities: Vec<Linked>,
    can_link: Option<LinkOffer>,
    done: &'static str,
    problem: Problem,
}

/// An identity at a sign-in provider.
struct Linked {
    id: String,
    /// The provider, by its name if it is the configured one, and the address there.
    label: String,
    since: Time,
}

/// The provider that can be linked.
struct LinkOffer {
    explanation: String,
    button: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstPasswordForm {
    code: Option<String>,
    new_password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailForm {
    email: Option<String>,
    current_password: Option<String>,
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsernameForm {
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPasswordForm {
    current_password: Option<String>,
    code: Option<String>,
    new_password: Option<String>,
}

/// `GET /console/account`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    Query(query): Query<AccountQuery>,
) -> Result<Response, PageError> {
    let mut shown = page(&state, signed_in).await?;
    shown.done = done(query.done.as_deref());
    html(&shown)
}

/// `POST /console/account/email`.
pub async fn change_email(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<EmailForm>,
) -> Result<Response, PageError> {
    let entered = form.email.clone().unwrap_or_default();
    match try_email(&state, &signed_in, form).await {
        Ok(()) => Ok(redirect("/console/account?done=email")),
        Err(error) => {
            let mut again = page(&state, signed_in).await?;
            again.email = entered;
            again.refused("email", &error)
        }
    }
}

async fn try_email(
    state: &ControlState,
    signed_in: &SignedIn,
    form: EmailForm,
) -> Result<(), ApiError> {
    let page = &signed_in.page;
    let email = fields::new_email(page, form.email)?;
    let password = fields::password(page, form.current_password)?;
    let code = fields::code(form.code)?;
    let change = ProfileChange {
        username: None,
        email: Some(email),
        current_password: Some(password),
        code,
    };
    profile::change_own(state, &signed_in.current, change, reader(signed_in)).await?;
    Ok(())
}

/// `POST /console/account/username`.
pub async fn change_username(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<UsernameForm>,
) -> Result<Response, PageError> {
    let entered = form.username.clone().unwrap_or_default();
    let changed = match fields::username(&signed_in.page, form.username) {
        Ok(username) => {
            let change = ProfileChange {
                username: Some(username),
                email: None,
                current_password: None,
                code: None,
            };
            profile::change_own(&state, &signed_in.current, change, reader(&signed_in)).await
        }
        Err(error) => Err(error),
    };
    match changed {
        Ok(_) => Ok(redirect("/console/account?done=username")),
        Err(error) => {
            let mut again = page(&state, signed_in).await?;
            again.username = entered;
            again.refused("username", &error)
        }
    }
}

/// `POST /console/account/password`. Ends all sessions of the user; this browser gets a new one.
pub async fn change_password(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<NewPasswordForm>,
) -> Result<Response, PageError> {
    match try_password(&state, &signed_in, form).await {
        Ok(response) => Ok(response),
        Err(error) => page(&state, signed_in).await?.refused("password", &error),
    }
}

async fn try_password(
    state: &ControlState,
    signed_in: &SignedIn,
    form: NewPasswordForm,
) -> Result<Response, ApiError> {
    let page = &signed_in.page;
    let password = fields::password(page, form.current_password)?;
    let new = fields::new_password(page, form.new_password)?;
    let code = fields::code(form.code)?;
    let change = PasswordChange { current_password: password, code, new_password: new };
    let changed =
        profile::replace_password(state, &signed_in.current, change, page.language).await?;
    with_session(state, signed_in, changed).await
}

/// `POST /console/account/first-password`: sets the password of a user who has none, and has just been confirmed. Ends
/// all sessions of the user; this browser gets a new one.
pub async fn set_first_password(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<FirstPasswordForm>,
) -> Result<Response, PageError> {
    signed_in.confirmed(PATH)?;
    match try_first_password(&state, &signed_in, form).await {
        Ok(response) => Ok(response),
        Err(error) => page(&state, signed_in).await?.refused("password", &error),
    }
}

async fn try_first_password(
    state: &ControlState,
    signed_in: &SignedIn,
    form: FirstPasswordForm,
) -> Result<Response, ApiError> {
    let page = &signed_in.page;
    let new = fields::new_password(page, form.new_password)?;
    let code = fields::code(form.code)?;
    let chosen = (&*new.0, code.as_ref().map(|code| &*code.0));
    let changed =
        profile::set_first_password(state, &signed_in.current, chosen, page.language).await?;
    with_session(state, signed_in, changed).await
}

/// The page of the account, with a new session.
async fn with_session(
    state: &ControlState,
    signed_in: &SignedIn,
    changed: VerifiedUser,
) -> Result<Response, ApiError> {
    let (context, identity) = (&signed_in.context, &state.identity);
    let token =
        identity.begin_console(&*state.store, changed, context.client(), clock::now()).await?;
    let mut response = redirect("/console/account?done=password");
    set_cookie(&mut response, &token, context.over_tls);
    Ok(response)
}

/// `POST /console/account/verify`: sends the link that verifies the e-mail address.
pub async fn send_link(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    let (user, from) = (&signed_in.current.user, reader(&signed_in));
    match account_links::send_verification(&state, user, from).await {
        Ok(()) => Ok(redirect("/console/account?done=link")),
        Err(ApiError::AlreadyVerified) => Ok(redirect("/console/account?done=verified")),
        Err(error) => page(&state, signed_in).await?.refused("verify", &error),
    }
}

/// Where the reader of mails is, and in which language.
fn reader(signed_in: &SignedIn) -> (IpAddr, Language) {
    (signed_in.context.address, signed_in.page.language)
}

async fn page(state: &ControlState, signed_in: SignedIn) -> Result<ProfilePage, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user;
    let factor = second_factor::of_user(state, user.id).await?;
    let credentials = state.store.credentials_of(user.id).await?;
    let identities = state.store.identities_of(user.id).await?;
    let name = state.provider_name();
    let current = identity_at_provider(state, &user).await?;
    Ok(ProfilePage {
        has_password: credentials.is_some_and(|found| found.password_hash.is_some()),
        can_link: name
            .as_ref()
            .filter(|_| current.is_none())
            .map(|name| LinkOffer::of(&page, name)),
        identities: identities
            .into_iter()
            .map(|identity| {
                let is_current = current.as_ref().is_some_and(|known| known.id == identity.id);
                Linked::of(&page, identity, name.clone().filter(|_| is_current))
            })
            .collect(),
        page: Page { path: PATH.to_owned(), ..page },
        email: user.email.clone(),
        username: user.username.clone().unwrap_or_default(),
        has_second_factor: factor.enabled,
        user,
        sends_mail: state.mailer.is_on(),
        done: "",
        problem: Problem::default(),
    })
}

/// The text of what was done.
fn done(word: Option<&str>) -> &'static str {
    match word {
        Some("email") => text("Your e-mail address is changed."),
        Some("username") => text("Your username is changed."),
        Some("password") => text("Your password is changed. All other sessions have ended."),
        Some("verified") => text("Your e-mail address is verified."),
        Some("registered") => text(
            "Welcome. Open the link in the mail that was sent to you. Then you can create an API key.",
        ),
        Some("linked") => text("The identity is linked. You can log in with it."),
        Some("unlinked") => text("The identity is unlinked."),
        Some("link") => text("The link is on its way. Open it within 24 hours."),
        _ => "",
    }
}

impl Linked {
    fn of(page: &Page, identity: ExternalIdentity, name: Option<String>) -> Self {
        let provider = name.unwrap_or(identity.issuer);
        let email = identity.email.unwrap_or(identity.subject);
        Self {
            id: identity.id.to_string(),
            label: page.fill("{}: {}, linked", &[&provider, &email]),
            since: Time(identity.linked_at),
        }
    }
}

impl LinkOffer {
    fn of(page: &Page, name: &str) -> Self {
        Self {
            explanation: page.fill("Log in with {} instead of your password.", &[&name]),
            button: page.fill("Link {}", &[&name]),
        }
    }
}

impl ProfilePage {
    /// The page again, with the error of one of its forms.
    fn refused(mut self, form: &'static str, error: &ApiError) -> Result<Response, PageError> {
        self.problem = Problem { form, message: message(&self.page, error) };
        refused(&self, error)
    }
}

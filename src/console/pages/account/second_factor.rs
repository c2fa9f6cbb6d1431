//! `/console/account/second-factor`: set-up with a QR code, recovery codes, turning it off.
//!
//! A set-up has two steps: the password, then the first code of the app. Recovery codes are in the reply to the
//! form that makes them, and nowhere else.

use super::{AccountQuery, Problem};
use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::routes::second_factor::{self, RecoveryCodesView, SecondFactorView, SetUpView};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use data_encoding::BASE64;
use serde::Deserialize;
use system::clock;

const PATH: &str = "/console/account/second-factor";
const SET_UP: &str = "/console/account/second-factor/set-up";

#[derive(Template)]
#[template(path = "console/account/second_factor.html")]
struct SecondFactorPage {
    page: Page,
    factor: SecondFactorView,
    done: &'static str,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "console/account/second_factor_set_up.html")]
struct SetUpPage {
    page: Page,
    /// The secret in groups of four.
    secret: String,
    otpauth_uri: String,
    /// The QR code as the address of an image.
    image: String,
    problem: String,
}

/// The only page that shows the recovery codes.
#[derive(Template)]
#[template(path = "console/account/recovery_codes.html")]
struct CodesPage {
    page: Page,
    codes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFields {
    current_password: Option<String>,
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeForm {
    code: Option<String>,
}

/// `GET /console/account/second-factor`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    Query(query): Query<AccountQuery>,
) -> Result<Response, PageError> {
    let mut shown = page(&state, signed_in).await?;
    if query.done.as_deref() == Some("off") {
        shown.done = text("The second factor is off. The password alone is enough to log in.");
    }
    html(&shown)
}

/// `POST /console/account/second-factor`: begins a set-up.
pub async fn begin(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ProofFields>,
) -> Result<Response, PageError> {
    let begun = match fields::password(&signed_in.page, form.current_password) {
        Ok(password) => second_factor::begin(&state, &signed_in.current, &password.0).await,
        Err(error) => Err(error),
    };
    if let Err(error) = begun {
        return page(&state, signed_in).await?.refused("begin", &error);
    }
    // The next page shows the secret to those who have just entered the password.
    state.store.confirm_session(signed_in.current.session, clock::now()).await?;
    Ok(redirect(SET_UP))
}

/// `GET /console/account/second-factor/set-up`: the set-up that was begun.
pub async fn set_up(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    signed_in.confirmed(SET_UP)?;
    match second_factor::pending(&state, &signed_in.current).await {
        Ok(view) => html(&SetUpPage::of(signed_in.page, view, String::new())),
        Err(ApiError::NoSecondFactor | ApiError::SecondFactorEnabled) => Ok(redirect(PATH)),
        Err(error) => Err(error.into()),
    }
}

/// `POST /console/account/second-factor/set-up`: enables it with the first code.
pub async fn enable(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<CodeForm>,
) -> Result<Response, PageError> {
    signed_in.confirmed(SET_UP)?;
    let language = signed_in.page.language;
    let code = fields::code(form.code).and_then(|code| code.ok_or(ApiError::WrongCode));
    let enabled = match code {
        Ok(code) => second_factor::enable_with(&state, &signed_in.current, &code.0, language).await,
        Err(error) => Err(error),
    };
    match enabled {
        Ok(view) => codes(signed_in.page, view),
        Err(ApiError::NoSecondFactor) => Ok(redirect(PATH)),
        Err(error) => {
            let view = second_factor::pending(&state, &signed_in.current).await?;
            let problem = message(&signed_in.page, &error);
            refused(&SetUpPage::of(signed_in.page, view, problem), &error)
        }
    }
}

/// `POST /console/account/second-factor/codes`: new recovery codes.
pub async fn replace_codes(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ProofFields>,
) -> Result<Response, PageError> {
    let (code, language) = (form.code, signed_in.page.language);
    let replaced = match fields::password(&signed_in.page, form.current_password) {
        Ok(password) => {
            let proof = (Some(&*password.0), code.as_deref());
            second_factor::replace_codes(&state, &signed_in.current, proof, language).await
        }
        Err(error) => Err(error),
    };
    match replaced {
        Ok(view) => codes(signed_in.page, view),
        Err(error) => page(&state, signed_in).await?.refused("codes", &error),
    }
}

/// `POST /console/account/second-factor/off`.
pub async fn turn_off(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<ProofFields>,
) -> Result<Response, PageError> {
    let (code, language) = (form.code, signed_in.page.language);
    let removed = match fields::password(&signed_in.page, form.current_password) {
        Ok(password) => {
            let proof = (Some(&*password.0), code.as_deref());
            second_factor::disable_with(&state, &signed_in.current, proof, language).await
        }
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) | Err(ApiError::NoSecondFactor) => {
            Ok(redirect("/console/account/second-factor?done=off"))
        }
        Err(error) => page(&state, signed_in).await?.refused("off", &error),
    }
}

async fn page(state: &ControlState, signed_in: SignedIn) -> Result<SecondFactorPage, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let factor = second_factor::of_user(state, current.user.id).await?;
    let page = Page { path: PATH.to_owned(), ..page };
    Ok(SecondFactorPage { page, factor, done: "", problem: Problem::default() })
}

fn codes(page: Page, view: RecoveryCodesView) -> Result<Response, PageError> {
    // Another language or theme must not lead back to the form.
    let page = Page { path: PATH.to_owned(), ..page };
    html(&CodesPage { page, codes: view.recovery_codes })
}

impl SecondFactorPage {
    fn enabled_at(&self) -> Option<Time> {
        self.factor.enabled_at.map(Time)
    }

    fn codes_left(&self) -> String {
        self.page.fill("Recovery codes left: {}", &[&self.factor.recovery_codes_left])
    }

    /// The page again, with the error of one of its forms.
    fn refused(mut self, form: &'static str, error: &ApiError) -> Result<Response, PageError> {
        self.problem = Problem { form, message: message(&self.page, error) };
        refused(&self, error)
    }
}

impl SetUpPage {
    fn of(page: Page, view: SetUpView, problem: String) -> Self {
        let image = BASE64.encode(view.qr_svg.as_bytes());
        Self {
            page,
            secret: in_groups(&view.secret),
            otpauth_uri: view.otpauth_uri,
            image: format!("data:image/svg+xml;base64,{image}"),
            problem,
        }
    }
}

/// A text of ASCII in groups of four, which people read and type without losing their place.
fn in_groups(text: &str) -> String {
    let groups: Vec<String> = text
        .as_bytes()
        .chunks(4)
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    groups.join(" ")
}

//! Export and deletion of one's own account.

use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::fields;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::{SignedIn, remove_cookie};
use crate::control::api_error::ApiError;
use crate::control::routes::{account, export as export_route, second_factor};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/account/delete.html")]
struct DeleteAccountPage {
    page: Page,
    email: String,
    has_second_factor: bool,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteAccountForm {
    /// The e-mail address of the account, typed as a sign that this account is meant.
    email: Option<String>,
    current_password: Option<String>,
    code: Option<String>,
}

/// `POST /console/account/export`: a file. Sent by a form, so that no other site can use up the exports of an
/// hour.
pub async fn export(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    signed_in.confirmed("/console/account")?;
    Ok(export_route::file(&state, &signed_in.current).await?)
}

/// `GET /console/account/delete`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    html(&page(&state, signed_in, String::new()).await?)
}

/// `POST /console/account/delete`.
pub async fn delete(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<DeleteAccountForm>,
) -> Result<Response, PageError> {
    if let Err(error) = try_delete(&state, &signed_in, form).await {
        let problem = message(&signed_in.page, &error);
        return refused(&page(&state, signed_in, problem).await?, &error);
    }
    let mut response = redirect("/console/login?done=deleted");
    remove_cookie(&mut response, signed_in.context.over_tls);
    Ok(response)
}

async fn try_delete(
    state: &ControlState,
    signed_in: &SignedIn,
    form: DeleteAccountForm,
) -> Result<(), ApiError> {
    let (page, current) = (&signed_in.page, &signed_in.current);
    let typed = form.email.unwrap_or_default();
    if !typed.trim().eq_ignore_ascii_case(&current.user.email) {
        let problem = page.t("Type the e-mail address of this account.");
        return Err(ApiError::form_field(problem));
    }
    let password = fields::password(page, form.current_password)?;
    let code = fields::code(form.code)?;
    let proof = (&*password.0, code.as_ref().map(|code| &*code.0));
    account::delete_own(state, current, proof).await
}

async fn page(
    state: &ControlState,
    signed_in: SignedIn,
    problem: String,
) -> Result<DeleteAccountPage, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let factor = second_factor::of_user(state, current.user.id).await?;
    let email = current.user.email;
    Ok(DeleteAccountPage { page, email, has_second_factor: factor.enabled, problem })
}

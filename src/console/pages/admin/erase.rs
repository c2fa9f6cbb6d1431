//! Deletes a user, after the e-mail address was typed.

use super::users;
use crate::console::error::{PageError, form_page};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::query::done;
use crate::console::session::AdminOnly;
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::deletion::delete_user;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::user::{User, UserStatus};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/admin/delete.html")]
struct DeleteUserPage {
    page: Page,
    problem: String,
    id: String,
    email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteUserForm {
    /// The e-mail address of the user, typed again.
    email: Option<String>,
}

/// `GET /console/admin/users/{id}/delete`.
pub async fn form(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
) -> Result<Response, PageError> {
    admin.confirmed(&admin.page.path)?;
    let user = existing(&state, &id).await?;
    show(admin.page, &user, None)
}

/// `POST /console/admin/users/{id}/delete`.
pub async fn delete(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<DeleteUserForm>,
) -> Result<Response, PageError> {
    let user = existing(&state, &id).await?;
    admin.confirmed(&admin.page.path)?;
    let AdminOnly { page, admin, .. } = admin;
    let typed = form.email.unwrap_or_default();
    if !typed.trim().eq_ignore_ascii_case(&user.email) {
        let problem = page.t("This is not the e-mail address of the user. Nothing is deleted.");
        let error = ApiError::form_field(problem);
        return show(page, &user, Some(&error));
    }
    match delete_user(&state, &admin, &id).await {
        Ok(()) => Ok(done(users::PATH, "deleted")),
        Err(error @ (ApiError::OwnAccountLockout | ApiError::LastAdmin)) => {
            show(page, &user, Some(&error))
        }
        Err(error) => Err(error.into()),
    }
}

/// The user with this id, who is not deleted yet.
async fn existing(state: &ControlState, id: &str) -> Result<User, ApiError> {
    let user = state.user(id).await?;
    if user.status == UserStatus::Deleted { Err(ApiError::NotFound("user")) } else { Ok(user) }
}

fn show(page: Page, user: &User, error: Option<&ApiError>) -> Result<Response, PageError> {
    form_page(
        &DeleteUserPage {
            problem: error.map(|error| message(&page, error)).unwrap_or_default(),
            id: user.id.to_string(),
            email: user.email.clone(),
            page,
        },
        error,
    )
}

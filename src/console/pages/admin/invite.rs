//! Adds users, and shows the link by which a user sets a password.

use super::user_changes::path_of;
use super::{Choice, NoFields, plan_choices, users};
use crate::console::error::{PageError, form_page, html};
use crate::console::error_text::message;
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::AdminOnly;
use crate::control::account_links::{self, Invitation};
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::invitations::{NewUserForm, add_user};
use crate::control::state::ControlState;
use crate::control::views::fields::{NewEmail, Username};
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::id::PlanId;
use domain::user::{Role, User};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "console/admin/new_user.html")]
struct NewUserPage {
    page: Page,
    problem: String,
    fields: NewUserFields,
    plans: Vec<Choice>,
    roles: Vec<Choice>,
    can_mail: bool,
}

/// The page that shows a link. It is the only one.
#[derive(Template)]
#[template(path = "console/admin/invitation.html")]
struct InvitationPage {
    page: Page,
    email: String,
    user: String,
    link: String,
    expires: Option<Time>,
    is_mailed: bool,
    /// The reason for which a mail that was asked for is not sent.
    mail_problem: Option<String>,
}

/// The fields of the form, as typed.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewUserFields {
    email: String,
    username: String,
    plan: String,
    role: String,
    /// `on` if the box is checked.
    send_mail: String,
}

/// `GET /console/admin/users/new`.
pub async fn form(
    State(state): State<ControlState>,
    admin: AdminOnly,
) -> Result<Response, PageError> {
    admin.confirmed(&admin.page.path)?;
    show(&state, admin.page, NewUserFields::default(), None).await
}

/// `POST /console/admin/users/new`.
pub async fn add(
    State(state): State<ControlState>,
    admin: AdminOnly,
    SafeForm(fields): SafeForm<NewUserFields>,
) -> Result<Response, PageError> {
    admin.confirmed("/console/admin/users/new")?;
    let AdminOnly { page, admin, .. } = admin;
    let added = async {
        let form = fields.form(&page)?;
        add_user(&state, &admin, form, page.language).await
    };
    match added.await {
        Ok((user, invitation)) => shown(page, &user, invitation),
        Err(error) => show(&state, page, fields, Some(&error)).await,
    }
}

/// `POST /console/admin/users/{id}/invitation`: a new link, also for a user who forgot the password.
pub async fn invite(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    admin.confirmed(&path_of(&id))?;
    let user = state.user(&id).await?;
    let invitation = account_links::invite(&state, &user, None, &admin.admin.by).await?;
    shown(admin.page, &user, invitation)
}

fn shown(page: Page, user: &User, invitation: Invitation) -> Result<Response, PageError> {
    let Invitation { link, is_mailed, mail_problem } = invitation;
    let mut response = html(&InvitationPage {
        email: user.email.clone(),
        user: user.id.to_string(),
        link: link.url.unwrap_or_else(|| format!("{}{}", page.origin, link.path)),
        expires: link.expires_at.map(Time),
        is_mailed,
        mail_problem: mail_problem.map(|error| message(&page, &error)),
        page,
    })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn show(
    state: &ControlState,
    page: Page,
    fields: NewUserFields,
    error: Option<&ApiError>,
) -> Result<Response, PageError> {
    let plans = state.store.plans().await?;
    let usual = state.identity.accounts.default_plan.as_ref().map(PlanId::as_str);
    let chosen =
        if fields.plan.is_empty() { usual.unwrap_or_default() } else { fields.plan.as_str() };
    let open: Vec<_> = plans.into_iter().filter(|plan| !plan.retired).collect();
    let role = fields.role().unwrap_or(Role::User);
    form_page(
        &NewUserPage {
            problem: error.map(|error| message(&page, error)).unwrap_or_default(),
            plans: plan_choices(&open, &PlanId::from(chosen)),
            roles: users::role_choices(&page, Some(role)),
            can_mail: state.mailer.is_on(),
            fields,
            page,
        },
        error,
    )
}

impl NewUserFields {
    /// The chosen role. A word that is none is treated as absent: the new user has the fewest rights.
    fn role(&self) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == self.role)
    }

    fn form(&self, page: &Page) -> Result<NewUserForm, ApiError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let email = NewEmail::try_from(self.email.clone())
            .map_err(|_| ApiError::form_field(page.t("This is not an e-mail address.")))?;
        let username = given(&self.username).map(Username::try_from).transpose();
        let username = username.map_err(|_| {
            let rule =
                page.t("A username has 3 to 32 letters, digits, dots, underscores and hyphens.");
            ApiError::form_field(rule)
        })?;
        Ok(NewUserForm {
            email,
            username,
            plan_id: given(&self.plan),
            role: self.role(),
            send_mail: !self.send_mail.is_empty(),
        })
    }
}

//! `/console/account/sessions`: where the user is logged in. Any session can be ended.

use super::AccountQuery;
use crate::console::error::{PageError, html, redirect};
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::program::Program;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::id::SessionId;
use serde::Deserialize;
use store::sessions::{SessionInfo, SessionKind};
use system::clock;

#[derive(Template)]
#[template(path = "console/account/sessions.html")]
struct SessionsPage {
    page: Page,
    rows: Vec<OwnSessionRow>,
    done: &'static str,
}

/// A session, as its owner sees it.
struct OwnSessionRow {
    id: SessionId,
    kind: &'static str,
    program: String,
    /// Everything that the client said about itself.
    user_agent: String,
    address: String,
    created_at: Time,
    seen_at: Time,
    is_this: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndForm {
    session: SessionId,
}

/// `GET /console/account/sessions`.
pub async fn list(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    Query(query): Query<AccountQuery>,
) -> Result<Response, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let sessions = state.store.sessions_of(current.user.id, clock::now()).await?;
    let rows = sessions.into_iter().map(|session| row(&page, session, current.session));
    let rows = rows.collect();
    html(&SessionsPage { rows, done: done(query.done.as_deref()), page })
}

/// `POST /console/account/sessions/end`.
pub async fn end(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(form): SafeForm<EndForm>,
) -> Result<Response, PageError> {
    let user = signed_in.current.user.id;
    if !state.store.end_session_of(user, form.session).await? {
        return Err(ApiError::NotFound("session").into());
    }
    Ok(redirect("/console/account/sessions?done=ended"))
}

/// `POST /console/account/sessions/end-others`.
pub async fn end_others(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    let current = signed_in.current;
    state.store.end_other_sessions(current.user.id, current.session).await?;
    Ok(redirect("/console/account/sessions?done=others"))
}

fn row(page: &Page, session: SessionInfo, this: SessionId) -> OwnSessionRow {
    let user_agent = session.client.user_agent.unwrap_or_default();
    let kind = match session.kind {
        SessionKind::Console => text("Console"),
        SessionKind::Api => text("API"),
    };
    OwnSessionRow {
        id: session.id,
        kind,
        program: program(page, &user_agent),
        user_agent,
        address: session.client.address.unwrap_or_default(),
        created_at: Time(session.created_at),
        seen_at: Time(session.seen_at),
        is_this: session.id == this,
    }
}

fn program(page: &Page, user_agent: &str) -> String {
    let Program { name, system } = Program::of(user_agent);
    match system {
        Some(system) => page.fill("{} on {}", &[&name, &system]),
        None if name.is_empty() => page.t("Unknown program").to_owned(),
        None => name,
    }
}

/// The text of what was done.
fn done(word: Option<&str>) -> &'static str {
    match word {
        Some("ended") => text("The session has ended."),
        Some("others") => text("All other sessions have ended."),
        _ => "",
    }
}

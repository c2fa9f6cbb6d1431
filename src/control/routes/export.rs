//! `GET /api/v1/users/export`: everything that is stored about the logged-in user, as one JSON document.
//!
//! The document is written while the client reads it, a page of the store at a time: neither a long history nor
//! a slow client takes memory or a connection of the store. If the store fails halfway the reply is cut off, so
//! that it does not look complete.

use super::second_factor::{self, SecondFactorView};
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::openapi::errors::{LoginRequired, RateLimited, Unavailable};
use crate::control::routes::identities::{self, IdentityView};
use crate::control::routes::keys;
use crate::control::routes::sessions::{self, SessionView};
use crate::control::routes::usage::history::ChargeView;
use crate::control::state::ControlState;
use crate::control::views::key::KeyView;
use crate::control::views::upgrade::UpgradeView;
use crate::control::views::user::UserView;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::id::{RequestId, UserId};
use domain::key::Key;
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use store::audit::{AuditEntry, AuditFilter};
use store::reports::HistoryFilter;
use store::{Store, StoreError, all_keys};
use system::clock;
use utoipa::ToSchema;
use uuid::Uuid;

/// Rows that are read and written together.
const PAGE: u32 = 500;

/// Everything that is stored about a user.
#[derive(Serialize, ToSchema)]
pub struct AccountExport {
    #[serde(flatten)]
    head: ExportHead,
    /// Changes of the account, its plan and its keys, newest first within each of them.
    audit: Vec<ExportedChange>,
    /// All calls, newest first.
    usage: Vec<ChargeView>,
}

/// The part of an export whose size is bounded.
#[derive(Serialize, ToSchema)]
pub struct ExportHead {
    exported_at: Timestamp,
    profile: UserView,
    second_factor: SecondFactorView,
    /// All keys without their secrets, including revoked ones.
    keys: Vec<KeyView>,
    sessions: Vec<SessionView>,
    /// Identities at the sign-in provider that are linked.
    identities: Vec<IdentityView>,
    /// Requests for another plan, newest first.
    plan_requests: Vec<UpgradeView>,
}

/// A change of the account or of one of its keys.
#[derive(Serialize, ToSchema)]
pub struct ExportedChange {
    at: Timestamp,
    /// `user:ID`, `operator` or `gateway`.
    #[schema(example = "operator")]
    actor: String,
    #[schema(example = "user.change")]
    action: String,
    subject: String,
    #[schema(required, value_type = Option<Object>)]
    before: Option<Value>,
    #[schema(required, value_type = Option<Object>)]
    after: Option<Value>,
}

/// An export that is being written.
struct ExportStream {
    store: Arc<dyn Store>,
    user: UserId,
    section: Section,
    /// True until the section has a row.
    is_first: bool,
}

/// What is written next.
enum Section {
    Head(Vec<u8>, Vec<String>),
    /// Entries about the last of these subjects, before this entry.
    Audit(Vec<String>, Option<Uuid>),
    Usage(Option<(Timestamp, RequestId)>),
    Done,
}

/// Export your account
///
/// A JSON document with everything that is stored about you: profile, keys without their secrets, requests for
/// other plans, changes, and all calls. It is written as it is read; a document that does not end with `}` was cut off. Limited to a few
/// exports per hour.
#[utoipa::path(get, path = "/api/v1/users/export", tag = "Accounts", security(("token" = [])),
    responses((status = 200, body = AccountExport), LoginRequired, RateLimited, Unavailable))]
pub async fn export(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Response, ApiError> {
    file(&state, &current).await
}

/// The document of the logged-in user as a file.
pub async fn file(state: &ControlState, current: &CurrentUser) -> Result<Response, ApiError> {
    let body = document(state, current).await?;
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = HeaderValue::from_static("attachment; filename=\"knockx-account.json\"");
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// The document of the logged-in user, which is written while it is read.
pub async fn document(state: &ControlState, current: &CurrentUser) -> Result<Body, ApiError> {
    let user = current.user.id;
    state.identity.may_export(user, clock::instant())?;
    let keys = all_keys(&*state.store, user).await?;
    let mut subjects: Vec<String> = keys.iter().map(|key| format!("key:{}", key.id)).collect();
    subjects.push(format!("user:{user}"));
    let head = head(state, current, keys).await?;
    let mut text = serde_json::to_vec(&head).map_err(|_| ApiError::Internal)?;
    // The sections that follow belong to the same object.
    text.pop();
    let export = ExportStream {
        store: Arc::clone(&state.store),
        user,
        section: Section::Head(text, subjects),
        is_first: true,
    };
    Ok(Body::from_stream(stream::try_unfold(export, ExportStream::next)))
}

async fn head(
    state: &ControlState,
    current: &CurrentUser,
    keys: Vec<Key>,
) -> Result<ExportHead, ApiError> {
    let user = current.user.id;
    let last_used = keys::last_used(state, user).await?;
    let plan_requests = state.store.upgrades_of(user, PAGE).await?;
    Ok(ExportHead {
        exported_at: clock::now(),
        profile: UserView::of(state, current.user.clone()).await?,
        second_factor: second_factor::of_user(state, user).await?,
        sessions: sessions::of_user(state, user, Some(current.session)).await?,
        identities: identities::of_user(state, user).await?,
        keys: keys.into_iter().map(|key| KeyView::of(key, &last_used)).collect(),
        plan_requests: plan_requests.into_iter().map(UpgradeView::of).collect(),
    })
}

impl ExportStream {
    /// The next piece of the document, which is not empty; `None` after the last.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let mut text = Vec::new();
        while text.is_empty() && !matches!(self.section, Section::Done) {
            self = self.write(&mut text).await?;
        }
        Ok((!text.is_empty()).then(|| (text.into(), self)))
    }

    async fn write(self, text: &mut Vec<u8>) -> Result<Self, StoreError> {
        match self.section {
            Section::Head(head, subjects) => {
                text.extend(head);
                text.extend(b",\"audit\":[");
                Ok(Self { section: Section::Audit(subjects, None), ..self })
            }
            Section::Audit(subjects, before) => {
                let export = Self { section: Section::Done, ..self };
                export.write_audit(subjects, before, text).await
            }
            Section::Usage(before) => {
                let export = Self { section: Section::Done, ..self };
                export.write_usage(before, text).await
            }
            Section::Done => Ok(self),
        }
    }

    async fn write_audit(
        mut self,
        mut subjects: Vec<String>,
        before: Option<Uuid>,
        text: &mut Vec<u8>,
    ) -> Result<Self, StoreError> {
        let Some(subject) = subjects.pop() else {
            text.extend(b"],\"usage\":[");
            return Ok(Self { section: Section::Usage(None), is_first: true, ..self });
        };
        let filter = AuditFilter { subject: Some(subject.clone()), ..AuditFilter::default() };
        let entries = self.store.audit(&filter, before, PAGE).await?;
        let before = (entries.len() == PAGE as usize).then(|| entries.last().map(|e| e.id));
        for entry in entries {
            self.write_row(&ExportedChange::from(entry), text)?;
        }
        if before.is_some() {
            subjects.push(subject);
        }
        Ok(Self { section: Section::Audit(subjects, before.flatten()), ..self })
    }

    async fn write_usage(
        mut self,
        before: Option<(Timestamp, RequestId)>,
        text: &mut Vec<u8>,
    ) -> Result<Self, StoreError> {
        let filter = HistoryFilter::default();
        let rows = self.store.history(self.user, &filter, before, PAGE).await?;
        let is_last = rows.len() < PAGE as usize;
        let before = rows.last().map(|row| (row.admitted_at, row.request));
        for row in rows {
            self.write_row(&ChargeView::from(row), text)?;
        }
        if is_last {
            text.extend(b"]}\n");
            return Ok(Self { section: Section::Done, ..self });
        }
        Ok(Self { section: Section::Usage(before), ..self })
    }

    fn write_row(&mut self, row: &impl Serialize, text: &mut Vec<u8>) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.is_first) {
            text.push(b',');
        }
        let written = serde_json::to_writer(text, row);
        written.map_err(|error| StoreError::Corrupt(error.to_string()))
    }
}

impl From<AuditEntry> for ExportedChange {
    fn from(entry: AuditEntry) -> Self {
        Self {
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            before: entry.before,
            after: entry.after,
        }
    }
}

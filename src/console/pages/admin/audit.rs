//! The audit log: who changed what, with the values before and after.

use crate::console::error::{PageError, html};
use crate::console::format::Time;
use crate::console::page::Page;
use crate::console::query::{PageQuery, Pager};
use crate::console::session::AdminOrAuditor;
use crate::control::api_error::ApiError;
use crate::control::http::pagination;
use crate::control::state::ControlState;
use crate::control::views::period;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::id::UserId;
use domain::user::{User, normalised_email};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use store::audit::{AuditEntry, AuditFilter};
use uuid::Uuid;

/// The longest value that is shown, in characters.
const LONGEST_VALUE: usize = 300;

#[derive(Template)]
#[template(path = "console/admin/audit.html")]
struct AuditPage {
    page: Page,
    actor: String,
    subject: String,
    action: String,
    from: String,
    to: String,
    entries: Vec<AuditRow>,
    pager: Pager,
}

/// The filters, as the address has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditFilters {
    /// An e-mail address, `user:ID`, `operator` or `gateway`.
    actor: Option<String>,
    /// An e-mail address, or such as `plan:leveler`.
    subject: Option<String>,
    /// Such as `user.change`.
    action: Option<String>,
    /// First day (UTC).
    from: Option<String>,
    /// Last day (UTC).
    to: Option<String>,
    cursor: Option<String>,
}

/// An entry of the log.
pub struct AuditRow {
    pub at: Time,
    pub actor: Named,
    pub action: String,
    pub subject: Named,
    pub changes: Vec<FieldChange>,
    /// The names of the fields that have changed.
    pub summary: String,
    /// The `x-request-id` of the request that made the change, if it was one.
    pub request: String,
}

/// An actor or subject, with its page if it has one.
pub struct Named {
    pub name: String,
    pub link: Option<String>,
}

/// A field whose value has changed.
pub struct FieldChange {
    pub field: String,
    pub before: Option<String>,
    pub after: String,
}

/// `GET /console/admin/audit`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(query): PageQuery<AuditFilters>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let limit = pagination::limit(None)?;
    let before = pagination::cursor::<Uuid>(query.cursor.as_deref())?;
    let first = period::day("from", query.from.as_deref())?;
    let last = period::day("to", query.to.as_deref())?;
    let filter = AuditFilter {
        actor: named_by(&state, query.actor.as_deref()).await?,
        subject: named_by(&state, query.subject.as_deref()).await?,
        action: query.action.clone(),
        from: first.map(|day| day.starts_at(&TimeZone::UTC)),
        until: last.map(|day| day.ends_at(&TimeZone::UTC)),
    };
    let rows = state.store.audit(&filter, before, limit + 1).await?;
    let found = pagination::Page::of(rows, limit, |row| row.id.to_string(), |row| row);
    html(&AuditPage {
        actor: query.actor.unwrap_or_default(),
        subject: query.subject.unwrap_or_default(),
        action: query.action.unwrap_or_default(),
        from: query.from.unwrap_or_default(),
        to: query.to.unwrap_or_default(),
        pager: Pager::new(&page.path, query.cursor.as_deref(), found.next_cursor.as_deref()),
        entries: entries(&state, &page, found.data).await?,
        page,
    })
}

/// The name in the log of what was typed; an e-mail address stands for its user.
async fn named_by(state: &ControlState, typed: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(typed) = typed.map(str::trim) else { return Ok(None) };
    let Ok(email) = normalised_email(typed) else { return Ok(Some(typed.to_owned())) };
    let user = state.store.user_by_email(&email).await?;
    Ok(Some(user.map_or(email, |user| format!("user:{}", user.id))))
}

/// Entries with the e-mail addresses of the users in them.
pub async fn entries(
    state: &ControlState,
    page: &Page,
    rows: Vec<AuditEntry>,
) -> Result<Vec<AuditRow>, ApiError> {
    let names = rows.iter().flat_map(|row| [&row.actor, &row.subject]);
    let mut ids: Vec<UserId> = names.filter_map(|name| user_id(name)).collect();
    ids.sort_unstable();
    ids.dedup();
    let users = state.store.users_by_ids(&ids).await?;
    Ok(rows.into_iter().map(|row| AuditRow::of(page, row, &users)).collect())
}

fn user_id(name: &str) -> Option<UserId> {
    name.strip_prefix("user:")?.parse().ok()
}

impl AuditRow {
    fn of(page: &Page, row: AuditEntry, users: &[User]) -> Self {
        let changes = changes(row.before.as_ref(), row.after.as_ref());
        let fields: Vec<&str> = changes.iter().map(|change| &*change.field).collect();
        Self {
            at: Time(row.at),
            actor: Named::of(page, row.actor, users),
            action: row.action,
            subject: Named::of(page, row.subject, users),
            summary: fields.join(", "),
            changes,
            request: row.request.unwrap_or_default(),
        }
    }
}

impl Named {
    fn of(page: &Page, name: String, users: &[User]) -> Self {
        if let Some(id) = user_id(&name) {
            let user = users.iter().find(|user| user.id == id);
            let link = user.map(|user| format!("/console/admin/users/{}", user.id));
            return Self { name: user.map_or(name, |user| user.email.clone()), link };
        }
        let link = name.strip_prefix("plan:").map(|id| format!("/console/admin/plans/{id}"));
        let name = match &*name {
            "operator" => page.t("operator, by a command").to_owned(),
            "gateway" => page.t("the gateway itself").to_owned(),
            _ => name,
        };
        Self { name, link }
    }
}

/// The fields whose values differ, in the order of the state afterwards.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let fields =
        |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (fields(before), fields(after));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let names = after.keys().chain(gone);
    let changed = names.filter_map(|name| {
        let (old, new) = (before.get(name), after.get(name));
        let is_new = old.is_none() && new.is_none_or(Value::is_null);
        (old != new && !is_new).then(|| FieldChange {
            field: name.clone(),
            before: old.map(shown),
            after: new.map_or_else(|| "–".to_owned(), shown),
        })
    });
    changed.collect()
}

/// A value as people read it.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_shown() {
        let (before, after) =
            (json!({ "a": 1, "b": null, "c": "x" }), json!({ "a": 1, "b": [2], "d": null }));
        let shown = |before, after| -> Vec<(String, Option<String>, String)> {
            let changes = changes(before, after).into_iter();
            changes.map(|change| (change.field, change.before, change.after)).collect()
        };
        let field = |name: &str, before: Option<&str>, after: &str| {
            (name.to_owned(), before.map(str::to_owned), after.to_owned())
        };
        let both = shown(Some(&before), Some(&after));
        assert_eq!(both, [field("b", Some("–"), "[2]"), field("c", Some("x"), "–")]);
        assert_eq!(shown(None, Some(&after)), [field("a", None, "1"), field("b", None, "[2]")]);
        assert_eq!(shown(None, None), []);
        let long = json!({ "a": "é".repeat(1000) });
        assert_eq!(shown(None, Some(&long))[0].2.chars().count(), LONGEST_VALUE + 1);
    }
}

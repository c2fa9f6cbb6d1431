//! Finds a key by its id or its last four characters: whose it is, and to revoke it.

use super::done_sentence;
use crate::console::error::{PageError, html, redirect};
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::query::{PageQuery, without_done};
use crate::console::session::AdminOrAuditor;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::id::UserId;
use domain::key::{Key, PlainKey, has_expired};
use domain::user::User;
use serde::Deserialize;
use system::clock;

/// Keys that are shown. Four characters rarely belong to more.
const SHOWN: u32 = 50;

#[derive(Template)]
#[template(path = "console/admin/keys.html")]
struct FindKeyPage {
    page: Page,
    done: String,
    here: String,
    key: String,
    rows: Vec<FoundKeyRow>,
}

struct FoundKeyRow {
    id: String,
    name: String,
    last_four: String,
    user: String,
    email: String,
    created: Time,
    revoked: Option<Time>,
    has_expired: bool,
}

/// What to look for, as the address has it: never a whole key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFilter {
    key: Option<String>,
    done: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchForm {
    key: Option<String>,
}

/// `GET /console/admin/keys`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(filter): PageQuery<KeysFilter>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let found = match filter.key.as_deref() {
        Some(key) => state.store.find_keys(key, SHOWN).await?,
        None => Vec::new(),
    };
    let owners: Vec<UserId> = found.iter().map(|(user, _)| *user).collect();
    let users = state.store.users_by_ids(&owners).await?;
    html(&FindKeyPage {
        done: done_sentence(&page, filter.done.as_deref()),
        here: without_done(&page.path),
        key: filter.key.unwrap_or_default(),
        rows: found.into_iter().map(|(user, key)| FoundKeyRow::of(key, user, &users)).collect(),
        page,
    })
}

/// `POST /console/admin/keys`. A form, so that a key that is pasted as a whole comes into no address and no log.
pub async fn search(
    _reader: AdminOrAuditor,
    SafeForm(form): SafeForm<SearchForm>,
) -> Result<Response, PageError> {
    let typed = form.key.unwrap_or_default();
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("key", &public_part(typed.trim()))
        .finish();
    Ok(redirect(&format!("/console/admin/keys?{query}")))
}

/// The id in a whole key, or in its beginning; any other text as it is, unless it may hold a secret.
fn public_part(typed: &str) -> String {
    if let Ok(key) = PlainKey::parse(typed) {
        return key.id().to_string();
    }
    let typed = typed.strip_prefix(PlainKey::PREFIX).unwrap_or(typed);
    typed.chars().take_while(char::is_ascii_alphanumeric).take(12).collect()
}

impl FoundKeyRow {
    fn of(key: Key, owner: UserId, users: &[User]) -> Self {
        let user = users.iter().find(|user| user.id == owner);
        Self {
            id: key.id.to_string(),
            name: key.name,
            last_four: key.last_four,
            user: owner.to_string(),
            email: user.map_or_else(|| owner.to_string(), |user| user.email.clone()),
            created: Time(key.created_at),
            revoked: key.revoked_at.map(Time),
            has_expired: has_expired(key.expires_at, clock::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_key_is_cut_down_to_its_id() {
        let key = PlainKey::generate().unwrap();
        let id = key.id().to_string();
        for typed in [key.reveal(), &id, &format!("sk-kx-{id}"), &key.reveal()[..30]] {
            assert_eq!(public_part(typed), id, "{typed}");
        }
        assert_eq!(public_part("x7Qa"), "x7Qa");
        assert_eq!(public_part("<b>"), "");
    }
}

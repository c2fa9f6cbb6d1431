//! The list of a user's keys: those that work, and in pages those that were revoked.

use crate::console::error::{PageError, html};
use crate::console::format::{Time, count};
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Query;
use crate::control::routes::keys;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::key::{Key, has_expired};
use jiff::Timestamp;
use serde::Deserialize;
use std::cmp::Reverse;
use store::all_keys;
use system::clock;

/// Revoked keys of one page.
const REVOKED_PER_PAGE: usize = 20;

#[derive(Template)]
#[template(path = "console/keys/list.html")]
struct KeysPage {
    page: Page,
    /// What was just done; empty if nothing was.
    done: String,
    live: Vec<OwnKeyRow>,
    revoked: Vec<OwnKeyRow>,
    revoked_title: String,
    /// True if the reader has turned a page of the revoked keys.
    shows_revoked: bool,
    newer: Option<usize>,
    older: Option<usize>,
}

/// A key as the list shows it.
struct OwnKeyRow {
    id: String,
    name: String,
    last_four: String,
    limits: Vec<String>,
    models: String,
    created: Time,
    last_used: Option<Time>,
    expires: Option<Time>,
    revoked: Option<Time>,
    has_expired: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyListQuery {
    done: Option<String>,
    /// The page of revoked keys, from 1.
    revoked: Option<usize>,
}

/// `GET /console/keys`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    query: Result<Query<KeyListQuery>, ApiError>,
) -> Result<Response, PageError> {
    let Query(query) = query?;
    let SignedIn { page, current, .. } = signed_in;
    let now = clock::now();
    // Bounded: an account has at most 100 keys that work and 500 revoked ones.
    let all = async { Ok(all_keys(&*state.store, current.user.id).await?) };
    let (all, last_used) = tokio::try_join!(all, keys::last_used(&state, current.user.id))?;
    let row = |key: Key| OwnKeyRow::of(&page, last_used.get(&key.id).copied(), key, now);
    let (mut revoked, live): (Vec<Key>, Vec<Key>) =
        all.into_iter().partition(|key| key.revoked_at.is_some());
    revoked.sort_by_key(|key| Reverse(key.revoked_at));
    let number =
        query.revoked.unwrap_or(1).clamp(1, revoked.len().div_ceil(REVOKED_PER_PAGE).max(1));
    let has_older = revoked.len() > number * REVOKED_PER_PAGE;
    let revoked_title = page.fill("{} revoked keys", &[&revoked.len()]);
    let first = (number - 1) * REVOKED_PER_PAGE;
    html(&KeysPage {
        done: done(&page, query.done.as_deref()),
        live: live.into_iter().map(row).collect(),
        revoked: revoked.into_iter().skip(first).take(REVOKED_PER_PAGE).map(row).collect(),
        revoked_title,
        shows_revoked: query.revoked.is_some(),
        newer: (number > 1).then(|| number - 1),
        older: has_older.then_some(number + 1),
        page,
    })
}

fn done(page: &Page, word: Option<&str>) -> String {
    let sentence = match word {
        Some("changed") => {
            page.t("The key was changed. The change holds from its next request on.")
        }
        Some("revoked") => page.t("The key was revoked. Its next request is refused."),
        _ => "",
    };
    sentence.to_owned()
}

impl OwnKeyRow {
    fn of(page: &Page, last_used: Option<Timestamp>, key: Key, now: Timestamp) -> Self {
        Self {
            limits: limits(page, &key),
            models: models(page, &key),
            has_expired: has_expired(key.expires_at, now),
            id: key.id.to_string(),
            name: key.name,
            last_four: key.last_four,
            created: Time(key.created_at),
            last_used: last_used.map(Time),
            expires: key.expires_at.map(Time),
            revoked: key.revoked_at.map(Time),
        }
    }
}

fn limits(page: &Page, key: &Key) -> Vec<String> {
    let tokens =
        key.limits.tokens_per_day.map(|limit| page.fill("{} tokens a day", &[&count(limit)]));
    let requests =
        key.limits.requests_per_day.map(|limit| page.fill("{} requests a day", &[&count(limit)]));
    let own: Vec<String> = tokens.into_iter().chain(requests).collect();
    if own.is_empty() { vec![page.t("Those of the plan").to_owned()] } else { own }
}

fn models(page: &Page, key: &Key) -> String {
    match key.limits.models.as_deref() {
        None => page.t("All of the plan").to_owned(),
        Some([]) => page.t("None").to_owned(),
        Some(models) => models.join(", "),
    }
}

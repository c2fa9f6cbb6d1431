//! This gateway: its components, queues and version, and the reload of its configuration.

use super::{NoFields, Tag};
use crate::console::error::{PageError, html, refused};
use crate::console::error_text::message;
use crate::console::format::count;
use crate::console::forms::SafeForm;
use crate::console::notice::{Notice, NoticeQuery, noticed};
use crate::console::page::{Page, text};
use crate::console::query::{PageQuery, done};
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::api_error::ApiError;
use crate::control::health::{Phase, Status};
use crate::control::routes::admin::config::{ConfigSection, in_effect};
use crate::control::routes::admin::reload::reload_config;
use crate::control::routes::admin::system::{SystemHealth, of_system};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;

/// This page.
const PATH: &str = "/console/admin/system";

#[derive(Template)]
#[template(path = "console/admin/system.html")]
struct SystemPage {
    page: Page,
    done: String,
    notice: Option<Notice>,
    problem: String,
    status: Tag,
    components: Vec<ComponentCard>,
    facts: Vec<(String, String)>,
    /// The configuration in effect, with secrets masked.
    sections: Vec<ConfigSection>,
}

/// A component that this gateway depends on.
struct ComponentCard {
    name: String,
    status: Tag,
    note: String,
}

/// `GET /console/admin/system`.
pub async fn show(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(query): PageQuery<NoticeQuery>,
) -> Result<Response, PageError> {
    let done = super::done_sentence(&reader.page, query.done.as_deref());
    let notice = query.read(&reader.page, PATH);
    let shown = shown(&state, reader.page, String::new()).await?;
    html(&SystemPage { done, notice, ..shown })
}

/// `POST /console/admin/system/reload`.
pub async fn reload(
    State(state): State<ControlState>,
    admin: AdminOnly,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    admin.confirmed(PATH)?;
    let AdminOnly { page, admin, .. } = admin;
    match reload_config(&state, admin.by).await {
        Ok(need_restart) if need_restart.is_empty() => Ok(done(PATH, "reloaded")),
        Ok(need_restart) => {
            let sentence = page.fill(
                text(
                    "The configuration is reloaded. These settings take effect after a restart: {}",
                ),
                &[&need_restart.join(", ")],
            );
            Ok(noticed(&page, PATH, &Notice { failed: false, sentence }))
        }
        Err(error @ ApiError::ReloadFailed(_)) => {
            let problem = message(&page, &error);
            refused(&shown(&state, page, problem).await?, &error)
        }
        Err(error) => Err(error.into()),
    }
}

async fn shown(state: &ControlState, page: Page, problem: String) -> Result<SystemPage, PageError> {
    let system = of_system(state).await?;
    Ok(SystemPage {
        done: String::new(),
        notice: None,
        problem,
        status: status_tag(&page, system.health.status),
        components: components(&page, &system),
        facts: facts(&page, &system),
        sections: in_effect(state).sections,
        page,
    })
}

fn status_tag(page: &Page, status: Status) -> Tag {
    match status {
        Status::Ok => Tag::new(page, text("in order"), "good"),
        Status::Degraded => Tag::new(page, text("partly failing"), "warn"),
        Status::Unavailable => Tag::new(page, text("unavailable"), "bad"),
    }
}

fn components(page: &Page, system: &SystemHealth) -> Vec<ComponentCard> {
    let all = &system.health.components;
    let connections = &system.store_connections;
    let ms = |latency: f64| page.fill("answers in {} ms", &[&format!("{latency:.1}")]);
    let pool =
        page.fill(text("{} of {} connections in use"), &[&connections.in_use, &connections.max]);
    let backlog = page.fill(
        text("{} charges wait to be written, for {} ms"),
        &[&count(all.ledger.waiting), &count(all.ledger.lag_ms)],
    );
    let component = |name: &str, status, note| ComponentCard {
        name: page.t(name).to_owned(),
        status: status_tag(page, status),
        note,
    };
    let store = format!("{} · {pool}", ms(all.store.latency_ms));
    vec![
        component(text("Database"), all.store.status, store),
        component(text("Quota counters"), all.counters.status, ms(all.counters.latency_ms)),
        component(text("Ledger"), all.ledger.status, backlog),
    ]
}

fn facts(page: &Page, system: &SystemHealth) -> Vec<(String, String)> {
    let phase = match system.health.phase {
        Phase::Starting => text("starting"),
        Phase::Ready => text("ready"),
        Phase::ShuttingDown => text("shutting down: no new calls"),
    };
    let (days, rest) =
        (system.health.uptime_seconds / 86_400, system.health.uptime_seconds % 86_400);
    let uptime = page.fill("{} days {} h {} min", &[&days, &(rest / 3600), &(rest % 3600 / 60)]);
    let fact = |name: &str, value: String| (page.t(name).to_owned(), value);
    vec![
        fact(text("Version"), system.health.version.to_owned()),
        fact(text("Running for"), uptime),
        fact(text("Phase"), page.t(phase).to_owned()),
        fact(text("Running calls"), count(system.open_calls)),
        fact(text("Open streams"), count(system.calls.streams_open)),
        fact(text("Calls that wait for reserved tokens"), count(system.calls.waiting_for_tokens)),
        fact(text("Calls since the start"), count(system.calls.admitted)),
        fact(text("Retries since the start"), count(system.calls.retries)),
        fact(text("Rows written to the ledger since the start"), count(system.usage.written)),
        fact(
            text("Bytes of the journal not yet in the ledger"),
            count(system.usage.journal_behind_bytes),
        ),
        fact(text("Failed writes to the journal"), count(system.usage.journal_failures)),
        fact(text("Counters repaired from the ledger"), count(system.counters.drift_repaired)),
        fact(
            text("Charges that could not be written and were set aside"),
            count(system.dead_entries),
        ),
    ]
}

//! Lines that are shown to all callers for a time.

use super::{Choice, NoFields, Tag, done_sentence};
use crate::console::error::{PageError, form_page};
use crate::console::error_text::message;
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::query::{PageQuery, Pager, done};
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::announcements::{
    AnnouncementForm, AnnouncementPatch, AnnouncementsQuery, add_as, change_as, delete_as,
    page as rows,
};
use crate::control::state::ControlState;
use crate::control::views::announcement::AnnouncementInFull;
use crate::control::views::fields::AnnouncementText;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use store::announcements::Level;
use system::clock;
use uuid::Uuid;

/// This page.
const PATH: &str = "/console/admin/announcements";

#[derive(Template)]
#[template(path = "console/admin/announcements.html")]
struct AnnouncementsPage {
    page: Page,
    done: String,
    problem: String,
    fields: AnnouncementFields,
    levels: Vec<Choice>,
    rows: Vec<AnnouncementRow>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "console/admin/announcement.html")]
struct AnnouncementPage {
    page: Page,
    problem: String,
    id: String,
    fields: AnnouncementFields,
    levels: Vec<Choice>,
}

/// The fields of the form, as typed. Times are in UTC.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnnouncementFields {
    text: String,
    level: String,
    starts_at: String,
    ends_at: String,
}

struct AnnouncementRow {
    id: String,
    text: String,
    level: Tag,
    state: Tag,
    starts: Time,
    ends: Option<Time>,
    has_ended: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnouncementsFilter {
    cursor: Option<String>,
    done: Option<String>,
}

/// `GET /console/admin/announcements`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(filter): PageQuery<AnnouncementsFilter>,
) -> Result<Response, PageError> {
    show_all(&state, reader.page, filter, (AnnouncementFields::default(), None)).await
}

/// `POST /console/admin/announcements`.
pub async fn add(
    State(state): State<ControlState>,
    admin: AdminOnly,
    SafeForm(fields): SafeForm<AnnouncementFields>,
) -> Result<Response, PageError> {
    admin.confirmed(PATH)?;
    let AdminOnly { page, admin, .. } = admin;
    let added = async { add_as(&state, fields.form(&page)?, &admin.by).await };
    match added.await {
        Ok(_) => Ok(done(PATH, "announced")),
        Err(error) => {
            let first = AnnouncementsFilter { cursor: None, done: None };
            show_all(&state, page, first, (fields, Some(&error))).await
        }
    }
}

/// `GET /console/admin/announcements/{id}`.
pub async fn edit(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PathParam(id): PathParam,
) -> Result<Response, PageError> {
    reader.confirmed(&reader.page.path)?;
    let found = find(&state, &id).await?;
    show_one(reader.page, &id, AnnouncementFields::of(&found), None)
}

/// `POST /console/admin/announcements/{id}`.
pub async fn save(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(fields): SafeForm<AnnouncementFields>,
) -> Result<Response, PageError> {
    admin.confirmed(&admin.page.path)?;
    let AdminOnly { page, admin, .. } = admin;
    let saved = async {
        let before = AnnouncementFields::of(&find(&state, &id).await?);
        change_as(&state, &id, fields.patch(&page, &before)?, &admin.by).await
    };
    match saved.await {
        Ok(_) => Ok(done(PATH, "announcement-saved")),
        Err(error @ (ApiError::InvalidValue { .. } | ApiError::FormField(_))) => {
            show_one(page, &id, fields, Some(&error))
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /console/admin/announcements/{id}/end`.
pub async fn end(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    admin.confirmed(PATH)?;
    let by = &admin.admin.by;
    let found = find(&state, &id).await?;
    if found.announcement.starts_at < by.at {
        let ended =
            AnnouncementPatch { ends_at: Some(Some(by.at)), ..AnnouncementPatch::default() };
        change_as(&state, &id, ended, by).await?;
    } else {
        // It was never shown.
        delete_as(&state, &id, by).await?;
    }
    Ok(done(PATH, "announcement-ended"))
}

async fn find(state: &ControlState, id: &str) -> Result<AnnouncementInFull, ApiError> {
    let id: Uuid = id.parse().map_err(|_| ApiError::NotFound("announcement"))?;
    let after = Uuid::from_u128(id.as_u128().saturating_add(1));
    let found = state.store.announcements(Some(after), 1).await?.into_iter().next();
    let found = found.filter(|found| found.id == id).ok_or(ApiError::NotFound("announcement"))?;
    Ok(found.into())
}

async fn show_all(
    state: &ControlState,
    page: Page,
    filter: AnnouncementsFilter,
    (fields, error): (AnnouncementFields, Option<&ApiError>),
) -> Result<Response, PageError> {
    let query =
        AnnouncementsQuery { cursor: filter.cursor.clone(), ..AnnouncementsQuery::default() };
    let found = rows(state, query).await?;
    let now = clock::now();
    form_page(
        &AnnouncementsPage {
            done: done_sentence(&page, filter.done.as_deref()),
            problem: error.map(|error| message(&page, error)).unwrap_or_default(),
            levels: level_choices(&page, &fields.level),
            fields,
            rows: found.data.iter().map(|row| AnnouncementRow::of(&page, row, now)).collect(),
            pager: Pager::new(&page.path, filter.cursor.as_deref(), found.next_cursor.as_deref()),
            page,
        },
        error,
    )
}

fn show_one(
    page: Page,
    id: &str,
    fields: AnnouncementFields,
    error: Option<&ApiError>,
) -> Result<Response, PageError> {
    form_page(
        &AnnouncementPage {
            problem: error.map(|error| message(&page, error)).unwrap_or_default(),
            id: id.to_owned(),
            levels: level_choices(&page, &fields.level),
            fields,
            page,
        },
        error,
    )
}

fn level_choices(page: &Page, chosen: &str) -> Vec<Choice> {
    let choice = |level: Level| {
        let is_chosen = level.as_str() == chosen;
        Choice::new(level.as_str(), page.t(level_name(level)), is_chosen)
    };
    [Level::Info, Level::Warning].map(choice).into()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => text("notice"),
        Level::Warning => text("warning"),
    }
}

impl AnnouncementFields {
    fn of(found: &AnnouncementInFull) -> Self {
        let announcement = &found.announcement;
        let typed =
            |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M").to_string();
        Self {
            text: announcement.text.clone(),
            level: announcement.level.as_str().to_owned(),
            starts_at: typed(announcement.starts_at),
            ends_at: announcement.ends_at.map(typed).unwrap_or_default(),
        }
    }

    fn form(&self, page: &Page) -> Result<AnnouncementForm, ApiError> {
        Ok(AnnouncementForm {
            text: self.text(page)?,
            level: Some(self.level()),
            starts_at: time(page, &self.starts_at)?,
            ends_at: time(page, &self.ends_at)?,
        })
    }

    /// The changes to an announcement; `before` has its fields. The form has no seconds, so times that are the
    /// same are left as they are.
    fn patch(&self, page: &Page, before: &Self) -> Result<AnnouncementPatch, ApiError> {
        let starts_at = time(page, &self.starts_at)?;
        let ends_at = time(page, &self.ends_at)?;
        Ok(AnnouncementPatch {
            text: Some(self.text(page)?),
            level: Some(self.level()),
            starts_at: starts_at.filter(|_| self.starts_at != before.starts_at),
            ends_at: (self.ends_at != before.ends_at).then_some(ends_at),
        })
    }

    fn text(&self, page: &Page) -> Result<AnnouncementText, ApiError> {
        let text = AnnouncementText::try_from(self.text.replace("\r\n", "\n"));
        text.map_err(|_| ApiError::form_field(page.t("A text has 1 to 500 visible characters.")))
    }

    fn level(&self) -> Level {
        if self.level == Level::Warning.as_str() { Level::Warning } else { Level::Info }
    }
}

/// A time of UTC as a browser's field sends it; `None` if it is empty.
fn time(page: &Page, typed: &str) -> Result<Option<Timestamp>, ApiError> {
    if typed.is_empty() {
        return Ok(None);
    }
    let time = typed.parse::<DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC));
    let time = time.map(|time| Some(time.timestamp()));
    time.map_err(|_| ApiError::form_field(page.t("Enter times such as 2026-11-27T02:00, in UTC.")))
}

impl AnnouncementRow {
    fn of(page: &Page, row: &AnnouncementInFull, now: Timestamp) -> Self {
        let announcement = &row.announcement;
        let has_ended = announcement.ends_at.is_some_and(|end| end <= now);
        let state = if has_ended {
            Tag::new(page, text("ended"), "")
        } else if announcement.starts_at > now {
            Tag::new(page, text("not yet shown"), "warn")
        } else {
            Tag::new(page, text("shown now"), "good")
        };
        let class = if announcement.level == Level::Warning { "warn" } else { "" };
        Self {
            id: announcement.id.to_string(),
            text: announcement.text.clone(),
            level: Tag::new(page, level_name(announcement.level), class),
            state,
            starts: Time(announcement.starts_at),
            ends: announcement.ends_at.map(Time),
            has_ended,
        }
    }
}

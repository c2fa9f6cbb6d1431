//! The form with the settings of a key: name, limits, models and expiry. Creating and changing a key share it.

use crate::console::format::count;
use crate::console::page::Page;
use crate::control::state::ControlState;
use crate::control::views::fields::Label;
use crate::control::views::limits::{ModelId, ModelNames, RequestsPerDay, TokensPerDay};
use crate::control::views::period;
use askama::Template;
use domain::day::Day;
use domain::key::{Key, has_expired};
use domain::plan::PlanLimits;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/keys/form.html")]
pub struct KeyFormPage {
    page: Page,
    /// The id of the key to change; empty for a new one.
    id: String,
    problem: String,
    fields: KeyFields,
    models: Vec<ModelBox>,
    plan_limits: String,
}

/// A model that can be ticked.
struct ModelBox {
    id: Arc<str>,
    is_ticked: bool,
    /// True for a model that the key has, but the plan does not.
    is_outside: bool,
}

/// The fields as they were entered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    tokens: String,
    #[serde(default)]
    requests: String,
    /// `all` models of the plan, or `some`.
    #[serde(default)]
    scope: String,
    #[serde(default)]
    models: Vec<String>,
    /// The last day, in UTC.
    #[serde(default)]
    expires_on: String,
}

/// What the fields say.
pub struct Settings {
    pub name: String,
    pub tokens_per_day: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub models: Option<ModelNames>,
    pub expires_at: Option<Timestamp>,
}

impl KeyFormPage {
    /// The form for a new key, or for the key with this id.
    pub fn new(
        page: Page,
        state: &ControlState,
        limits: &PlanLimits,
        (id, fields): (String, KeyFields),
        problem: String,
    ) -> Self {
        Self {
            models: boxes(state, limits, &fields.models),
            plan_limits: page.fill(
                "Empty: only the limits of your account, {} tokens and {} requests a day.",
                &[&count(limits.tokens_per_day), &count(limits.requests_per_day)],
            ),
            page,
            id,
            problem,
            fields,
        }
    }
}

/// The models of the plan, and those that are chosen.
fn boxes(state: &ControlState, limits: &PlanLimits, chosen: &[String]) -> Vec<ModelBox> {
    let offered = state.models_within(limits);
    let is_ticked = |id: &str| chosen.iter().any(|chosen| chosen == id);
    let outside = chosen.iter().filter(|id| !offered.iter().any(|model| **model == ***id));
    let outside =
        outside.map(|id| ModelBox { id: id.as_str().into(), is_ticked: true, is_outside: true });
    let offered = offered.iter().map(|id| ModelBox {
        is_ticked: is_ticked(id),
        id: Arc::clone(id),
        is_outside: false,
    });
    offered.chain(outside).collect()
}

impl KeyFields {
    /// Empty fields.
    pub fn empty() -> Self {
        Self { scope: "all".to_owned(), ..Self::default() }
    }

    /// The fields of a key.
    pub fn of(key: &Key) -> Self {
        let text = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        let models = key.limits.models.as_deref();
        Self {
            name: key.name.clone(),
            tokens: text(key.limits.tokens_per_day),
            requests: text(key.limits.requests_per_day),
            scope: if models.is_some() { "some" } else { "all" }.to_owned(),
            models: models.unwrap_or_default().iter().map(ToString::to_string).collect(),
            expires_on: key.expires_at.map(|at| last_day(at).to_string()).unwrap_or_default(),
        }
    }

    /// Reads the fields; `before` is the key that they change. The error says what is wrong.
    pub fn read(
        &self,
        page: &Page,
        before: Option<&Key>,
        now: Timestamp,
    ) -> Result<Settings, String> {
        let Label(name) = Label::try_from(self.name.clone())
            .map_err(|_| page.t("A name has 1 to 64 visible characters.").to_owned())?;
        let tokens = limit(&self.tokens)
            .and_then(|limit| limit.map(TokensPerDay::try_from).transpose().map_err(|_| ()));
        let tokens = tokens.map_err(|()| {
            page.t("Tokens per day must be a whole number up to 1,000,000,000,000.").to_owned()
        })?;
        let requests = limit(&self.requests)
            .and_then(|limit| limit.map(RequestsPerDay::try_from).transpose().map_err(|_| ()));
        let requests = requests.map_err(|()| {
            page.t("Requests per day must be a whole number up to 1,000,000,000.").to_owned()
        })?;
        Ok(Settings {
            name,
            tokens_per_day: tokens.map(|limit| limit.0),
            requests_per_day: requests.map(|limit| limit.0),
            models: self.read_models(page)?,
            expires_at: self.read_expiry(page, before, now)?,
        })
    }

    /// Never more models than the person may have meant.
    fn read_models(&self, page: &Page) -> Result<Option<ModelNames>, String> {
        match (self.scope.as_str(), self.models.is_empty()) {
            ("all", true) => return Ok(None),
            ("some", false) => {}
            ("some", true) => {
                return Err(page.t("Tick at least one model, or choose all models.").to_owned());
            }
            _ => {
                return Err(page
                    .t("Choose all models, or tick some and choose only these.")
                    .to_owned());
            }
        }
        let ids: Result<Vec<_>, _> = self.models.iter().cloned().map(ModelId::try_from).collect();
        let names = ids.ok().and_then(|ids| ModelNames::try_from(ids).ok());
        names.map(Some).ok_or_else(|| page.t("This is not a list of models.").to_owned())
    }

    /// A day that was not touched leaves the expiry as it is, to the second.
    fn read_expiry(
        &self,
        page: &Page,
        before: Option<&Key>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, String> {
        let known = before.and_then(|key| key.expires_at);
        if self.expires_on.is_empty() {
            return Ok(None);
        }
        let day = period::day("expires_on", Some(&self.expires_on)).ok().flatten();
        let day = day
            .ok_or_else(|| page.t("The last day must be a date such as 2027-01-31.").to_owned())?;
        if known.is_some_and(|known| last_day(known) == day) {
            return Ok(known);
        }
        let expires_at = day.ends_at(&TimeZone::UTC);
        if has_expired(Some(expires_at), now) {
            return Err(page.t("The last day must not be in the past.").to_owned());
        }
        Ok(Some(expires_at))
    }
}

/// A number, which people also write with separators. Empty = none.
fn limit(text: &str) -> Result<Option<u64>, ()> {
    let digits: String = text.chars().filter(|c| !matches!(c, ',' | ' ' | '_')).collect();
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().map(Some).map_err(|_| ())
    } else {
        Err(())
    }
}

/// The last day in UTC on which a key with this expiry works.
fn last_day(expires_at: Timestamp) -> Day {
    let before = expires_at.checked_sub(SignedDuration::from_millis(1)).unwrap_or(expires_at);
    Day::at(before, &TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::key::KeyLimits;

    fn read(change: impl FnOnce(&mut KeyFields)) -> Result<Settings, String> {
        let mut fields = KeyFields { name: "laptop".to_owned(), ..KeyFields::empty() };
        change(&mut fields);
        fields.read(&Page::default(), None, "2026-11-27T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn numbers_and_days_are_read_as_people_write_them() {
        let settings = read(|fields| {
            (fields.tokens, fields.requests) = ("10,000".to_owned(), " 50".to_owned());
            fields.expires_on = "2026-11-27".to_owned();
        });
        let settings = settings.unwrap();
        assert_eq!((settings.tokens_per_day, settings.requests_per_day), (Some(10_000), Some(50)));
        assert_eq!(settings.expires_at, Some("2026-11-28T00:00:00Z".parse().unwrap()));
        let nothing = read(|_| ()).unwrap();
        assert_eq!((nothing.tokens_per_day, nothing.expires_at), (None, None));
        for bad in ["-1", "1.5", "ten", "99999999999999", "99999999999999999999999"] {
            assert!(read(|fields| fields.tokens = bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["2026-11-26", "tomorrow", "10000-01-01"] {
            assert!(read(|fields| fields.expires_on = bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_form_never_gives_more_models_than_it_says() {
        let models = |scope: &str, models: &[&str]| {
            read(|fields| {
                fields.scope = scope.to_owned();
                fields.models = models.iter().map(|&id| id.to_owned()).collect();
            })
            .map(|settings| settings.models.map(|names| names.0.len()))
        };
        assert_eq!(models("all", &[]), Ok(None));
        assert_eq!(models("some", &["a", "b"]), Ok(Some(2)));
        assert!(models("some", &[]).is_err());
        assert!(models("all", &["a"]).is_err());
        assert!(models("", &["a"]).is_err() && models("", &[]).is_err());
        assert!(models("some", &["no model"]).is_err());
    }

    #[test]
    fn a_day_that_is_not_touched_changes_nothing() {
        let expires_at = "2026-11-01T12:34:56Z".parse().unwrap();
        let key = Key {
            id: "0123456789ab".into(),
            name: "old".to_owned(),
            last_four: "wxyz".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Some(expires_at),
            revoked_at: None,
            limits: KeyLimits::default(),
        };
        let fields = KeyFields::of(&key);
        assert_eq!(fields.expires_on, "2026-11-01");
        let now = "2026-11-27T10:00:00Z".parse().unwrap();
        let settings = fields.read(&Page::default(), Some(&key), now).unwrap();
        assert_eq!(settings.expires_at, Some(expires_at), "although it has expired");
        assert_eq!(last_day("2026-11-02T00:00:00Z".parse().unwrap()).to_string(), "2026-11-01");
    }
}

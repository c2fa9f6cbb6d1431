//! The filters of the list of calls, which live in its address.

use crate::console::page::Page;
use crate::control::routes::usage::history::HistoryQuery;
use crate::control::views::period::Period;
use domain::charge::Status;
use domain::day::Day;
use domain::id::KeyId;
use serde::Deserialize;

/// The parameters of the address. Those of a form that was left empty are empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallFilters {
    pub from: String,
    pub to: String,
    pub key: String,
    pub model: String,
    pub status: String,
    #[serde(alias = "request_id")]
    pub request: String,
    pub cursor: String,
}

/// What the parameters say.
pub struct Filters {
    /// The days; the thirty days until today if none are given.
    pub period: Period,
    /// True if a request is looked for on whatever day.
    pub is_any_day: bool,
    status: Option<Status>,
}

impl CallFilters {
    /// Reads the parameters. The error says what is wrong.
    pub fn read(&self, page: &Page, today: Day) -> Result<Filters, String> {
        let status = match self.status.as_str() {
            "" => None,
            word => {
                let known = Status::ALL.into_iter().find(|status| status.as_str() == word);
                Some(
                    known
                        .ok_or_else(|| page.t("There is no such outcome of a call.").to_owned())?,
                )
            }
        };
        let period = Period::asked(given(&self.from), given(&self.to), today);
        let period = period.map_err(|_| {
            page.t("The days must be dates such as 2026-11-30, the first not after the last, and at most 366 days.").to_owned()
        })?;
        let is_any_day = !self.request.is_empty() && self.from.is_empty() && self.to.is_empty();
        Ok(Filters { period, is_any_day, status })
    }

    /// The same filters as the JSON API has, for a page of `limit` rows.
    pub fn history(&self, filters: &Filters, limit: u32) -> HistoryQuery {
        let day = |day: Day| (!filters.is_any_day).then(|| day.to_string());
        let text = |text: &str| given(text).map(str::to_owned);
        HistoryQuery {
            from: day(filters.period.from),
            to: day(filters.period.to),
            model: text(&self.model),
            status: filters.status,
            key: given(&self.key).map(KeyId::from),
            request_id: text(self.request.trim()),
            limit: Some(limit),
            cursor: text(&self.cursor),
            format: None,
        }
    }

    /// True if the calls are narrowed by more than their days and model.
    pub fn is_narrowed(&self) -> bool {
        [&self.key, &self.status, &self.request].into_iter().any(|text| !text.is_empty())
    }

    /// True if anything but the days is chosen.
    pub fn has_filters(&self) -> bool {
        self.is_narrowed() || !self.model.is_empty()
    }

    /// The address `path` with these filters, at the page of `cursor`.
    pub fn address(&self, path: &str, cursor: Option<&str>) -> String {
        let pairs = [
            ("from", self.from.as_str()),
            ("to", &self.to),
            ("key", &self.key),
            ("model", &self.model),
            ("status", &self.status),
            ("request", &self.request),
            ("cursor", cursor.unwrap_or_default()),
        ];
        let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> CallFilters {
        CallFilters {
            model: "grok & co".to_owned(),
            status: "failed".to_owned(),
            ..CallFilters::default()
        }
    }

    #[test]
    fn the_address_keeps_the_filters_and_no_empty_ones() {
        assert_eq!(CallFilters::default().address("/console/usage", None), "/console/usage");
        let address = query().address("/console/usage", Some("1.req_2"));
        assert_eq!(address, "/console/usage?model=grok+%26+co&status=failed&cursor=1.req_2");
        let earlier = CallFilters { cursor: "old".to_owned(), ..query() };
        assert!(!earlier.address("/console/usage", None).contains("old"));
    }

    #[test]
    fn a_request_is_looked_for_on_any_day() {
        let today = "2026-11-27".parse().unwrap();
        let read = |query: &CallFilters| {
            let filters = query.read(&Page::default(), today).unwrap();
            let history = query.history(&filters, 50);
            (history.from, history.to)
        };
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(read(&query()), (day("2026-10-29"), day("2026-11-27")));
        let request = CallFilters { request: "req_1".to_owned(), ..query() };
        assert_eq!(read(&request), (None, None));
        let on_a_day = CallFilters { from: "2026-11-01".to_owned(), ..request };
        assert_eq!(read(&on_a_day), (day("2026-11-01"), day("2026-11-27")));
    }

    #[test]
    fn wrong_filters_are_named() {
        let today = "2026-11-27".parse().unwrap();
        let problem = |query: CallFilters| query.read(&Page::default(), today).err().unwrap();
        let status = CallFilters { status: "done".to_owned(), ..CallFilters::default() };
        assert!(problem(status).contains("outcome"));
        for (from, to) in [("yesterday", ""), ("2026-11-28", ""), ("2020-01-01", "2026-01-01")] {
            let (from, to) = (from.to_owned(), to.to_owned());
            assert!(problem(CallFilters { from, to, ..CallFilters::default() }).contains("366"));
        }
    }
}

//! `GET /api/v1/usage/daily`: today by hour and model, in hours of the plan's time zone.

use super::live;
use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::openapi::errors::{Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::usage::{ModelSums, SumsView};
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use std::collections::BTreeMap;
use store::reports::Sums;
use system::clock;
use utoipa::ToSchema;

/// The start of a quarter of an hour, a model, and its totals.
type Row = (Timestamp, String, Sums);

/// Usage of a day by hour.
#[derive(Serialize, ToSchema)]
pub struct DailyUsage {
    #[schema(value_type = String, format = Date)]
    day: Day,
    total: SumsView,
    hours: Vec<Hour>,
}

/// Totals of one hour; `models` is empty without calls.
#[derive(Serialize, ToSchema)]
pub struct Hour {
    starts_at: Timestamp,
    total: SumsView,
    models: Vec<ModelSums>,
}

/// Get today's usage by hour and model
///
/// Day and hours are those of the plan's time zone.
#[utoipa::path(get, path = "/api/v1/usage/daily", tag = "Usage",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = DailyUsage), Unauthenticated, Unavailable))]
pub async fn daily(
    State(state): State<ControlState>,
    credential: AnyCredential,
) -> Result<Json<DailyUsage>, ApiError> {
    let now = state.quota.now(clock::now());
    let zone = live::limits(&state, &credential).await?.time_zone;
    let day = Day::at(now, &zone);
    let rows = state.store.usage_by_quarter_hour(credential.user_id(), day).await?;
    let total: Sums = rows.iter().map(|(_, _, sums)| sums).sum();
    let hours = hours(day, &zone, now, &rows);
    Ok(Json(DailyUsage { day, total: total.into(), hours }))
}

/// Every hour of the zone's clock that has begun. Calls that were charged to the day outside of it, as
/// when the plan's zone has changed since, add hours before it, so that hours always make up the total.
fn hours(day: Day, zone: &TimeZone, now: Timestamp, rows: &[Row]) -> Vec<Hour> {
    let begins = day.starts_at(zone);
    let first = rows.first().map_or(begins, |row| begins.min(row.0));
    let last = rows.last().map_or(now, |row| now.max(row.0));
    let next = |start: &Timestamp| hour_ends(*start, zone);
    let starts = std::iter::successors(Some(first), next).take_while(|start| *start <= last);
    starts.map(|start| hour(start, hour_ends(start, zone), rows)).collect()
}

/// The end of the hour of the zone's clock that `at` lies in. An hour in which the clock is changed is
/// two: one until the change, one from it on.
fn hour_ends(at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let local = zone.to_datetime(at);
    let passed = i64::from(local.minute()) * 60 + i64::from(local.second());
    let full = at.checked_add((3600 - passed).seconds()).ok()?;
    let change = zone.following(at).next().map(|change| change.timestamp());
    Some(change.map_or(full, |change| full.min(change)))
}

fn hour(starts_at: Timestamp, ends_at: Option<Timestamp>, rows: &[Row]) -> Hour {
    let ends_at = ends_at.unwrap_or(Timestamp::MAX);
    let inside = |row: &&Row| row.0 >= starts_at && row.0 < ends_at;
    let rows: Vec<_> = rows.iter().filter(inside).collect();
    let total: Sums = rows.iter().map(|(_, _, sums)| sums).sum();
    Hour { starts_at, total: total.into(), models: by_model(&rows) }
}

/// Sums of the quarters together, by model.
fn by_model(rows: &[&Row]) -> Vec<ModelSums> {
    let mut models: BTreeMap<&str, Vec<&Sums>> = BTreeMap::new();
    for (_, model, sums) in rows {
        models.entry(model).or_default().push(sums);
    }
    let shown = |(model, sums): (&str, Vec<&Sums>)| {
        let sums: Sums = sums.into_iter().sum();
        ModelSums { model: model.to_owned(), sums: sums.into() }
    };
    models.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whole hours, half hours, quarters; clocks that change by an hour, half an hour, at midnight.
    const ZONES: [&str; 10] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Pacific/Chatham",
        "America/Santiago",
        "Africa/Cairo",
    ];

    fn row(at: Timestamp, prompt: u64) -> Row {
        let quarter = Timestamp::from_second(at.as_second().div_euclid(900) * 900).unwrap();
        let model = format!("model-{}", prompt % 3);
        (quarter, model, Sums { calls: 1, requests: 1, prompt, ..Sums::default() })
    }

    /// The hours of a whole day, as local times with the length of each in minutes.
    fn local_hours(zone: &str, day: &str) -> Vec<(String, i64)> {
        let (zone, day) = (TimeZone::get(zone).unwrap(), day.parse::<Day>().unwrap());
        let ends = day.ends_at(&zone);
        let last = ends.checked_sub(1.second()).unwrap();
        let hours = hours(day, &zone, last, &[]);
        let starts: Vec<Timestamp> = hours.iter().map(|hour| hour.starts_at).collect();
        let ends = starts[1..].iter().copied().chain([ends]);
        let minutes = |(start, end): (&Timestamp, Timestamp)| {
            let local = zone.to_datetime(*start);
            let length = (end.as_second() - start.as_second()) / 60;
            (format!("{:02}:{:02}", local.hour(), local.minute()), length)
        };
        starts.iter().zip(ends).map(minutes).collect()
    }

    #[test]
    fn hours_are_those_of_the_zones_clock() {
        for (zone, day, count) in [
            ("Asia/Kolkata", "2026-09-01", 24),
            ("Asia/Kathmandu", "2026-09-01", 24),
            ("Europe/Berlin", "2026-03-29", 23),
            ("Europe/Berlin", "2026-10-25", 25),
            ("America/Santiago", "2026-09-06", 23),
        ] {
            let hours = local_hours(zone, day);
            assert_eq!(hours.len(), count, "{zone} {day}");
            assert!(hours.iter().all(|(start, length)| start.ends_with(":00") && *length == 60));
        }
        // Back by half an hour at two: what has two names is two.
        let hours = local_hours("Australia/Lord_Howe", "2026-04-05");
        let named = |start: &str, length| (start.to_owned(), length);
        assert_eq!(hours[1..4], [named("01:00", 60), named("01:30", 30), named("02:00", 60)]);
        assert_eq!(hours.iter().map(|(_, length)| length).sum::<i64>(), 24 * 60 + 30);
        // On by half an hour at two.
        let hours = local_hours("Australia/Lord_Howe", "2026-10-04");
        assert_eq!(hours[1..4], [named("01:00", 60), named("02:30", 30), named("03:00", 60)]);
    }

    proptest! {
        #[test]
        fn hours_always_make_up_the_total(
            zone in 0..ZONES.len(),
            now in 1_750_000_000_i64..1_850_000_000,
            calls in prop::collection::vec((-100_000_i64..100_000, 0_u64..1000), 0..40),
        ) {
            let zone = TimeZone::get(ZONES[zone]).unwrap();
            let now = Timestamp::from_second(now).unwrap();
            let day = Day::at(now, &zone);
            // Some were charged to the day in another zone.
            let at = |(offset, _): &(i64, u64)| now.checked_add(offset.seconds()).unwrap();
            let mut rows: Vec<Row> = calls.iter().map(|call| row(at(call), call.1)).collect();
            rows.sort_by_key(|row| row.0);
            let hours = hours(day, &zone, now, &rows);
            let shown = serde_json::to_value(&hours).unwrap();
            let sum = |of: &str| -> u64 {
                let hours = shown.as_array().unwrap().iter();
                hours.map(|hour| hour["total"][of].as_u64().unwrap()).sum()
            };
            prop_assert_eq!(sum("calls"), rows.len() as u64);
            let models = shown.as_array().unwrap().iter().flat_map(|h| h["models"].as_array().unwrap());
            let prompts: u64 = models.map(|m| m["tokens"]["prompt"].as_u64().unwrap()).sum();
            prop_assert_eq!(prompts, calls.iter().map(|call| call.1).sum::<u64>());
            let starts: Vec<i64> = hours.iter().map(|hour| hour.starts_at.as_second()).collect();
            prop_assert!(starts.windows(2).all(|pair| (1..=3600).contains(&(pair[1] - pair[0]))));
            prop_assert!(starts.iter().all(|start| start % 900 == 0));
            prop_assert!(starts.contains(&day.starts_at(&zone).as_second()));
        }
    }
}

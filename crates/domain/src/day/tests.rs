//! Days, in every time zone there is, over every kind of clock change.

use super::Day;
use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, tz};
use proptest::prelude::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn zones() -> Vec<TimeZone> {
    let names = tz::db().available();
    let zones: Vec<TimeZone> = names.map(|name| zone(name.as_str())).collect();
    assert!(zones.len() > 400, "the zones are there");
    zones
}

/// A day ends after every instant in it, and the next one begins there.
fn check(now: Timestamp, zone: &TimeZone) {
    let day = Day::at(now, zone);
    let end = day.ends_at(zone);
    assert!(now < end, "{now} in {day} of {zone:?}");
    let next = Day::at(end, zone);
    assert!(next > day, "{day} then {next} in {zone:?}");
    let last = end - SignedDuration::from_nanos(1);
    assert_eq!(Day::at(last, zone), day, "the last instant in {zone:?}");
}

#[test]
fn every_zone_every_half_hour_around_its_clock_changes() {
    let from: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    for zone in zones() {
        check(from, &zone);
        for change in zone.following(from).take(6) {
            for half_hours in -60..=60 {
                check(change.timestamp() + SignedDuration::from_mins(30 * half_hours), &zone);
            }
        }
    }
}

#[test]
fn a_midnight_that_is_skipped_gives_a_day_of_23_hours() {
    // Beirut goes from 00:00 to 01:00.
    let beirut = zone("Asia/Beirut");
    let eve = Day(date(2025, 3, 29));
    assert_eq!(
        eve.ends_at(&beirut),
        "2025-03-30T01:00+03[Asia/Beirut]".parse::<jiff::Zoned>().unwrap().timestamp()
    );
    let change = Day(date(2025, 3, 30));
    assert_eq!(
        change.ends_at(&beirut).duration_since(eve.ends_at(&beirut)),
        SignedDuration::from_hours(23)
    );
}

#[test]
fn a_midnight_that_comes_twice_ends_the_day_once() {
    // Havana goes back from 01:00 to 00:00.
    let havana = zone("America/Havana");
    let day = Day(date(2025, 11, 1));
    let end = day.ends_at(&havana);
    assert_eq!(Day::at(end - SignedDuration::from_secs(1), &havana), day);
    assert_eq!(Day::at(end, &havana), Day(date(2025, 11, 2)));
}

#[test]
fn a_day_that_never_was_is_left_out() {
    // Apia went from the 29th straight to the 31st.
    let apia = zone("Pacific/Apia");
    let end = Day(date(2011, 12, 29)).ends_at(&apia);
    assert_eq!(Day::at(end, &apia), Day(date(2011, 12, 31)));
    check(end - SignedDuration::from_secs(1), &apia);
}

#[test]
fn text_reads_back() {
    let day = Day(date(2026, 1, 2));
    assert_eq!(day.to_string(), "2026-01-02");
    assert_eq!("2026-01-02".parse::<Day>().unwrap(), day);
    for text in ["", "2026-13-01", "2026-02-30", "yesterday", "2026-01-02x"] {
        assert!(text.parse::<Day>().is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_instant_in_any_zone(
        // 1990 to 2050.
        seconds in 631_152_000_i64..2_524_608_000,
        at in any::<prop::sample::Index>(),
    ) {
        let zones = zones();
        check(Timestamp::from_second(seconds).unwrap(), at.get(&zones));
    }
}

use super::*;
use crate::cli::demo::settings;
use crate::config::{self, Config};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A Wednesday.
const NOW: &str = "2026-03-25T10:00:00Z";

fn demo_config() -> Config {
    let listen = ([127, 0, 0, 1], 0).into();
    let text = settings(listen, Path::new("/nowhere"), "http://127.0.0.1:1");
    config::load_from(Some(("demo.toml", &text)), &config::logging_variables()).unwrap()
}

fn members() -> Vec<Member<'static>> {
    let member =
        |profile| Member { profile, user: UserId::new(), key: KeyId::from("aaaaaaaaaaaa") };
    PROFILES.iter().map(member).collect()
}

fn charges(members: &[Member<'_>], now: &str) -> Vec<Charge> {
    let config = demo_config();
    let made = entries(members, &config.plans, &config.catalog, now.parse().unwrap());
    let charge = |entry| match entry {
        Entry::Settle(charge) => charge,
        Entry::Adjust(_) => panic!("an adjustment"),
    };
    made.into_iter().map(charge).collect()
}

fn calls_by_day(charges: &[Charge]) -> BTreeMap<Day, usize> {
    let mut days = BTreeMap::new();
    for charge in charges {
        *days.entry(charge.day).or_default() += 1;
    }
    days
}

#[test]
fn a_day_gets_the_same_calls_whenever_it_is_filled() {
    let members = members();
    let first = charges(&members, NOW);
    assert_eq!(first, charges(&members, NOW));
    let (days, later) = (calls_by_day(&first), charges(&members, "2026-03-26T23:59:59Z"));
    let unique: BTreeSet<_> = first.iter().map(|charge| charge.request).collect();
    assert_eq!(unique.len(), first.len());
    assert_eq!(days.len(), usize::from(DAYS));
    assert_eq!(*days.last_key_value().unwrap().0, "2026-03-24".parse().unwrap(), "not today");
    assert_eq!(calls_by_day(&later).len(), usize::from(DAYS));
    assert!(first.is_sorted_by_key(|charge| charge.admitted_at));
}

#[test]
fn no_user_exceeds_its_plan_and_every_row_is_marked() {
    let (members, config) = (members(), demo_config());
    let mut used: BTreeMap<(UserId, Day), (u64, u64)> = BTreeMap::new();
    for charge in charges(&members, NOW) {
        assert_eq!(&*charge.upstream, UPSTREAM);
        assert_eq!(Day::at(charge.admitted_at, &jiff::tz::TimeZone::UTC), charge.day);
        assert!(charge.tokens.cached <= charge.tokens.prompt);
        let sums = used.entry((charge.user, charge.day)).or_default();
        *sums = (sums.0 + charge.tokens.total(), sums.1 + u64::from(charge.counted));
    }
    for ((user, day), (tokens, requests)) in used {
        let member = members.iter().find(|member| member.user == user).unwrap();
        let plan = config.plans.iter().find(|plan| *plan.id.0 == *member.profile.plan).unwrap();
        let email = member.profile.email;
        assert!(tokens <= plan.limits.tokens_per_day, "{email} on {day}: {tokens} tokens");
        assert!(requests <= plan.limits.requests_per_day, "{email} on {day}: {requests} requests");
    }
}

#[test]
fn use_grows_and_rests_at_weekends_and_some_calls_fail() {
    let charges = charges(&members(), NOW);
    let days = calls_by_day(&charges);
    let of = |day: &str| days[&day.parse().unwrap()];
    // Mondays to Thursdays of the first and the last week, and a weekend between two of its weekdays.
    let first = of("2026-02-23") + of("2026-02-24") + of("2026-02-25") + of("2026-02-26");
    let last = of("2026-03-18") + of("2026-03-19") + of("2026-03-23") + of("2026-03-24");
    assert!(last * 10 > first * 14, "{first} and {last}");
    assert!(of("2026-03-21") * 10 < of("2026-03-19") * 8, "a Saturday after a Thursday");
    let with = |status| charges.iter().filter(|charge| charge.status == status).count();
    let failed = with(Status::Failed) + with(Status::CutByUpstream);
    assert!(failed > 0 && failed * 20 < charges.len(), "{failed} of {}", charges.len());
    assert!(with(Status::CutByClient) > 0 && with(Status::CutByQuota) > 0);
    let night = charges.iter().filter(|charge| charge.admitted_at.to_string()[11..13] < *"06");
    assert!(night.count() * 10 < charges.len(), "most calls come by day");
    assert!((1_500..4_000).contains(&charges.len()), "{}", charges.len());
}

//! Made-up usage of the days before the demo, so that its pages have something to show. The same day always gets the
//! same calls.

use super::accounts::CALLER;
use crate::upstream::catalog::{Catalog, Model};
use domain::charge::{Charge, Source, Status, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use domain::plan::{Plan, PlanLimits};
use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::sync::Arc;
use store::Entry;
use uuid::Builder;

/// The upstream of every made-up call: no real one has this name.
pub(super) const UPSTREAM: &str = "demo";
/// Number of days before today that have usage.
pub(super) const DAYS: u16 = 30;

const SEED: u64 = 0x6b6e_6f63_6b78;
/// Calls of the first day, per thousand of those of the last.
const FIRST_DAY_PERMILLE: u64 = 500;
/// Calls by hour of the day, as weights.
const HOURS: [u64; 24] =
    [2, 1, 1, 1, 1, 2, 4, 8, 16, 22, 24, 20, 14, 18, 24, 24, 21, 16, 12, 10, 9, 7, 5, 3];

/// How a made-up user calls.
pub(super) struct Profile {
    pub email: &'static str,
    pub username: &'static str,
    pub plan: &'static str,
    /// Mean number of calls on a weekday, once its use has grown.
    calls: u64,
    /// Calls on a day of the weekend, in percent of those on a weekday.
    weekend_percent: u64,
    /// Mean numbers of tokens of a call.
    prompt: u64,
    completion: u64,
    /// Models of the demo, each as often as it is listed.
    models: &'static [&'static str],
}

const GENERAL: &str = "grok-4.3";
const REASONING: &str = "grok-4.20-0309-reasoning";
const CODE: &str = "grok-build-0.1";

/// The caller of the demo, and users who cannot log in.
pub(super) const PROFILES: [Profile; 7] = [
    Profile {
        email: CALLER,
        username: "demo",
        plan: "high-max",
        calls: 34,
        weekend_percent: 40,
        prompt: 620,
        completion: 380,
        models: &[GENERAL, GENERAL, GENERAL, REASONING, CODE],
    },
    Profile {
        email: "maya@sample.example",
        username: "maya.sample",
        plan: "high-max",
        calls: 46,
        weekend_percent: 80,
        prompt: 1_150,
        completion: 420,
        models: &[GENERAL],
    },
    Profile {
        email: "omar@sample.example",
        username: "omar.sample",
        plan: "log-min",
        calls: 22,
        weekend_percent: 25,
        prompt: 480,
        completion: 260,
        models: &[CODE, CODE, GENERAL],
    },
    Profile {
        email: "ines@sample.example",
        username: "ines.sample",
        plan: "log-min",
        calls: 14,
        weekend_percent: 20,
        prompt: 540,
        completion: 310,
        models: &[GENERAL, REASONING],
    },
    Profile {
        email: "tom@sample.example",
        username: "tom.sample",
        plan: "leveler",
        calls: 9,
        weekend_percent: 60,
        prompt: 260,
        completion: 170,
        models: &[GENERAL],
    },
    Profile {
        email: "lena@sample.example",
        username: "lena.sample",
        plan: "leveler",
        calls: 6,
        weekend_percent: 30,
        prompt: 320,
        completion: 210,
        models: &[GENERAL, CODE],
    },
    Profile {
        email: "yuki@sample.example",
        username: "yuki.sample",
        plan: "baby-free",
        calls: 4,
        weekend_percent: 120,
        prompt: 90,
        completion: 110,
        models: &[GENERAL],
    },
];

/// A user with a profile, and the key of its calls.
pub(super) struct Member<'a> {
    pub profile: &'a Profile,
    pub user: UserId,
    pub key: KeyId,
}

/// The charges of the days before `now`, in the order of their admission. None exceeds the limits of a plan.
pub(super) fn entries(
    members: &[Member<'_>],
    plans: &[Plan],
    catalog: &Catalog,
    now: Timestamp,
) -> Vec<Entry> {
    let mut charges = Vec::new();
    for member in members {
        let plan = plans.iter().find(|plan| *plan.id.0 == *member.profile.plan);
        let Some(limits) = plan.map(|plan| &plan.limits) else { continue };
        let today = Day::at(now, &limits.time_zone);
        for before in 1..=DAYS {
            let day = Day(today.0.saturating_sub(i64::from(before).days()));
            charges.extend(calls_of_day(member, limits, catalog, day, before));
        }
    }
    charges.sort_by_key(|charge: &Charge| (charge.admitted_at, charge.request));
    charges.into_iter().map(Entry::Settle).collect()
}

/// The calls of a member on `day`, which is so many days `before` today.
fn calls_of_day(
    member: &Member<'_>,
    limits: &PlanLimits,
    catalog: &Catalog,
    day: Day,
    before: u16,
) -> Vec<Charge> {
    let mut random = Random::new(member.profile.email, day);
    let number = member.profile.calls_on(day, before, &mut random);
    let mut times: Vec<Timestamp> =
        (0..number).map(|_| time_on(day, limits, &mut random)).collect();
    times.sort();
    let (mut charges, mut tokens) = (Vec::new(), 0);
    for admitted_at in times {
        let left = limits.tokens_per_day.saturating_sub(tokens);
        let is_full = charges.len() as u64 >= limits.requests_per_day;
        let name = random.one_of(member.profile.models);
        let Some(model) = catalog.model(name).filter(|_| !is_full) else { continue };
        let call = Call { member, model, day, admitted_at, left };
        if let Some(charge) = call.charge(&mut random) {
            tokens += charge.tokens.total();
            charges.push(charge);
        }
    }
    charges
}

/// A time on `day`: most calls come in working hours.
fn time_on(day: Day, limits: &PlanLimits, random: &mut Random) -> Timestamp {
    let mut rest = random.below(HOURS.iter().sum());
    let mut hour = 0;
    for weight in HOURS {
        if rest < weight {
            break;
        }
        rest -= weight;
        hour += 1;
    }
    let millis = hour * 3_600_000 + random.below(3_600_000);
    let start = day.starts_at(&limits.time_zone);
    let last = day.ends_at(&limits.time_zone) - SignedDuration::from_millis(1);
    let millis = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0));
    start.saturating_add(millis).map_or(last, |at| at.min(last))
}

impl Profile {
    fn calls_on(&self, day: Day, before: u16, random: &mut Random) -> u64 {
        let passed = u64::from(DAYS - before);
        let growth =
            FIRST_DAY_PERMILLE + (1_000 - FIRST_DAY_PERMILLE) * passed / u64::from(DAYS - 1);
        let is_weekend = matches!(day.0.weekday(), Weekday::Saturday | Weekday::Sunday);
        let percent = if is_weekend { self.weekend_percent } else { 100 };
        let spread = 75 + random.below(51);
        (self.calls * growth * percent * spread + 5_000_000) / 10_000_000
    }
}

/// One call, before it is decided how it ends.
struct Call<'a> {
    member: &'a Member<'a>,
    model: &'a Arc<Model>,
    day: Day,
    admitted_at: Timestamp,
    /// Tokens that are left of the day.
    left: u64,
}

impl Call<'_> {
    /// `None` if the day has too few tokens left: a refused call leaves no row.
    fn charge(&self, random: &mut Random) -> Option<Charge> {
        let profile = self.member.profile;
        let prompt = random.around(profile.prompt);
        let completion = random.around(profile.completion);
        let reasoning = if self.model.hidden_reasoning { random.around(240) } else { 0 };
        let cached = if prompt > 128 { prompt / 2 / 64 * 64 } else { 0 };
        let full = TokenCount { prompt, cached, completion, reasoning };
        let fixed = prompt + reasoning;
        if fixed >= self.left {
            return None;
        }
        let (status, tokens) = match random.below(1_000) {
            _ if full.total() > self.left => {
                (Status::CutByQuota, TokenCount { completion: self.left - fixed, ..full })
            }
            0..14 => (Status::Failed, TokenCount::default()),
            14..22 => (Status::CutByUpstream, TokenCount { completion: completion / 3, ..full }),
            22..40 => (Status::CutByClient, TokenCount { completion: completion / 2, ..full }),
            _ => (Status::Complete, full),
        };
        Some(self.settled(status, tokens, random))
    }

    fn settled(&self, status: Status, tokens: TokenCount, random: &mut Random) -> Charge {
        let is_answered = status != Status::Failed;
        let source = if status == Status::Complete { Source::Reported } else { Source::Estimated };
        let first_token_ms = random.around(420);
        let generated = tokens.completion + tokens.reasoning;
        let total_ms = first_token_ms + generated * (6 + random.below(9));
        Charge {
            request: random.request(self.admitted_at),
            user: self.member.user,
            key: self.member.key.clone(),
            model: Arc::clone(&self.model.id),
            upstream: UPSTREAM.into(),
            day: self.day,
            admitted_at: self.admitted_at,
            tokens,
            uncounted: 0,
            cost_micro_dollars: self.model.prices.cost_micro_dollars(&tokens, 0, None),
            status,
            source,
            counted: is_answered,
            first_token_ms: is_answered.then_some(milliseconds(first_token_ms)),
            total_ms: milliseconds(total_ms),
            client_request_id: None,
        }
    }
}

fn milliseconds(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Numbers that depend only on a profile and a day (splitmix64).
struct Random(u64);

impl Random {
    fn new(email: &str, day: Day) -> Self {
        let mut random = Self(SEED);
        for byte in email.bytes().chain(day.to_string().bytes()) {
            random.0 = random.next() ^ u64::from(byte);
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number near `mean`; one in twelve is three times as large.
    fn around(&mut self, mean: u64) -> u64 {
        let times = if self.below(12) == 0 { 3 } else { 1 };
        (mean * times * (40 + self.below(101)) / 100).max(1)
    }

    fn one_of(&mut self, list: &[&'static str]) -> &'static str {
        let index = usize::try_from(self.below(list.len().max(1) as u64)).unwrap_or(0);
        list.get(index).copied().unwrap_or_default()
    }

    /// An id that sorts by its time, as those of real calls do.
    fn request(&mut self, at: Timestamp) -> RequestId {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes()[..2]);
        let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
        RequestId(Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }
}

#[cfg(test)]
mod tests;

//! Random ledger rows: estimates and charges of users whose calls end at the same time, on days that
//! overlap.

use super::journal::estimate;
use super::{at, charge, day, lease};
use domain::charge::{Charge, Lease, Status, TokenCount};
use domain::day::Day;
use domain::id::{PlanId, UserId};
use domain::user::{LimitOverrides, Role, User, UserStatus};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use store::reports::LATENCY_BOUNDS;
use tempfile::TempDir;
use uuid::Uuid;

pub const DAYS: [&str; 5] = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-06"];
pub const MODELS: [&str; 3] = ["grok-4", "grok-3", "a-model"];

/// The same numbers at every run.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()].clone()
    }
}

/// A call of one of the users, admitted when it is its day somewhere.
pub fn call(dice: &mut Dice, users: &[User]) -> Lease {
    let user = dice.pick(users);
    let key = format!("{}-{}", &user.email[..1], dice.roll(2));
    let on = day(dice.pick(&DAYS));
    let midnight = on.ends_at(&TimeZone::UTC) - SignedDuration::from_hours(24);
    let hours = 4 * i64::try_from(dice.roll(12)).unwrap() - 12;
    Lease {
        model: dice.pick(&MODELS).into(),
        day: on,
        admitted_at: midnight + SignedDuration::from_hours(hours),
        reserved: 1 + dice.roll(500),
        ..lease(&user, &key, 0)
    }
}

pub fn ended(dice: &mut Dice, lease: &Lease) -> Charge {
    let bound = dice.pick(&LATENCY_BOUNDS);
    let tokens = TokenCount {
        prompt: dice.roll(900),
        cached: dice.roll(100),
        completion: dice.roll(90),
        reasoning: dice.roll(50),
    };
    Charge {
        tokens,
        uncounted: dice.roll(tokens.prompt + 1),
        cost_micro_dollars: i64::try_from(dice.roll(9_000)).unwrap(),
        status: dice.pick(&Status::ALL[..5]),
        counted: dice.roll(4) > 0,
        total_ms: dice.pick(&[0, bound - 1, bound, bound + 1]),
        client_request_id: None,
        ..charge(lease, 0, 0)
    }
}

/// What a store of the version before the rollups knew more may have held, as SQL: `id` writes an id,
/// `flag` a truth.
pub fn older_ledger(
    id: impl Fn(Uuid) -> String,
    flag: impl Fn(bool) -> String,
) -> (Vec<User>, String) {
    let user = |n: u128| User {
        id: UserId(Uuid::from_u128(n)),
        email: format!("{}@b.c", char::from(b'a' + u8::try_from(n).unwrap())),
        username: None,
        role: Role::User,
        status: UserStatus::Active,
        plan: PlanId::from("basic"),
        overrides: LimitOverrides::default(),
        email_verified_at: None,
        version: 1,
        created_at: at(0),
    };
    let users: Vec<User> = (0..3).map(user).collect();
    let mut dice = Dice::new();
    // Every third row is of today: quarters of an hour are kept for the last days only.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let row = |n: u64| {
        let mut lease = call(&mut dice, &users);
        if n.is_multiple_of(3) {
            (lease.admitted_at, lease.day) = (now, Day::at(now, &TimeZone::UTC));
        }
        let row = if n.is_multiple_of(5) { estimate(&lease) } else { ended(&mut dice, &lease) };
        let Charge { tokens, .. } = row;
        format!(
            "({}, {}, '{}', '{}', 'xai', '{}', {}, {}, {}, {}, {}, {}, '{}', 'reported', {}, null, {})",
            id(row.request.0),
            id(row.user.0),
            row.key,
            row.model,
            row.day,
            row.admitted_at.as_millisecond(),
            tokens.prompt,
            tokens.cached,
            tokens.completion,
            tokens.reasoning,
            row.cost_micro_dollars,
            row.status.as_str(),
            flag(row.counted),
            row.total_ms,
        )
    };
    let rows: Vec<String> = (0..120).map(row).collect();
    (users, format!("insert into usage_event values {}", rows.join(", ")))
}

/// Migrations up to the one that is named, in a folder of their own.
pub fn migrations_until(dialect: &str, last: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect);
    for file in std::fs::read_dir(all).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_str().unwrap() <= last {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    folder
}

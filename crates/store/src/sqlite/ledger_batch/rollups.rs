//! Rollups of charges that were just inserted: summed by key first, so that each row of a rollup is written once a
//! batch. The migration of the column `in_rollups` has the same for single rows, as a trigger.

use super::bulk_insert::{BulkInsert, Insert};
use crate::encode::{DayColumn, integer};
use crate::reports::LATENCY_BOUNDS;
use crate::rows::MS_PER_QUARTER;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::UserId;
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The sums that both rollups have, in the order in which [`Sums::bind`] binds them.
const SUMS: [&str; 8] = [
    "requests",
    "prompt",
    "cached",
    "completion",
    "reasoning",
    "cost_micro_dollars",
    "calls",
    "failed",
];

/// The sums that only days have: tokens that do not count, and calls by their duration.
const DAY_SUMS: [&str; 13] = [
    "uncounted",
    "took_50",
    "took_100",
    "took_250",
    "took_500",
    "took_1000",
    "took_2500",
    "took_5000",
    "took_10000",
    "took_30000",
    "took_60000",
    "took_300000",
    "took_longer",
];

static ADD_TO_DAYS: LazyLock<BulkInsert> = LazyLock::new(|| {
    let key = ["day", "user_id", "key_id", "model"];
    let sums = [&SUMS[..], &DAY_SUMS].concat();
    let later = adding(&sums) + ", last_at = max(last_at, excluded.last_at)";
    BulkInsert::upsert("usage_daily", &key, &[&sums[..], &["last_at"]].concat(), &later)
});

static ADD_TO_QUARTER_HOURS: LazyLock<BulkInsert> = LazyLock::new(|| {
    let key = ["user_id", "day", "quarter", "model"];
    BulkInsert::upsert("usage_quarter_hourly", &key, &SUMS, &adding(&SUMS))
});

/// A row changes at most once a minute, however many calls its key makes.
static SET_KEY_USE: LazyLock<BulkInsert> = LazyLock::new(|| {
    let update = "last_at = excluded.last_at where last_at <= excluded.last_at - 60000";
    BulkInsert::upsert("key_use", &["user_id", "key_id"], &["last_at"], update)
});

fn adding(sums: &[&str]) -> String {
    let add = |sum: &&str| format!("{sum} = {sum} + excluded.{sum}");
    sums.iter().map(add).collect::<Vec<_>>().join(", ")
}

type DayKey<'a> = (Day, UserId, &'a str, &'a str);
type QuarterHourKey<'a> = (UserId, Day, i64, &'a str);

/// Sums that a batch adds to each table, by the primary key of its rows.
#[derive(Default)]
pub(super) struct Rollups<'a> {
    days: BTreeMap<DayKey<'a>, (Sums, Latencies)>,
    quarter_hours: BTreeMap<QuarterHourKey<'a>, Sums>,
    /// The last admission, in milliseconds since 1970.
    keys: BTreeMap<(UserId, &'a str), i64>,
}

/// Sums of calls.
#[derive(Default)]
struct Sums {
    requests: i64,
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
    cost_micro_dollars: i64,
    calls: i64,
    failed: i64,
    uncounted: i64,
}

/// When the calls of a day were last admitted, and how many ended within each of [`LATENCY_BOUNDS`], or later.
struct Latencies {
    last_at: i64,
    took: [i64; LATENCY_BOUNDS.len() + 1],
}

impl<'a> Rollups<'a> {
    /// `None` if a sum does not fit into a column.
    pub(super) fn of(charges: &[&'a Charge]) -> Option<Self> {
        let mut rollups = Self::default();
        charges.iter().try_for_each(|charge| rollups.add(charge))?;
        Some(rollups)
    }

    fn add(&mut self, charge: &'a Charge) -> Option<()> {
        let (user, key, model) = (charge.user, charge.key.as_str(), &*charge.model);
        let at = charge.admitted_at.as_millisecond();
        let (sums, latencies) = self.days.entry((charge.day, user, key, model)).or_default();
        latencies.add(at, charge.total_ms);
        let quarter_hour = (user, charge.day, at / MS_PER_QUARTER, model);
        let last_at = self.keys.entry((user, key)).or_insert(i64::MIN);
        *last_at = at.max(*last_at);
        sums.add(charge)?;
        self.quarter_hours.entry(quarter_hour).or_default().add(charge)
    }

    /// Adds the sums of inserted charges to the tables.
    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        add_to_days(&rows(self.days), connection).await?;
        add_to_quarter_hours(&rows(self.quarter_hours), connection).await?;
        set_key_use(&rows(self.keys), connection).await
    }
}

/// In the order of their keys, which is that of the table.
fn rows<K, V>(sums: BTreeMap<K, V>) -> Vec<(K, V)> {
    sums.into_iter().collect()
}

impl Sums {
    fn add(&mut self, charge: &Charge) -> Option<()> {
        let Self { requests, calls, failed, uncounted, .. } = self;
        let Self { prompt, cached, completion, reasoning, cost_micro_dollars, .. } = self;
        for (sum, number) in [
            (requests, i64::from(charge.counted)),
            (prompt, integer(charge.tokens.prompt)),
            (cached, integer(charge.tokens.cached)),
            (completion, integer(charge.tokens.completion)),
            (reasoning, integer(charge.tokens.reasoning)),
            (cost_micro_dollars, charge.cost_micro_dollars),
            (calls, 1),
            (failed, i64::from(charge.status.is_upstream_failure())),
            (uncounted, integer(charge.uncounted)),
        ] {
            *sum = sum.checked_add(number)?;
        }
        Some(())
    }

    /// Binds the columns of [`SUMS`].
    fn bind(&self, insert: Insert) -> Insert {
        insert
            .bind(self.requests)
            .bind(self.prompt)
            .bind(self.cached)
            .bind(self.completion)
            .bind(self.reasoning)
            .bind(self.cost_micro_dollars)
            .bind(self.calls)
            .bind(self.failed)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self { last_at: i64::MIN, took: [0; LATENCY_BOUNDS.len() + 1] }
    }
}

impl Latencies {
    fn add(&mut self, at: i64, total_ms: u32) {
        self.last_at = at.max(self.last_at);
        self.took[LATENCY_BOUNDS.partition_point(|bound| *bound < total_ms)] += 1;
    }
}

async fn add_to_days(
    rows: &[(DayKey<'_>, (Sums, Latencies))],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let add = ADD_TO_DAYS.execute(
        rows,
        |insert, ((day, user, key, model), (sums, latencies))| {
            let insert = insert.bind(DayColumn(*day)).bind(user.0).bind(*key).bind(*model);
            let insert = sums.bind(insert).bind(sums.uncounted);
            let insert = latencies.took.iter().fold(insert, |insert, calls| insert.bind(*calls));
            insert.bind(latencies.last_at)
        },
        connection,
    );
    add.await.map(drop)
}

async fn add_to_quarter_hours(
    rows: &[(QuarterHourKey<'_>, Sums)],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let add = ADD_TO_QUARTER_HOURS.execute(
        rows,
        |insert, ((user, day, quarter, model), sums)| {
            let insert = insert.bind(user.0).bind(DayColumn(*day)).bind(*quarter).bind(*model);
            sums.bind(insert)
        },
        connection,
    );
    add.await.map(drop)
}

async fn set_key_use(
    rows: &[((UserId, &str), i64)],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let set = SET_KEY_USE.execute(
        rows,
        |insert, ((user, key), last_at)| insert.bind(user.0).bind(*key).bind(*last_at),
        connection,
    );
    set.await.map(drop)
}

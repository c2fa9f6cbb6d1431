//! Rounds of one measurement become its median.

use crate::measure::{Paced, Saturation, Streams};
use crate::report::Start;
use crate::routes::Cost;

/// The middle of the rounds' values; of an even number, the lower one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Rounds of the same measurement become one.
pub trait Median: Sized + Clone {
    /// The fields of the first, each the median of that field over all.
    fn of(rounds: &[Self]) -> Option<Self>;
}

/// Measures every route once a round, another one first each round; returns each one's median.
pub fn in_turns<T: Median>(
    rounds: u32,
    routes: usize,
    mut measure: impl FnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let mut measured: Vec<Vec<T>> = (0..routes).map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for turn in 0..routes {
            let at = (round + turn) % routes;
            measured[at].push(measure(at)?);
        }
    }
    Ok(measured.iter().filter_map(|rounds| T::of(rounds)).collect())
}

fn optional<T>(rounds: &[T], field: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    rounds.iter().all(|r| field(r).is_some()).then(|| median(rounds.iter().filter_map(&field)))
}

fn cost<T>(rounds: &[T], of: impl Fn(&T) -> Cost) -> Cost {
    Cost {
        program: optional(rounds, |r| of(r).program),
        redis: optional(rounds, |r| of(r).redis),
        postgres: optional(rounds, |r| of(r).postgres),
    }
}

impl Median for Saturation {
    fn of(rounds: &[Self]) -> Option<Self> {
        Some(Self {
            route: rounds.first()?.route,
            requests_per_second: median(rounds.iter().map(|r| r.requests_per_second)),
            p50_ms: median(rounds.iter().map(|r| r.p50_ms)),
            p99_ms: median(rounds.iter().map(|r| r.p99_ms)),
            cost: cost(rounds, |r| r.cost),
        })
    }
}

impl Median for Paced {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        Some(Self {
            p50_ms: median(rounds.iter().map(|r| r.p50_ms)),
            p99_ms: median(rounds.iter().map(|r| r.p99_ms)),
            cost: cost(rounds, |r| r.cost),
            ..first.clone()
        })
    }
}

impl Median for Streams {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        Some(Self {
            first_p50_ms: median(rounds.iter().map(|r| r.first_p50_ms)),
            first_p99_ms: median(rounds.iter().map(|r| r.first_p99_ms)),
            cost: cost(rounds, |r| r.cost),
            kib_per_stream: optional(rounds, |r| r.kib_per_stream),
            ..first.clone()
        })
    }
}

impl Median for Start {
    fn of(rounds: &[Self]) -> Option<Self> {
        let first = rounds.first()?;
        let kib = median(rounds.iter().map(|r| r.idle_kib as f64));
        Some(Self {
            ready_ms: median(rounds.iter().map(|r| r.ready_ms)),
            idle_kib: kib as u64,
            ..first.clone()
        })
    }
}

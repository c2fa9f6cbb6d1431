//! What quota costs a call, with one user and with many: `cargo bench --bench quota`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use domain::caller::Caller;
use domain::charge::{Charge, Lease, TokenCount};
use domain::id::UserId;
use domain::testing::wide_limits;
use jiff::{SignedDuration, Timestamp};
use quota::backend::Claim;
use quota::model::QuotaState;
use quota::rules::{self, Demand};
use std::hint::black_box;

const NEED: Demand = Demand {
    prompt: 500,
    output: 256,
    least_output: 1,
    likely_output: 500,
    stream: true,
    sliced: true,
};
const MANY: usize = 100_000;

fn now() -> Timestamp {
    Timestamp::from_second(1_780_000_000).expect("in range")
}

fn caller() -> Caller {
    let user = UserId::new();
    Caller { plan_limits: wide_limits(), ..domain::testing::caller(user, &user.to_string()) }
}

fn claim(caller: &Caller) -> Claim {
    quota::testing::claim(caller, NEED, now())
}

fn charge(lease: &Lease) -> Charge {
    let tokens = TokenCount { prompt: 450, cached: 0, completion: 100, reasoning: 0 };
    domain::testing::charge(lease, tokens)
}

/// A state in which each caller has one finished and one open call.
fn filled(callers: &[Caller]) -> QuotaState {
    let mut state = QuotaState::default();
    for caller in callers {
        let (done, open) = (claim(caller), claim(caller));
        for claim in [&done, &open] {
            state.take(claim, now()).expect("the plan is wide");
        }
        state.settle(&charge(&done.lease));
    }
    state
}

fn rules(c: &mut Criterion) {
    let caller = caller();
    c.bench_function("debits of a call", |b| {
        b.iter(|| rules::debits(black_box(&caller), NEED, now()));
    });
}

fn state(c: &mut Criterion) {
    for users in [1, MANY] {
        let callers: Vec<Caller> = (0..users).map(|_| caller()).collect();
        let mut state = filled(&callers);
        let mut group = c.benchmark_group(format!("quota state of {users} users"));
        // Time moves on, or the window would run dry.
        let (mut turn, mut now) = (0_usize, now());
        let mut next = || {
            // A stride that visits every caller keeps the cache from being warm for one.
            turn = (turn + 7_919) % users;
            claim(&callers[turn])
        };
        group.bench_function("take, extend, settle", |b| {
            b.iter_batched(
                &mut next,
                |claim| {
                    now += SignedDuration::from_millis(1);
                    let granted = state.take(&claim, now).is_ok();
                    let extended = state.extend(claim.lease.request, 256, 1);
                    let settled = state.settle(&charge(&claim.lease));
                    assert!(granted && settled.is_some());
                    extended
                },
                BatchSize::SmallInput,
            );
        });
        let lease = claim(&callers[0]).lease;
        group.bench_function("usage_snapshot", |b| {
            b.iter(|| {
                state.usage_snapshot(black_box(lease.user), Some(&lease.key), lease.day, now)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, rules, state);
criterion_main!(benches);

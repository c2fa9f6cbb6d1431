//! The quota state against the oracle, over random histories of several users, keys and plans.

mod oracle;

use super::*;
use crate::rules::Demand;
use crate::testing::{BEGINNING, KEYS, USERS, any_demand, any_window, caller, charge, claim};
use domain::caller::Caller;
use domain::charge::{Lease, TokenCount};
use domain::id::{KeyId, UserId};
use domain::plan::Window;
use jiff::tz::TimeZone;
use oracle::{CALLS, Call, Oracle, Queue};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Take {
        call: usize,
        user: usize,
        key: usize,
        need: Demand,
    },
    /// The same claim again, as after a lost answer.
    TakeAgain {
        call: usize,
    },
    Extend {
        call: usize,
        want: u64,
        least: u64,
    },
    Settle {
        call: usize,
        used: u64,
        counted: bool,
    },
    Undo {
        call: usize,
    },
    /// The user's day is reset, twice.
    Reset {
        user: usize,
    },
    /// Another process takes over, with the ledger and the open calls of this one.
    HandOver,
    Wait {
        ms: i64,
    },
    /// The clock of another process may be behind.
    Back {
        ms: i64,
    },
    ChangePlan {
        user: usize,
        tokens: u64,
        requests: u64,
        window: Window,
        streams: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let call = 0..CALLS;
    prop_oneof![
        8 => (call.clone(), 0..USERS, 0..KEYS, any_demand())
            .prop_map(|(call, user, key, need)| Step::Take { call, user, key, need }),
        1 => call.clone().prop_map(|call| Step::TakeAgain { call }),
        4 => (call.clone(), 0..150_u64, 0..20_u64)
            .prop_map(|(call, want, least)| Step::Extend { call, want, least }),
        6 => (call.clone(), 0..250_u64, any::<bool>())
            .prop_map(|(call, used, counted)| Step::Settle { call, used, counted }),
        1 => call.prop_map(|call| Step::Undo { call }),
        1 => (0..USERS).prop_map(|user| Step::Reset { user }),
        1 => Just(Step::HandOver),
        6 => (0..1_500_i64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..86_400_000_i64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..2_000_i64).prop_map(|ms| Step::Back { ms }),
        1 => (0..USERS, 0..900_u64, 0..12_u64, any_window(1..4), 0..4_u32).prop_map(
            |(user, tokens, requests, window, streams)| {
                Step::ChangePlan { user, tokens, requests, window, streams }
            }
        ),
    ]
}

fn play(steps: Vec<Step>) {
    let (mut state, mut oracle) = (QuotaState::default(), Oracle::new());
    for step in steps {
        match step {
            Step::Take { call, .. } if oracle.calls.contains_key(&call) => {}
            Step::Take { call, user, key, need } => {
                take(&mut state, &mut oracle, call, (user, key), need);
            }
            Step::TakeAgain { call } => take_again(&mut state, &oracle, call),
            Step::Extend { call, want, least } => {
                extend(&mut state, &mut oracle, call, want, least);
            }
            Step::Settle { call, used, counted } => {
                settle(&mut state, &mut oracle, call, used, counted);
            }
            Step::Undo { call } => undo(&mut state, &mut oracle, call),
            Step::Reset { user } => reset(&mut state, &mut oracle, user),
            Step::HandOver => state = handed_over(&state, &oracle),
            Step::Wait { ms } => oracle.now += ms,
            Step::Back { ms } => oracle.now -= ms,
            Step::ChangePlan { user, tokens, requests, window, streams } => {
                for caller in &mut oracle.callers[user] {
                    let plan = &mut caller.plan_limits;
                    plan.tokens_per_day = tokens;
                    plan.requests_per_day = requests;
                    plan.concurrent_streams = streams;
                    plan.window = window;
                }
                oracle.admitted.remove(&user);
            }
        }
        compare(&state, &oracle);
    }
    for call in 0..CALLS {
        settle(&mut state, &mut oracle, call, 7, true);
    }
    compare(&state, &oracle);
    assert_eq!(state.open_leases(), 0);
}

fn take(
    state: &mut QuotaState,
    oracle: &mut Oracle,
    number: usize,
    (user, key): (usize, usize),
    need: Demand,
) {
    let caller = oracle.callers[user][key].clone();
    let now = oracle.time();
    let mut claim = claim(&caller, need, now);
    claim.lease.request = oracle.ids[number];
    let day = claim.lease.day;
    let mut call = Call {
        caller,
        claim: claim.clone(),
        need,
        held: 0,
        likely: 0,
        ended: None,
        forgiven: false,
    };
    let expected = oracle.verdict(user, &call.caller, need, day);
    let amount = oracle.amount(&call, need.prompt + need.output, need.prompt + need.least_output);
    match (state.take(&claim, now), expected) {
        (Ok(grant), None) => {
            call.likely = oracle.likely(&call.caller, need, day);
            call.held = amount;
            let limits = call.limits();
            let queue = oracle.queue(user);
            let request = i128::from(queue.window.refill_seconds) * 1000;
            oracle.queues.insert(user, Queue { length: queue.length + request, ..queue });
            oracle.admitted.entry(user).or_default().push(queue.at);
            oracle.check_window(user);
            oracle.calls.insert(number, call.clone());
            assert_eq!(grant.tokens, amount);
            let free = limits.iter().map(|(scope, limit)| oracle.free(&call, scope, *limit)).min();
            assert_eq!(Some(grant.free), free);
            within(oracle, &limits, day);
            for (scope, limit) in &limits {
                let exposed = oracle.used(scope, day) + oracle.exposed(scope, day);
                assert!(
                    exposed <= *limit,
                    "{exposed} of {limit} likely to be taken from {scope:?}"
                );
            }
        }
        (Err(refused), Some((limit, by_open_calls))) => {
            assert_eq!((refused.limit, refused.by_open_calls), (limit, by_open_calls));
            if limit == LimitKind::Window && queue_moves(oracle, user) {
                check_wait(oracle, user, refused.retry_after_ms);
            }
        }
        (got, expected) => panic!("{got:?} where {expected:?} was expected"),
    }
}

fn queue_moves(oracle: &Oracle, user: usize) -> bool {
    oracle.callers[user][0].plan_limits.window.capacity > 0
}

/// A caller who waits as told fits, and one who waits a millisecond less does not.
fn check_wait(oracle: &Oracle, user: usize, wait: u64) {
    let (queue, wait) = (oracle.queue(user), i64::try_from(wait).unwrap());
    assert!(wait > 0);
    assert!(queue.at(queue.window, queue.at + wait).fits(), "after {wait} ms of {queue:?}");
    assert!(!queue.at(queue.window, queue.at + wait - 1).fits(), "before {wait} ms of {queue:?}");
}

/// Used and reserved together stay within each limit at every grant.
fn within(oracle: &Oracle, limits: &[(Scope, u64)], day: Day) {
    for (scope, limit) in limits {
        let taken = oracle.used(scope, day) + oracle.reserved(scope, day);
        assert!(taken <= *limit, "{taken} of {limit} taken from {scope:?}");
    }
}

fn take_again(state: &mut QuotaState, oracle: &Oracle, number: usize) {
    let Some(call) = oracle.calls.get(&number).filter(|call| call.ended.is_none()) else { return };
    let again = state.take(&call.claim, oracle.time()).unwrap();
    assert_eq!(again.tokens, call.held, "the same grant");
}

fn extend(state: &mut QuotaState, oracle: &mut Oracle, number: usize, want: u64, least: u64) {
    let id = oracle.ids[number];
    let Some(call) = oracle.calls.get(&number).filter(|call| call.ended.is_none()).cloned() else {
        assert_eq!(state.extend(id, want, least), (ExtendOutcome::Exhausted, 0));
        return;
    };
    let (day, floor) = (call.claim.lease.day, least.max(1));
    let amount = oracle.amount(&call, want, least);
    let alone = |(scope, limit): &(Scope, u64)| {
        limit.saturating_sub(oracle.used(scope, day)).saturating_sub(call.held)
    };
    let alone = call.limits().iter().map(alone).min().unwrap();
    let expected = match () {
        () if amount >= floor => (ExtendOutcome::Added(amount), call.held + amount),
        () if alone >= floor => (ExtendOutcome::Blocked, call.held),
        () => (ExtendOutcome::Exhausted, call.held),
    };
    assert_eq!(state.extend(id, want, least), expected);
    oracle.calls.get_mut(&number).unwrap().held = expected.1;
    if amount >= floor {
        within(oracle, &call.limits(), day);
    }
}

fn settle(state: &mut QuotaState, oracle: &mut Oracle, number: usize, used: u64, counted: bool) {
    let known = oracle.calls.get(&number).cloned();
    let Some(call) = known else { return };
    let lease = &call.claim.lease;
    let charge = charge(lease, used, counted);
    if call.ended.is_some() {
        assert_eq!(state.settle(&charge), None, "a second settlement changes nothing");
        return;
    }
    oracle.calls.get_mut(&number).unwrap().ended = Some((used, counted));
    let past = |(scope, limit): &(Scope, u64)| {
        let taken = oracle.used(scope, lease.day) + oracle.reserved(scope, lease.day);
        taken.saturating_sub(*limit).min(used.saturating_sub(call.held))
    };
    let overshoot = call.limits().iter().map(past).max().unwrap();
    assert_eq!(state.settle(&charge), Some(SettleOutcome { overshoot }));
    assert_eq!(state.settle(&charge), None);
}

fn undo(state: &mut QuotaState, oracle: &mut Oracle, number: usize) {
    state.undo(oracle.ids[number]);
    let Some(call) = oracle.calls.get(&number).filter(|call| call.ended.is_none()) else { return };
    let user = oracle.callers.iter().position(|keys| keys[0].user == call.caller.user).unwrap();
    oracle.calls.remove(&number);
    // The window gets its request back, as it was last looked at.
    let queue = oracle.queues.get_mut(&user).unwrap();
    let request = i128::from(queue.window.refill_seconds) * 1000;
    queue.length = (queue.length - request).max(0);
    oracle.admitted.remove(&user);
}

fn reset(state: &mut QuotaState, oracle: &mut Oracle, user: usize) {
    let callers = oracle.callers[user].clone();
    let day = Day::at(oracle.time(), &callers[0].plan_limits.time_zone);
    let reset = crate::testing::reset(&callers, oracle.time());
    let mut expected = Vec::new();
    for key in &reset.keys {
        let scope = Scope::Key(key.clone());
        let ended = oracle.of(&scope, day).filter_map(Call::settled);
        let removed = ended.fold(RemovedUsage::default(), |sum, (used, counted)| RemovedUsage {
            tokens: sum.tokens + used,
            requests: sum.requests + u64::from(counted),
        });
        if removed != RemovedUsage::default() {
            expected.push(reset.adjustment(key, removed));
        }
    }
    assert_eq!(state.reset(&reset), expected);
    assert_eq!(state.reset(&reset), [], "nothing is left to remove");
    let ours = |call: &&mut Call| call.caller.user == reset.user && call.claim.lease.day == day;
    for call in oracle.calls.values_mut().filter(ours) {
        call.forgiven = call.forgiven || call.ended.is_some();
    }
}

/// The state of a process that takes over: rebuilt from the ledger, with what only `state` knows.
fn handed_over(state: &QuotaState, oracle: &Oracle) -> QuotaState {
    let owner = |scope: &Scope| match scope {
        Scope::User(user) => Some(*user),
        Scope::Key(key) => {
            let callers = oracle.callers.iter().flatten();
            callers.filter(|caller| caller.key == *key).map(|caller| caller.user).next()
        }
    };
    let days = state.accounts.values().flat_map(|account| &account.days).map(|(day, _)| *day);
    let days: std::collections::BTreeSet<Day> = days.collect();
    let ledger: Vec<Used> = days.iter().flat_map(|day| state.used_on(*day, owner)).collect();
    let sent = serde_json::to_string(&state.open_state()).unwrap();
    let mut successor = QuotaState::rebuilt(&ledger);
    successor.adopt(serde_json::from_str(&sent).unwrap(), &[]);
    successor
}

#[test]
fn a_lease_without_a_reservation_can_be_settled_after_a_hand_over() {
    let oracle = Oracle::new();
    let caller = &oracle.callers[0][0];
    let day = Day::at(oracle.time(), &TimeZone::UTC);
    let lease = domain::testing::lease(caller.user, caller.key.as_str(), day, oracle.time());
    let lease = Lease { request: oracle.ids[0], reserved: 5, ..lease };
    let mut state = QuotaState::default();
    state.adopt(OpenState::default(), std::slice::from_ref(&lease));
    assert_eq!(state.open_leases(), 1);
    let charge = Charge::abandoned(&lease, TokenCount { completion: 5, ..TokenCount::default() });
    assert_eq!(state.settle(&charge), Some(SettleOutcome { overshoot: 0 }));
    assert_eq!(state.open_leases(), 0);
}

/// Every number of the state is the sum over calls.
fn compare(state: &QuotaState, oracle: &Oracle) {
    let open = oracle.calls.values().filter(|call| call.ended.is_none()).count() as u64;
    assert_eq!(state.open_leases(), open);
    for keys in &oracle.callers {
        let caller = &keys[0];
        let day = Day::at(oracle.time(), &caller.plan_limits.time_zone);
        let scope = Scope::User(caller.user);
        let snapshot = state.usage_snapshot(caller.user, None, day, oracle.time());
        let told =
            (snapshot.user.tokens_used, snapshot.user.tokens_reserved, snapshot.user.requests_used);
        let summed =
            (oracle.used(&scope, day), oracle.reserved(&scope, day), oracle.requests(&scope, day));
        assert_eq!(told, summed);
        assert_eq!(snapshot.streams_open, oracle.streams(caller.user));
        let reports = state.used_on(day, |scope| match scope {
            Scope::User(user) => Some(*user),
            Scope::Key(key) => {
                keys.iter().find(|caller| caller.key == *key).map(|caller| caller.user)
            }
        });
        for row in reports.iter().filter(|row| row.user == caller.user) {
            let scope = row.key.clone().map_or(Scope::User(row.user), Scope::Key);
            let ended = oracle.of(&scope, day).filter_map(Call::settled);
            let (tokens, requests) = ended.fold((0, 0), |(tokens, requests), (used, counted)| {
                (tokens + used, requests + u64::from(counted))
            });
            assert_eq!((row.tokens, row.requests), (tokens, requests), "{scope:?} on {day}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_state_is_the_sum_of_its_calls(steps in prop::collection::vec(step(), 1..200)) {
        play(steps);
    }
}

#[test]
fn a_restart_keeps_what_was_used() {
    let day = Day::at(Timestamp::from_millisecond(BEGINNING).unwrap(), &TimeZone::UTC);
    let caller = caller(UserId::new(), 0, 0);
    let row = |key: Option<KeyId>, tokens, requests| Used {
        user: caller.user,
        key,
        day,
        tokens,
        requests,
    };
    let rows = [row(None, 500, 4), row(Some(caller.key.clone()), 300, 4)];
    let mut state = QuotaState::rebuilt(&rows);
    let now = Timestamp::from_millisecond(BEGINNING).unwrap();
    let need = Demand {
        prompt: 1,
        output: 0,
        least_output: 0,
        likely_output: 0,
        stream: false,
        sliced: false,
    };
    let refused = state.take(&claim(&caller, need, now), now).unwrap_err();
    assert_eq!(refused.limit, LimitKind::TokensPerDay, "the key has used its own 300");
    assert!(!refused.by_open_calls);
    let snapshot = state.usage_snapshot(caller.user, None, day, now);
    assert_eq!((snapshot.user.tokens_used, snapshot.user.requests_used), (500, 4));
}

/// A claim of a call that has no key limits: `prompt` tokens now, and it will come to `likely`.
fn stream(caller: &Caller, prompt: u64, likely: u64, now: Timestamp) -> Claim {
    let need = Demand {
        prompt,
        output: 16,
        least_output: 1,
        likely_output: likely - prompt,
        stream: true,
        sliced: true,
    };
    claim(caller, need, now)
}

/// What streams are likely to take is kept for them: others neither get in nor grow into it.
#[test]
fn streams_that_run_together_get_what_was_expected_of_them() {
    let now = Timestamp::from_millisecond(BEGINNING).unwrap();
    let mut caller = caller(UserId::new(), 0, 1);
    caller.plan_limits.window = Window { capacity: 100, refill_seconds: 1 };
    caller.plan_limits.concurrent_streams = 100;
    let mut state = QuotaState::default();
    let (one, two) = (stream(&caller, 8, 300, now), stream(&caller, 8, 300, now));
    let third = stream(&caller, 8, 101, now);
    state.take(&one, now).unwrap();
    let granted = state.take(&two, now).unwrap();
    assert_eq!(
        granted.tokens + granted.free,
        400,
        "its own 300, and 100 that no other call is expected to use"
    );
    let refused = state.take(&third, now).unwrap_err();
    assert_eq!((refused.limit, refused.by_open_calls), (LimitKind::TokensPerDay, true));
    let mut grow = |claim: &Claim| {
        let mut held = 0;
        while let (ExtendOutcome::Added(_), total) = state.extend(claim.lease.request, 16, 1) {
            held = total;
        }
        held
    };
    assert_eq!(grow(&one), 400, "all but what is expected of the other");
    assert_eq!(grow(&two), 300);
    assert_eq!(state.open_leases(), 2);
}

/// Alone, a call may take all that is left, whatever is expected of it.
#[test]
fn a_stream_alone_may_take_everything() {
    let now = Timestamp::from_millisecond(BEGINNING).unwrap();
    let caller = caller(UserId::new(), 0, 1);
    for likely in [9, 50, 100_000] {
        let mut state = QuotaState::default();
        let claim = stream(&caller, 8, likely, now);
        let granted = state.take(&claim, now).unwrap();
        assert_eq!(granted.tokens + granted.free, 700);
        let mut held = granted.tokens;
        while let (ExtendOutcome::Added(_), total) = state.extend(claim.lease.request, 16, 1) {
            held = total;
        }
        assert_eq!(held, 700);
        assert_eq!(state.extend(claim.lease.request, 16, 1), (ExtendOutcome::Exhausted, 700));
    }
}

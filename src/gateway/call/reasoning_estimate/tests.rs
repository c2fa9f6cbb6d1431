use super::*;
use std::iter::repeat_n;

const DEFAULT: u64 = 4_096;
const REASONING: HiddenKinds = HiddenKinds { reasoning: true, tools: false };
const TOOLS: HiddenKinds = HiddenKinds { reasoning: false, tools: true };
const BOTH: HiddenKinds = HiddenKinds { reasoning: true, tools: true };

fn user(number: u64) -> UserId {
    UserId(uuid::Uuid::from_u128(number.into()))
}

fn billed(reasoning: u64) -> BilledUsage {
    BilledUsage { reasoning, tools: 0, output: reasoning, took: Duration::from_millis(1) }
}

/// The allowance after calls of `users` users in turn.
fn after(users: u64, tokens: impl IntoIterator<Item = u64>, default: u64) -> u64 {
    let (reasoning, model) = (ReasoningEstimator::default(), "m".into());
    for (number, tokens) in tokens.into_iter().enumerate() {
        reasoning.record(user(number as u64 % users), &model, REASONING, billed(tokens));
    }
    reasoning.allowance("m", REASONING, default)
}

#[test]
fn one_call_in_a_hundred_may_need_more() {
    assert_eq!(ReasoningEstimator::default().allowance("m", REASONING, 0), 0);
    assert_eq!(after(1, [0], 0), 0);
    assert_eq!(after(1, [300], 0), 320);
    assert_eq!(after(1, [300, 20, 10], 0), 320);
    assert_eq!(after(1, (0..200).map(|n| if n < 2 { 9_000 } else { 100 }), 0), 112);
    assert_eq!(after(1, (0..200).map(|n| if n < 3 { 9_000 } else { 100 }), 0), 10_240);
    assert_eq!(after(1, [u64::MAX], 0), 1 << 24);
}

#[test]
fn what_was_long_ago_is_forgotten() {
    let long_ago = std::iter::repeat_n(50_000, 100);
    let after = |numbers| after(1, long_ago.clone().chain(std::iter::repeat_n(100, numbers)), 0);
    assert!(after(1_000) > 50_000);
    assert_eq!(after(10_000), 112);
}

#[test]
fn short_reasoning_of_few_calls_or_users_lowers_nothing() {
    assert_eq!(ReasoningEstimator::default().allowance("m", REASONING, DEFAULT), DEFAULT);
    assert_eq!(after(50, repeat_n(10, 199), DEFAULT), DEFAULT);
    assert_eq!(after(1, repeat_n(10, 5_000), DEFAULT), DEFAULT);
    assert_eq!(after(5, repeat_n(10, 5_000), DEFAULT), DEFAULT);
    assert_eq!(after(1, [9_000], DEFAULT), 10_240, "one call raises it");
}

#[test]
fn many_calls_of_many_users_lower_it_to_what_they_need_but_not_to_nothing() {
    assert_eq!(after(100, repeat_n(2_000, 400), DEFAULT), 2_048);
    assert_eq!(after(100, repeat_n(10, 4_000), DEFAULT), LEAST);
    assert_eq!(after(100, repeat_n(10, 4_000), 16), 16, "the operator's default is lower");
}

#[test]
fn tools_are_learned_apart() {
    let (reasoning, model) = (ReasoningEstimator::default(), "m".into());
    reasoning.record(user(1), &model, BOTH, BilledUsage { tools: 20_000, ..billed(5_000) });
    assert_eq!(reasoning.allowance("m", REASONING, DEFAULT), 5_120);
    assert_eq!(reasoning.allowance("m", TOOLS, DEFAULT), 20_480);
    assert_eq!(reasoning.allowance("m", BOTH, DEFAULT), 25_600);
    assert_eq!(
        reasoning.allowance("m", HiddenKinds { reasoning: false, tools: false }, DEFAULT),
        0
    );
    assert_eq!(reasoning.allowance("other", BOTH, DEFAULT), 2 * DEFAULT);
}

#[test]
fn the_rate_is_a_default_until_it_was_measured() {
    let (reasoning, model) = (ReasoningEstimator::default(), "m".into());
    let minute = Duration::from_secs(60);
    assert_eq!(reasoning.generated_in("m", minute), 6_000);
    let call =
        |output, seconds| BilledUsage { output, took: Duration::from_secs(seconds), ..billed(0) };
    for _ in 0..MEASURED_CALLS {
        reasoning.record(user(1), &model, REASONING, billed(1_000_000));
        reasoning.record(user(1), &model, REASONING, call(99, 1));
    }
    assert_eq!(reasoning.generated_in("m", minute), 6_000, "short calls are not measured");
    for _ in 0..MEASURED_CALLS {
        reasoning.record(user(1), &model, REASONING, call(2_048, 8));
    }
    assert_eq!(reasoning.generated_in("m", minute), 256 * 60);
    for _ in 0..1_000 {
        reasoning.record(user(1), &model, REASONING, call(100, 1_000));
    }
    assert_eq!(reasoning.generated_in("m", minute), MIN_RATE * 60, "slow calls lower it that far");
}

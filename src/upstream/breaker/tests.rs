use super::*;
use system::clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A breaker that has just opened; 0.5 is the middle of the random range.
fn opened(now: Instant) -> Arc<Breaker> {
    let breaker = Arc::<Breaker>::default();
    for _ in 0..FAILURE_THRESHOLD {
        assert_eq!(breaker.phase(now), Phase::Closed);
        breaker.try_acquire(now, None).unwrap().failed(now, 0.5, None);
    }
    breaker
}

#[test]
fn failures_in_a_row_open_it_for_twice_as_long_each_time() {
    let mut now = clock::instant();
    let breaker = opened(now);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(breaker.phase(now), Phase::Open);
        assert_eq!(breaker.try_acquire(now, None).unwrap_err(), Duration::from_secs(seconds));
        now += Duration::from_secs(seconds);
        assert_eq!(breaker.phase(now), Phase::HalfOpen);
        breaker.try_acquire(now, None).unwrap().failed(now, 0.5, None);
    }
}

#[test]
fn one_success_closes_it() {
    let now = clock::instant();
    let breaker = opened(now);
    let later = now + ms(1_000);
    breaker.try_acquire(later, None).unwrap().succeeded(later);
    assert_eq!(breaker.phase(later), Phase::Closed);
    for _ in 1..FAILURE_THRESHOLD {
        breaker.try_acquire(later, None).unwrap().failed(later, 0.5, None);
    }
    assert_eq!(breaker.phase(later), Phase::Closed, "what failed before is forgotten");
}

#[test]
fn one_call_at_a_time_probes_a_half_open_breaker() {
    let now = clock::instant();
    let breaker = opened(now);
    let later = now + ms(1_000);
    let permit = breaker.try_acquire(later, None).unwrap();
    assert!(breaker.try_acquire(later, None).is_err());
    drop(permit);
    let permit = breaker.try_acquire(later, None).expect("the one before showed nothing");
    permit.succeeded(later);
    breaker.try_acquire(later, None).unwrap();
}

#[test]
fn calls_in_flight_when_it_opens_do_not_keep_it_open_longer() {
    let now = clock::instant();
    let breaker = Arc::<Breaker>::default();
    let permits: Vec<CallPermit> =
        (0..50).map(|_| breaker.try_acquire(now, None).unwrap()).collect();
    for permit in permits {
        permit.failed(now, 0.5, None);
    }
    assert_eq!(breaker.try_acquire(now, None).unwrap_err(), MIN_OPEN);
}

#[test]
fn half_of_a_window_opens_it_and_less_does_not() {
    for (failing, phase) in [(2, Phase::Open), (3, Phase::Closed)] {
        let now = clock::instant();
        let breaker = Arc::<Breaker>::default();
        for number in 1..=60 {
            match breaker.try_acquire(now, None) {
                Ok(permit) if number % failing == 0 => permit.failed(now, 0.5, None),
                Ok(permit) => permit.succeeded(now),
                Err(_) => break,
            }
        }
        assert_eq!(breaker.phase(now), phase, "one in {failing}");
    }
}

#[test]
fn chance_moves_the_end_by_up_to_a_quarter() {
    for (chance, open) in [(0.0, 750), (1.0, 1_250), (9.0, 1_250)] {
        let now = clock::instant();
        let breaker = Arc::<Breaker>::default();
        for _ in 0..FAILURE_THRESHOLD {
            breaker.try_acquire(now, None).unwrap().failed(now, chance, None);
        }
        assert_eq!(breaker.try_acquire(now, None).unwrap_err(), ms(open));
    }
}

#[test]
fn a_single_user_never_opens_it() {
    let now = clock::instant();
    let [one, two] = [UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    for _ in 0..200 {
        breaker.try_acquire(now, Some(one)).expect("one caller may send what it fails at").failed(
            now,
            0.5,
            Some(one),
        );
    }
    breaker.record_broken_stream(now, 0.5, one);
    assert_eq!(breaker.phase(now), Phase::Closed);
    breaker.try_acquire(now, None).unwrap().failed(now, 0.5, Some(two));
    assert_eq!(breaker.phase(now), Phase::Open, "another's fails too");
}

#[test]
fn a_success_forgets_earlier_failures() {
    let now = clock::instant();
    let [one, two] = [UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    breaker.try_acquire(now, None).unwrap().failed(now, 0.5, Some(two));
    breaker.try_acquire(now, None).unwrap().succeeded(now);
    for _ in 0..FAILURE_THRESHOLD {
        breaker.try_acquire(now, None).unwrap().failed(now, 0.5, Some(one));
    }
    assert_eq!(breaker.phase(now), Phase::Closed);
}

#[test]
fn a_user_without_failures_may_call_while_it_is_open_for_a_few() {
    let now = clock::instant();
    let [one, two, other] = [UserId::new(), UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    for caller in [one, two].into_iter().cycle().take(20) {
        if let Ok(permit) = breaker.try_acquire(now, Some(caller)) {
            permit.failed(now, 0.5, Some(caller));
        }
    }
    assert_eq!(breaker.phase(now), Phase::Open);
    assert!(
        breaker.try_acquire(now, Some(one)).is_err() && breaker.try_acquire(now, None).is_err()
    );
    let permit = breaker.try_acquire(now, Some(other)).expect("it is not the one that fails");
    permit.failed(now, 0.5, Some(other));
    assert!(breaker.try_acquire(now, Some(other)).is_err(), "now it is");
    breaker.try_acquire(now, Some(UserId::new())).unwrap().succeeded(now);
    assert_eq!(breaker.phase(now), Phase::Closed, "the upstream is there");
}

#[test]
fn failures_of_many_users_are_an_outage_for_all() {
    let now = clock::instant();
    let breaker = Arc::<Breaker>::default();
    for _ in 0..=OUTAGE_USERS {
        let caller = Some(UserId::new());
        if let Ok(permit) = breaker.try_acquire(now, caller) {
            permit.failed(now, 0.5, caller);
        }
    }
    assert!(breaker.try_acquire(now, Some(UserId::new())).is_err());
}

use super::*;
use system::clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Fails so often that it opens; 0.5 is the middle of what chance may do.
fn opened(now: Instant) -> Arc<Breaker> {
    let breaker = Arc::<Breaker>::default();
    for _ in 0..IN_A_ROW {
        assert_eq!(breaker.phase(now), Phase::Closed);
        breaker.admit(now, None).unwrap().failed(now, 0.5, None);
    }
    breaker
}

#[test]
fn failures_in_a_row_open_it_for_twice_as_long_each_time() {
    let mut now = clock::instant();
    let breaker = opened(now);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(breaker.phase(now), Phase::Open);
        assert_eq!(breaker.admit(now, None).unwrap_err(), Duration::from_secs(seconds));
        now += Duration::from_secs(seconds);
        assert_eq!(breaker.phase(now), Phase::HalfOpen);
        breaker.admit(now, None).unwrap().failed(now, 0.5, None);
    }
}

#[test]
fn one_success_closes_it() {
    let now = clock::instant();
    let breaker = opened(now);
    let later = now + ms(1_000);
    breaker.admit(later, None).unwrap().succeeded(later);
    assert_eq!(breaker.phase(later), Phase::Closed);
    for _ in 1..IN_A_ROW {
        breaker.admit(later, None).unwrap().failed(later, 0.5, None);
    }
    assert_eq!(breaker.phase(later), Phase::Closed, "what failed before is forgotten");
}

#[test]
fn one_call_at_a_time_tries_whether_it_is_back() {
    let now = clock::instant();
    let breaker = opened(now);
    let later = now + ms(1_000);
    let trial = breaker.admit(later, None).unwrap();
    assert!(breaker.admit(later, None).is_err());
    drop(trial);
    let trial = breaker.admit(later, None).expect("the one before showed nothing");
    trial.succeeded(later);
    breaker.admit(later, None).unwrap();
}

#[test]
fn calls_that_were_under_way_do_not_make_it_stay_open_longer() {
    let now = clock::instant();
    let breaker = Arc::<Breaker>::default();
    let trials: Vec<Trial> = (0..50).map(|_| breaker.admit(now, None).unwrap()).collect();
    for trial in trials {
        trial.failed(now, 0.5, None);
    }
    assert_eq!(breaker.admit(now, None).unwrap_err(), SHORTEST);
}

#[test]
fn half_of_a_window_opens_it_and_less_does_not() {
    for (failing, phase) in [(2, Phase::Open), (3, Phase::Closed)] {
        let now = clock::instant();
        let breaker = Arc::<Breaker>::default();
        for number in 1..=60 {
            match breaker.admit(now, None) {
                Ok(trial) if number % failing == 0 => trial.failed(now, 0.5, None),
                Ok(trial) => trial.succeeded(now),
                Err(_) => break,
            }
        }
        assert_eq!(breaker.phase(now), phase, "one in {failing}");
    }
}

#[test]
fn chance_moves_the_end_by_a_quarter() {
    for (chance, rest) in [(0.0, 750), (1.0, 1_250), (9.0, 1_250)] {
        let now = clock::instant();
        let breaker = Arc::<Breaker>::default();
        for _ in 0..IN_A_ROW {
            breaker.admit(now, None).unwrap().failed(now, chance, None);
        }
        assert_eq!(breaker.admit(now, None).unwrap_err(), ms(rest));
    }
}

#[test]
fn one_caller_alone_never_opens_it() {
    let now = clock::instant();
    let [one, two] = [UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    for _ in 0..200 {
        breaker.admit(now, Some(one)).expect("one caller may send what it fails at").failed(
            now,
            0.5,
            Some(one),
        );
    }
    breaker.cut(now, 0.5, one);
    assert_eq!(breaker.phase(now), Phase::Closed);
    breaker.admit(now, None).unwrap().failed(now, 0.5, Some(two));
    assert_eq!(breaker.phase(now), Phase::Open, "another's fails too");
}

#[test]
fn a_success_ends_what_is_held_against_it() {
    let now = clock::instant();
    let [one, two] = [UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    breaker.admit(now, None).unwrap().failed(now, 0.5, Some(two));
    breaker.admit(now, None).unwrap().succeeded(now);
    for _ in 0..IN_A_ROW {
        breaker.admit(now, None).unwrap().failed(now, 0.5, Some(one));
    }
    assert_eq!(breaker.phase(now), Phase::Closed);
}

#[test]
fn who_has_no_part_in_the_failures_of_a_few_may_ask_all_the_same() {
    let now = clock::instant();
    let [one, two, other] = [UserId::new(), UserId::new(), UserId::new()];
    let breaker = Arc::<Breaker>::default();
    for caller in [one, two].into_iter().cycle().take(20) {
        if let Ok(trial) = breaker.admit(now, Some(caller)) {
            trial.failed(now, 0.5, Some(caller));
        }
    }
    assert_eq!(breaker.phase(now), Phase::Open);
    assert!(breaker.admit(now, Some(one)).is_err() && breaker.admit(now, None).is_err());
    let trial = breaker.admit(now, Some(other)).expect("it is not the one that fails");
    trial.failed(now, 0.5, Some(other));
    assert!(breaker.admit(now, Some(other)).is_err(), "now it is");
    breaker.admit(now, Some(UserId::new())).unwrap().succeeded(now);
    assert_eq!(breaker.phase(now), Phase::Closed, "the upstream is there");
}

#[test]
fn failures_of_many_are_an_outage_for_all() {
    let now = clock::instant();
    let breaker = Arc::<Breaker>::default();
    for _ in 0..=OUTAGE {
        let caller = Some(UserId::new());
        if let Ok(trial) = breaker.admit(now, caller) {
            trial.failed(now, 0.5, caller);
        }
    }
    assert!(breaker.admit(now, Some(UserId::new())).is_err());
}

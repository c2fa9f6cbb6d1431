//! Charges, what they add up to, and how far they bring the ledger.

use super::{Any, add_user, at, charge, day, lease};
use domain::charge::{Charge, Lease, Source, Status};
use domain::id::{KeyId, UserId};
use domain::user::User;
use jiff::SignedDuration;
use store::{Entry, JournalPosition, StoreError, Used};

pub async fn write(store: &Any, batch: &[Entry]) {
    store.write_batch(batch, None).await.unwrap();
}

pub async fn no_drift(store: &Any) {
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
}

/// The sum for the whole user, from the rollup and from the ledger, which must agree.
pub async fn used(store: &Any, user: UserId) -> (u64, u64) {
    let of = |list: Vec<Used>| {
        let whole = list.into_iter().find(|used| used.user == user && used.key.is_none());
        whole.map_or((0, 0), |used| (used.tokens, used.requests))
    };
    let rollup = of(store.used_since(day("2026-01-02")).await.unwrap());
    assert_eq!(rollup, of(store.ledger_totals(day("2026-01-02")).await.unwrap()));
    rollup
}

pub async fn settling_twice_charges_once(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let lease = lease(&user, "key", 10);
    let settled = charge(&lease, 3, 4);
    let other = Charge { status: Status::Complete, ..charge(&lease, 30, 40) };
    let batch = [Entry::Settle(settled.clone()), Entry::Settle(other)];
    write(&store, &batch).await;
    write(&store, &batch).await;
    assert_eq!(store.charge(lease.request).await.unwrap(), Some(settled));
    assert_eq!(used(&store, user.id).await, (8, 1));
    no_drift(&store).await;
}

/// Statements for many rows have sizes of their own, and a batch of which something is known already is written in
/// another way than one that is all new.
pub async fn batches_of_any_size_add_up(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let known = Entry::Settle(charge(&lease(&user, "key", 10), 3, 4));
    write(&store, std::slice::from_ref(&known)).await;
    let mut calls = 1;
    for size in [1, 2, 127, 128, 129, 300] {
        for (again, key) in [(false, "key"), (true, "other")] {
            // Rows of up to 150 models and quarters of an hour.
            let new = |n: u64| {
                let mut call = lease(&user, key, 10);
                call.model = format!("model-{}", n % 150).into();
                call.admitted_at += SignedDuration::from_mins(15 * i64::try_from(n % 3).unwrap());
                Entry::Settle(charge(&call, 3, 4))
            };
            let mut batch: Vec<Entry> = (0..size).map(new).collect();
            if again {
                batch.push(known.clone());
            }
            write(&store, &batch).await;
            calls += size;
            assert_eq!(used(&store, user.id).await, (8 * calls, calls));
            no_drift(&store).await;
            let quarters = store.usage_by_quarter_hour(user.id, day("2026-01-02")).await.unwrap();
            assert_eq!(quarters.iter().map(|(_, _, sums)| sums.calls).sum::<u64>(), calls);
        }
    }
    let on = day("2026-01-02");
    let models = store.usage_by_model(user.id, on, on).await.unwrap();
    assert_eq!(models.len(), 151);
    assert_eq!(models.iter().map(|(_, sums)| sums.calls).sum::<u64>(), calls);
    assert_eq!(store.latency(user.id, on, on).await.unwrap().0.iter().sum::<u64>(), calls);
    assert_eq!(store.last_used(user.id).await.unwrap().len(), 2);
}

/// No database can add them up. It must say so, whoever adds.
pub async fn a_batch_whose_sum_overflows_is_refused(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let batch = [1, 2].map(|_| Entry::Settle(charge(&lease(&user, "key", 10), 1 << 62, 0)));
    for refused in [&batch[..], &batch[1..]] {
        let refusal = store.write_batch(refused, None).await;
        assert!(matches!(refusal, Err(StoreError::Corrupt(_))), "{refusal:?}");
        assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 2 - refused.len());
        no_drift(&store).await;
        if refused.len() > 1 {
            write(&store, &batch[..1]).await;
        }
    }
}

/// What a reaper writes for a call whose gateway is away.
pub fn estimate(lease: &Lease) -> Charge {
    Charge {
        upstream: "".into(),
        cost_micro_dollars: 0,
        status: Status::Abandoned,
        source: Source::Estimated,
        first_token_ms: None,
        total_ms: 0,
        client_request_id: None,
        ..charge(lease, 0, lease.reserved)
    }
}

pub async fn a_late_charge_replaces_the_estimate(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    // Before and after its day was prepared, beside calls that nobody took for dead.
    for round in 1..3 {
        let (late, other) = (lease(&user, "key", 500), lease(&user, "key", 10));
        let settle = [estimate(&late), charge(&other, 3, 4)].map(Entry::Settle);
        write(&store, &settle).await;
        assert_eq!(used(&store, user.id).await, (501 + 8 * (2 * round - 1), 2 * round));
        let real = Charge { model: "grok-3".into(), ..charge(&late, 3, 4) };
        for _ in 0..2 {
            let batch = [real.clone(), estimate(&late), charge(&other, 30, 40)].map(Entry::Settle);
            write(&store, &batch).await;
            assert_eq!(store.charge(late.request).await.unwrap(), Some(real.clone()));
            assert_eq!(store.charge(other.request).await.unwrap(), Some(charge(&other, 3, 4)));
            assert_eq!(used(&store, user.id).await, (16 * round, 2 * round));
            no_drift(&store).await;
        }
        store.create_partitions(day("2026-01-01")).await.unwrap();
        assert_eq!(used(&store, user.id).await, (16 * round, 2 * round));
        no_drift(&store).await;
    }
    let late = lease(&user, "key", 500);
    let uncounted = Charge { counted: false, ..charge(&late, 0, 0) };
    write(&store, &[Entry::Settle(estimate(&late))]).await;
    write(&store, &[Entry::Settle(uncounted)]).await;
    assert_eq!(used(&store, user.id).await, (33, 4));
    no_drift(&store).await;
}

pub async fn reported_usage_replaces_counted_usage(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let counted = |lease: &Lease, tokens| {
        let status = Status::CutByClient;
        Charge { status, source: Source::Estimated, ..charge(lease, tokens, 0) }
    };
    for prepared in [false, true] {
        let before = used(&store, user.id).await;
        let lease = lease(&user, "key", 500);
        write(&store, &[Entry::Settle(counted(&lease, 9))]).await;
        write(&store, &[Entry::Settle(counted(&lease, 90))]).await;
        assert_eq!(store.charge(lease.request).await.unwrap(), Some(counted(&lease, 9)));
        let real = Charge { uncounted: 120, ..charge(&lease, 300, 40) };
        let batch = [counted(&lease, 9), real.clone(), charge(&lease, 7, 7)].map(Entry::Settle);
        for _ in 0..2 {
            write(&store, &batch).await;
            assert_eq!(store.charge(lease.request).await.unwrap(), Some(real.clone()));
            let after = (before.0 + 221, before.1 + 1);
            assert_eq!(used(&store, user.id).await, after, "{prepared}");
            no_drift(&store).await;
        }
        store.create_partitions(day("2026-01-01")).await.unwrap();
    }
}

pub async fn an_estimate_never_replaces_a_charge(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let lease = lease(&user, "key", 500);
    let dearer = Charge { status: Status::Failed, ..charge(&lease, 30, 40) };
    for settle in [charge(&lease, 3, 4), estimate(&lease), dearer, estimate(&lease)] {
        write(&store, &[Entry::Settle(settle)]).await;
        assert_eq!(store.charges(lease.day).await.unwrap(), [charge(&lease, 3, 4)]);
        assert_eq!(used(&store, user.id).await, (8, 1));
        no_drift(&store).await;
    }
}

pub async fn charges_of_one_request_in_one_batch_end_as_the_real_one(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    // Written on its own before the batch, or not.
    for known in [false, true] {
        for estimates in [[true, false], [false, true], [false, false], [true, true]] {
            let before = used(&store, user.id).await;
            let lease = lease(&user, "key", 500);
            if known {
                write(&store, &[Entry::Settle(estimate(&lease))]).await;
            }
            let real = (1..).zip(estimates).map(|(n, is_estimate)| match is_estimate {
                true => estimate(&lease),
                false => charge(&lease, n, n),
            });
            let real: Vec<Charge> = real.collect();
            let batch: Vec<Entry> = real.iter().cloned().map(Entry::Settle).collect();
            write(&store, &batch).await;
            let stays = real.iter().find(|charge| charge.status != Status::Abandoned);
            let stays = stays.unwrap_or(&real[0]);
            assert_eq!(store.charge(lease.request).await.unwrap().as_ref(), Some(stays));
            let after = (before.0 + stays.tokens.total(), before.1 + 1);
            assert_eq!(used(&store, user.id).await, after, "{known} {estimates:?}");
            no_drift(&store).await;
        }
    }
}

pub async fn a_charge_reads_back_as_written(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let mut written = Vec::new();
    for (n, status) in Status::ALL.into_iter().enumerate() {
        let lease = lease(&user, "key", 10);
        written.push(Charge {
            status,
            admitted_at: at(0) + SignedDuration::from_millis(i64::try_from(n).unwrap()),
            source: if n % 2 == 0 { Source::Estimated } else { Source::Reported },
            counted: n % 3 == 0,
            uncounted: 2 * n as u64,
            first_token_ms: (n > 2).then_some(u32::MAX),
            model: "a \"quoted\" ünïcode\\name".into(),
            ..charge(&lease, n as u64, 5)
        });
    }
    let batch: Vec<Entry> = written.iter().rev().cloned().map(Entry::Settle).collect();
    write(&store, &batch).await;
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap(), written);
    for charge in &written {
        assert_eq!(store.charge(charge.request).await.unwrap().as_ref(), Some(charge));
    }
    no_drift(&store).await;
}

pub async fn sums_are_per_user_and_per_key(store: Any) {
    let (one, two) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let mut batch = Vec::new();
    for (user, key, model, on) in [
        (&one, "a", "grok-4", "2026-01-02"),
        (&one, "a", "grok-3", "2026-01-02"),
        (&one, "b", "grok-4", "2026-01-02"),
        (&two, "c", "grok-4", "2026-01-03"),
        (&two, "c", "grok-4", "2026-01-01"),
    ] {
        let lease = Lease { day: day(on), model: model.into(), ..lease(user, key, 10) };
        batch.push(Entry::Settle(charge(&lease, 5, 4)));
    }
    write(&store, &batch).await;
    let sum = |user: &User, key: Option<&str>, on, tokens, requests| {
        (user.id, key.map(KeyId::from), day(on), tokens, requests)
    };
    let mut since = store.used_since(day("2026-01-02")).await.unwrap();
    let mut sums: Vec<_> =
        since.drain(..).map(|u| (u.user, u.key, u.day, u.tokens, u.requests)).collect();
    sums.sort();
    let mut expected = vec![
        sum(&one, None, "2026-01-02", 30, 3),
        sum(&one, Some("a"), "2026-01-02", 20, 2),
        sum(&one, Some("b"), "2026-01-02", 10, 1),
        sum(&two, None, "2026-01-03", 10, 1),
        sum(&two, Some("c"), "2026-01-03", 10, 1),
    ];
    expected.sort();
    assert_eq!(sums, expected);
    assert_eq!(store.ledger_totals(day("2026-01-02")).await.unwrap().len(), 3);
}

pub async fn a_large_batch_is_one_batch(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let leases: Vec<Lease> = (0..2_000).map(|_| lease(&user, "key", 10)).collect();
    let settles: Vec<Entry> = leases.iter().map(|l| Entry::Settle(charge(l, 3, 4))).collect();
    write(&store, &settles).await;
    assert_eq!(used(&store, user.id).await, (16_000, 2_000));
}

pub async fn a_charge_that_cannot_be_stored_changes_nothing(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (good, bad) = (lease(&user, "key", 10), lease(&user, "key", 10));
    let overflow = Charge { cost_micro_dollars: i64::MIN, ..charge(&bad, 1, 1) };
    let batch = [Entry::Settle(charge(&good, 3, 4)), Entry::Settle(overflow)];
    let refused = store.write_batch(&batch, Some(mark(7))).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(used(&store, user.id).await, (0, 0));
    assert_eq!(store.latest_position().await.unwrap(), None);
}

fn mark(position: u64) -> JournalPosition {
    JournalPosition { log: uuid::Uuid::from_u128(5), position }
}

pub async fn the_watermark_commits_with_its_batch_and_never_goes_back(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    store.acquire_instance_lock().await.unwrap();
    assert_eq!(store.position_in(mark(0).log).await.unwrap(), None);
    let entry = Entry::Settle(charge(&lease(&user, "key", 10), 3, 4));
    let large = u64::from(u32::MAX) * 1000;
    for (position, known) in [(5, 5), (large, large), (7, large)] {
        store.write_batch(std::slice::from_ref(&entry), Some(mark(position))).await.unwrap();
        assert_eq!(store.position_in(mark(0).log).await.unwrap(), Some(known));
        assert_eq!(store.latest_position().await.unwrap(), Some(mark(known)));
        assert_eq!(used(&store, user.id).await, (8, 1));
    }
    // Another journal, and the first one again.
    let other = JournalPosition { log: uuid::Uuid::from_u128(6), position: 3 };
    store.write_batch(&[], Some(other)).await.unwrap();
    assert_eq!(store.latest_position().await.unwrap(), Some(other));
    store.write_batch(&[], None).await.unwrap();
    assert_eq!(store.latest_position().await.unwrap(), Some(other));
    store.write_batch(&[], Some(mark(1))).await.unwrap();
    assert_eq!(store.latest_position().await.unwrap(), Some(mark(large)));
    assert_eq!(store.position_in(other.log).await.unwrap(), Some(3));
}

pub async fn partitions_can_be_created_before_and_after_their_charges(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (early, late) = (lease(&user, "key", 10), lease(&user, "key", 10));
    let settle = |lease: &Lease| Entry::Settle(charge(lease, 3, 4));
    write(&store, &[settle(&early)]).await;
    for _ in 0..2 {
        store.create_partitions(day("2025-12-31")).await.unwrap();
    }
    for _ in 0..2 {
        write(&store, &[settle(&late), settle(&early)]).await;
        assert_eq!(used(&store, user.id).await, (16, 2));
    }
    for lease in [early, late] {
        assert!(store.charge(lease.request).await.unwrap().is_some());
    }
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 2);
    no_drift(&store).await;
}

pub async fn a_dead_letter_is_stored_once(store: Any) {
    assert_eq!(store.count_dead_letters().await.unwrap(), 0);
    let long = "{\"ünïcode\":'".repeat(1_000);
    let entries = ["", "\0", "a\0b", "a\u{fffd}b", &long];
    for now in [at(1), at(2)] {
        for entry in entries {
            store.dead_letter(entry, "not \0 readable", now).await.unwrap();
        }
    }
    assert_eq!(store.count_dead_letters().await.unwrap(), 5);
}

//! Finding calls by their ids, and pages of what users used.

use super::journal::write;
use super::reports::{SPANS, Told, folded, pages_agree};
use super::{Any, add_user, at, by, charge, day, lease, new_user, plan};
use domain::charge::{Charge, Lease};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use store::Entry;
use store::reports::{Grouping, HistoryFilter, UsagePosition, UserUsage};

pub async fn calls_are_found_by_request(store: Any) {
    let (ada, eve) = (add_user(&store, "a@b.c").await, add_user(&store, "e@b.c").await);
    let old = charge(&lease(&ada, "a", 1), 1, 1);
    let now = Timestamp::now();
    let today = Day::at(now, &jiff::tz::TimeZone::UTC);
    let new = Charge { day: today, admitted_at: now, ..charge(&lease(&ada, "a", 1), 2, 2) };
    // Milliseconds, as they are stored.
    let new =
        Charge { admitted_at: Timestamp::from_millisecond(now.as_millisecond()).unwrap(), ..new };
    write(&store, &[Entry::Settle(old.clone()), Entry::Settle(new.clone())]).await;
    for call in [&old, &new] {
        for user in [None, Some(ada.id)] {
            assert_eq!(store.call(call.request, user).await.unwrap().as_ref(), Some(call));
        }
        assert_eq!(store.call(call.request, Some(eve.id)).await.unwrap(), None);
    }
    assert_eq!(store.call(RequestId::new(), None).await.unwrap(), None);
    assert_eq!(store.call(RequestId(uuid::Uuid::nil()), None).await.unwrap(), None);
}

pub async fn history_is_found_by_request(store: Any) {
    let (user, other) = (add_user(&store, "a@b.c").await, add_user(&store, "e@b.c").await);
    let mut rows: Vec<Charge> = Vec::new();
    for n in 0..40_i64 {
        let admitted_at = at(n * 3 * 86_400);
        let on = Day::at(admitted_at, &jiff::tz::TimeZone::UTC);
        let lease =
            Lease { day: on, admitted_at, ..lease(&user, if n % 2 == 0 { "a" } else { "b" }, 1) };
        let named = match n % 4 {
            0 => Some("batch".into()),
            // The id of an earlier call, as a client may send it.
            1 => rows.first().map(|row| row.request.to_string().into()),
            _ => None,
        };
        rows.push(Charge { client_request_id: named, ..charge(&lease, 1, 1) });
    }
    let theirs =
        Charge { client_request_id: Some("batch".into()), ..charge(&lease(&other, "a", 1), 1, 1) };
    let batch: Vec<Entry> = rows.iter().chain([&theirs]).cloned().map(Entry::Settle).collect();
    write(&store, &batch).await;
    let ids =
        [rows[0].request.to_string(), rows[2].request.to_string(), theirs.request.to_string()];
    for id in ids.iter().map(String::as_str).chain(["batch", "", "req_", "none"]) {
        let by_id = HistoryFilter { request: Some(id.to_owned()), ..HistoryFilter::default() };
        let by_key = HistoryFilter { key: Some(KeyId::from("b")), ..by_id.clone() };
        let by_day = HistoryFilter { from: Some(day("2026-02-01")), ..by_id.clone() };
        for filter in [by_id, by_key, by_day] {
            pages_agree(&store, user.id, &rows, &filter).await;
        }
    }
}

/// All pages of what users used.
async fn pages_of_users(
    store: &Any,
    period: (Day, Day),
    grouping: Grouping,
    size: u32,
) -> Vec<UserUsage> {
    let (mut all, mut after): (Vec<UserUsage>, Option<UsagePosition>) = (Vec::new(), None);
    loop {
        let page = store.usage_of_users(period, grouping, after.as_ref(), size).await.unwrap();
        let is_last = page.len() < size as usize;
        after = page.last().map(UserUsage::position).or(after);
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

pub async fn usage_of_users_comes_in_pages(store: Any) {
    let told = Told::to(&store).await;
    store.add_user(&new_user("idle@b.c", "basic"), &by()).await.unwrap();
    let account = |user: UserId| told.users.iter().find(|known| known.id == user).cloned();
    // A request may ask for a year.
    let spans = [("2025-12-15", "2026-12-14")].into_iter().chain(SPANS.into_iter().skip(1));
    for (from, to) in spans {
        let period = (day(from), day(to));
        let asked = told.rows.iter().filter(|row| (period.0..=period.1).contains(&row.day));
        let rows: Vec<&Charge> = asked.collect();
        let by_model = folded(&rows, |row| (row.user, Some(row.model.to_string())));
        let by_user = folded(&rows, |row| (row.user, None));
        for (grouping, sums) in [(Grouping::UserAndModel, by_model), (Grouping::User, by_user)] {
            let row =
                |((user, model), sums)| UserUsage { user, account: account(user), model, sums };
            let expected: Vec<UserUsage> = sums.into_iter().map(row).collect();
            for size in [1, 2, 1_000] {
                let found = pages_of_users(&store, period, grouping, size).await;
                assert_eq!(found, expected, "{from} {to} {grouping:?} by {size}");
            }
        }
    }
}

pub async fn usage_of_few_users_among_many(store: Any) {
    store.sync_plans(&[plan("basic")], &by()).await.unwrap();
    let mut users = Vec::new();
    for n in 0..120 {
        let new = new_user(&format!("{n}@b.c"), "basic");
        users.push(store.add_user(&new, &by()).await.unwrap());
    }
    users.sort_by_key(|user| user.id);
    let active = [&users[0], &users[70], &users[119]];
    let batch = active.map(|user| Entry::Settle(charge(&lease(user, "a", 1), 1, 1)));
    write(&store, &batch).await;
    // A user whose account is gone, and whose id is above all others.
    let gone = UserId(uuid::Uuid::max());
    let theirs = Lease { user: gone, ..lease(active[0], "a", 1) };
    write(&store, &[Entry::Settle(charge(&theirs, 1, 1))]).await;
    let period = (day("2026-01-01"), day("2026-01-31"));
    for size in [1, 2, 50] {
        let found = pages_of_users(&store, period, Grouping::User, size).await;
        let ids: Vec<UserId> = found.iter().map(|row| row.user).collect();
        assert_eq!(ids, [active[0].id, active[1].id, active[2].id, gone], "by {size}");
        assert_eq!(found[3].account, None);
    }
    let before = (day("2025-12-01"), day("2025-12-31"));
    assert_eq!(pages_of_users(&store, before, Grouping::UserAndModel, 50).await, []);
}

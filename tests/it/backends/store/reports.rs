//! Reports against a naive fold over the ledger rows of a random history, in which estimates were
//! replaced, calls end at the same time, and days overlap.

use super::journal::{estimate, write};
use super::random_ledger::{DAYS, Dice, MODELS, call, ended};
use super::{Any, add_user, at, by, charge, day, lease, new_key, new_user, plan};
use domain::charge::{Charge, Lease, Status};
use domain::day::Day;
use domain::id::{KeyId, PlanId, RequestId, UserId};
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use store::reports::{DayTotals, HistoryFilter, LATENCY_BOUNDS, Latency, Sums, TopBy};
use store::{Entry, UserChange};

/// A store with three users and what is in its ledger.
pub struct Told {
    pub users: Vec<User>,
    pub rows: Vec<Charge>,
}

impl Told {
    pub async fn to(store: &Any) -> Self {
        store.sync_plans(&[plan("basic"), plan("other")], &by()).await.unwrap();
        let mut users = Vec::new();
        for (email, plan) in [("a@b.c", "basic"), ("b@b.c", "other"), ("c@b.c", "basic")] {
            users.push(store.add_user(&new_user(email, plan), &by()).await.unwrap());
        }
        store.create_partitions(day("2026-01-01")).await.unwrap();
        let mut dice = Dice::new();
        for _ in 0..25 {
            let count = dice.roll(12);
            let calls: Vec<Lease> = (0..count).map(|_| call(&mut dice, &users)).collect();
            // Some are taken for dead first, and some of those never come back.
            let dead: Vec<&Lease> = calls.iter().filter(|_| dice.roll(4) == 0).collect();
            let guess = |lease: &&Lease| Charge { model: "guessed".into(), ..estimate(lease) };
            let estimates: Vec<Entry> = dead.iter().map(guess).map(Entry::Settle).collect();
            write(store, &estimates).await;
            let lost = dead.first().filter(|_| dice.roll(2) == 0).map(|lease| lease.request);
            let back = calls.iter().filter(|lease| Some(lease.request) != lost);
            let real: Vec<Entry> =
                back.map(|lease| Entry::Settle(ended(&mut dice, lease))).collect();
            write(store, &real).await;
            write(store, &real).await;
        }
        Self::what_is_there(store, users).await
    }

    async fn what_is_there(store: &Any, users: Vec<User>) -> Self {
        let mut rows = Vec::new();
        let today = Day::at(Timestamp::now(), &jiff::tz::TimeZone::UTC);
        for on in DAYS.map(day).into_iter().chain([today]) {
            rows.extend(store.charges(on).await.unwrap());
        }
        Self { users, rows }
    }

    fn of(&self, user: &User, from: Day, to: Day) -> Vec<&Charge> {
        let is_asked = |row: &&Charge| row.user == user.id && (from..=to).contains(&row.day);
        self.rows.iter().filter(is_asked).collect()
    }

    async fn sums_agree(&self, store: &Any) {
        assert!(self.rows.len() > 50);
        for (user, (from, to)) in self.users.iter().flat_map(|user| SPANS.map(|span| (user, span)))
        {
            let (from, to) = (day(from), day(to));
            let rows = self.of(user, from, to);
            let by_day = store.usage_by_day(user.id, from, to).await.unwrap();
            assert_eq!(by_day, in_order(folded(&rows, |row| row.day)));
            let by_model = store.usage_by_model(user.id, from, to).await.unwrap();
            assert_eq!(by_model, dearest_first(folded(&rows, |row| row.model.to_string())));
            let latency = store.latency(user.id, from, to).await.unwrap();
            assert_eq!(latency, latency_of(&rows));
        }
    }

    async fn quarters_agree(&self, store: &Any, days: &[Day]) {
        let quarter = |row: &Charge| row.admitted_at.as_second() / 900 * 900;
        for (user, on) in self.users.iter().flat_map(|user| days.iter().map(move |on| (user, *on)))
        {
            let folded =
                folded(&self.of(user, on, on), |row| (quarter(row), row.model.to_string()));
            let expected: Vec<_> = folded
                .into_iter()
                .map(|((at, model), sums)| (Timestamp::from_second(at).unwrap(), model, sums))
                .collect();
            assert_eq!(store.usage_by_quarter_hour(user.id, on).await.unwrap(), expected);
        }
    }
}

pub const SPANS: [(&str, &str); 4] = [
    ("2000-01-01", "2100-01-01"),
    ("2026-01-02", "2026-01-02"),
    ("2026-01-03", "2026-01-05"),
    ("2026-01-05", "2026-01-05"),
];

fn sums(rows: &[&Charge]) -> Sums {
    let mut sums = Sums::default();
    for row in rows {
        sums.requests += u64::from(row.counted);
        sums.calls += 1;
        sums.failed += u64::from(matches!(row.status, Status::Failed | Status::CutByUpstream));
        sums.prompt += row.tokens.prompt;
        sums.cached += row.tokens.cached;
        sums.completion += row.tokens.completion;
        sums.reasoning += row.tokens.reasoning;
        sums.cost_micro_dollars += row.cost_micro_dollars;
    }
    sums
}

pub fn folded<K: Ord>(rows: &[&Charge], name: impl Fn(&Charge) -> K) -> BTreeMap<K, Sums> {
    let mut groups: BTreeMap<K, Vec<&Charge>> = BTreeMap::new();
    for row in rows {
        groups.entry(name(row)).or_default().push(row);
    }
    groups.into_iter().map(|(name, rows)| (name, sums(&rows))).collect()
}

fn in_order<K>(groups: BTreeMap<K, Sums>) -> Vec<(K, Sums)> {
    groups.into_iter().collect()
}

fn dearest_first<K: Ord>(groups: BTreeMap<K, Sums>) -> Vec<(K, Sums)> {
    let mut groups = in_order(groups);
    groups.sort_by_key(|(_, sums)| Reverse(sums.tokens()));
    groups
}

fn latency_of(rows: &[&Charge]) -> Latency {
    let mut latency = Latency::default();
    for row in rows {
        let bucket = LATENCY_BOUNDS.iter().position(|bound| row.total_ms <= *bound);
        latency.0[bucket.unwrap_or(LATENCY_BOUNDS.len())] += 1;
    }
    latency
}

pub async fn sums_match_the_ledger(store: Any) {
    let told = Told::to(&store).await;
    told.sums_agree(&store).await;
    told.quarters_agree(&store, &DAYS.map(day)).await;
}

/// The rollups are right though the rows were there before they were.
pub async fn sums_match_the_older_ledger(store: &Any, users: Vec<User>) {
    let told = Told::what_is_there(store, users).await;
    told.sums_agree(store).await;
    let today = told.rows.iter().map(|row| row.day).max().unwrap();
    told.quarters_agree(store, &[today]).await;
    for user in &told.users {
        pages_agree(store, user.id, &told.rows, &HistoryFilter::default()).await;
    }
}

pub async fn latency_counts_calls_by_their_time(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let on = day("2026-01-02");
    let took = |total_ms| Charge { total_ms, ..charge(&lease(&user, "a", 1), 1, 1) };
    let all =
        LATENCY_BOUNDS.iter().flat_map(|bound| [bound - 1, *bound]).chain([300_001, 9_999_999]);
    let batch: Vec<Entry> = all.map(|ms| Entry::Settle(took(ms))).collect();
    write(&store, &batch).await;
    let latency = store.latency(user.id, on, on).await.unwrap();
    assert_eq!(latency, Latency([2; LATENCY_BOUNDS.len() + 1]));
    assert_eq!(store.latency(UserId::new(), on, on).await.unwrap(), Latency::default());
}

/// All pages of `size` rows, one after the other.
async fn paged(store: &Any, user: UserId, filter: &HistoryFilter, size: u32) -> Vec<Charge> {
    let (mut all, mut before): (Vec<Charge>, Option<(Timestamp, RequestId)>) = (Vec::new(), None);
    loop {
        let page = store.history(user, filter, before, size).await.unwrap();
        let is_last = page.len() < size as usize;
        before = page.last().map(|row| (row.admitted_at, row.request));
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

fn passes(filter: &HistoryFilter, row: &Charge) -> bool {
    filter.from.is_none_or(|from| row.day >= from)
        && filter.to.is_none_or(|to| row.day <= to)
        && filter.model.as_deref().is_none_or(|model| *row.model == *model)
        && filter.status.is_none_or(|status| row.status == status)
        && filter.key.as_ref().is_none_or(|key| row.key == *key)
        && filter.request.as_deref().is_none_or(|id| {
            row.request.to_string() == id || row.client_request_id.as_deref() == Some(id)
        })
}

pub async fn pages_agree(store: &Any, user: UserId, rows: &[Charge], filter: &HistoryFilter) {
    let mine = rows.iter().filter(|row| row.user == user && passes(filter, row));
    let mut expected: Vec<Charge> = mine.cloned().collect();
    expected.sort_by_key(|row| Reverse((row.admitted_at, row.request)));
    for size in [1, 7, 1_000] {
        assert_eq!(paged(store, user, filter, size).await, expected, "{filter:?} by {size}");
    }
    assert_eq!(store.history(user, filter, None, 0).await.unwrap(), []);
}

pub async fn history_comes_in_pages(store: Any) {
    let told = Told::to(&store).await;
    let user = told.users[0].id;
    let mut filters = vec![HistoryFilter::default()];
    filters.extend(
        Status::ALL
            .map(|status| HistoryFilter { status: Some(status), ..HistoryFilter::default() }),
    );
    filters.extend(MODELS.iter().chain(&["none"]).map(|model| HistoryFilter {
        model: Some((*model).to_owned()),
        ..HistoryFilter::default()
    }));
    for (from, to) in SPANS {
        let (from, to) = (Some(day(from)), Some(day(to)));
        filters.push(HistoryFilter { from, ..HistoryFilter::default() });
        filters.push(HistoryFilter { to, ..HistoryFilter::default() });
        let key = Some(KeyId::from("a-1"));
        filters.push(HistoryFilter { from, to, key, ..HistoryFilter::default() });
    }
    for filter in filters {
        pages_agree(&store, user, &told.rows, &filter).await;
    }
}

pub async fn history_of_few_calls_over_years(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let mut rows = Vec::new();
    for n in 0..130 {
        let admitted_at = at(n * 9 * 86_400);
        let on = Day::at(admitted_at, &jiff::tz::TimeZone::UTC);
        let lease = Lease { day: on, admitted_at, ..lease(&user, "a", 1) };
        let status = if n % 40 == 0 { Status::Failed } else { Status::Complete };
        rows.push(Charge { status, ..charge(&lease, 1, 1) });
    }
    let batch: Vec<Entry> = rows.iter().cloned().map(Entry::Settle).collect();
    write(&store, &batch).await;
    for status in [None, Some(Status::Failed), Some(Status::Abandoned)] {
        let filter = HistoryFilter { status, ..HistoryFilter::default() };
        pages_agree(&store, user.id, &rows, &filter).await;
    }
}

pub async fn keys_report_their_last_use(store: Any) {
    let told = Told::to(&store).await;
    for user in &told.users {
        let mut last: BTreeMap<KeyId, Timestamp> = BTreeMap::new();
        for row in told.rows.iter().filter(|row| row.user == user.id) {
            let at = last.entry(row.key.clone()).or_insert(row.admitted_at);
            *at = (*at).max(row.admitted_at);
        }
        let expected: Vec<(KeyId, Timestamp)> = last.into_iter().collect();
        assert_eq!(expected.len(), 2);
        assert_eq!(store.last_used(user.id).await.unwrap(), expected);
    }
}

pub async fn a_key_is_written_at_most_once_a_minute(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let call = async |key: &str, seconds: i64| {
        let lease = Lease { admitted_at: at(seconds), ..lease(&user, key, 1) };
        write(&store, &[Entry::Settle(charge(&lease, 1, 1))]).await;
        let used = store.last_used(user.id).await.unwrap().into_iter();
        let found = used.filter(|(id, _)| id.as_str() == key).map(|(_, at)| at).next();
        found.unwrap().as_second() - at(0).as_second()
    };
    assert_eq!(call("a", 100).await, 100);
    assert_eq!(call("a", 159).await, 100, "less than a minute later");
    assert_eq!(call("b", 130).await, 130, "another key");
    assert_eq!(call("a", 160).await, 160);
    assert_eq!(call("a", 20).await, 160, "never back");
    assert_eq!(call("a", 219).await, 160);
    assert_eq!(call("a", 1_000).await, 1_000);
    let at_once = [1_400, 1_200, 1_401].map(|seconds| {
        let lease = Lease { admitted_at: at(seconds), ..lease(&user, "b", 1) };
        Entry::Settle(charge(&lease, 1, 1))
    });
    write(&store, &at_once).await;
    let used = store.last_used(user.id).await.unwrap();
    let off_by = at(1_401).as_second() - used[1].1.as_second();
    assert!((0..60).contains(&off_by), "of a batch the last counts: {used:?}");
}

pub async fn a_deleted_key_has_no_last_use(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let key = new_key("old");
    store.add_key(user.id, &key, &by()).await.unwrap();
    write(&store, &[Entry::Settle(charge(&lease(&user, key.id.as_str(), 1), 1, 1))]).await;
    write(&store, &[Entry::Settle(charge(&lease(&user, "other", 1), 1, 1))]).await;
    assert_eq!(store.last_used(user.id).await.unwrap().len(), 2);
    // It expired long ago.
    let pruned = store.prune(at(400 * 86_400)).await.unwrap();
    assert!(pruned > 0);
    let used = store.last_used(user.id).await.unwrap();
    assert_eq!(used, [(KeyId::from("other"), at(1))]);
}

pub async fn users_are_counted_by_plan_and_status(store: Any) {
    let told = Told::to(&store).await;
    let change = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    store.change_user(told.users[0].id, &change, &by()).await.unwrap();
    let (basic, other) = (PlanId::from("basic"), PlanId::from("other"));
    let expected = [
        (basic.clone(), UserStatus::Active, 1),
        (basic, UserStatus::Suspended, 1),
        (other, UserStatus::Active, 1),
    ];
    assert_eq!(store.user_counts().await.unwrap(), expected);
}

pub async fn totals_are_the_sums_of_all_users(store: Any) {
    let told = Told::to(&store).await;
    // By the plan they have now.
    let change = UserChange { plan: Some(PlanId::from("other")), ..UserChange::default() };
    store.change_user(told.users[2].id, &change, &by()).await.unwrap();
    store.add_user(&new_user("idle@b.c", "basic"), &by()).await.unwrap();
    for (from, to) in SPANS {
        let (from, to) = (day(from), day(to));
        let asked = told.rows.iter().filter(|row| (from..=to).contains(&row.day));
        let rows: Vec<&Charge> = asked.collect();
        let by_model = store.totals_by_model(from, to).await.unwrap();
        assert_eq!(by_model, dearest_first(folded(&rows, |row| row.model.to_string())));

        let plan_of = |row: &Charge| {
            if row.user == told.users[0].id { PlanId::from("basic") } else { PlanId::from("other") }
        };
        let people = |plan: &PlanId| {
            let users = folded(&rows, |row| (plan_of(row), row.user));
            users.keys().filter(|(theirs, _)| theirs == plan).count() as u64
        };
        let expected: Vec<_> = folded(&rows, plan_of)
            .into_iter()
            .map(|(plan, sums)| (plan.clone(), people(&plan), sums))
            .collect();
        assert_eq!(store.totals_by_plan(from, to).await.unwrap(), expected);

        let by_day = in_order(folded(&rows, |row| row.day)).into_iter().map(|(day, sums)| {
            let of_day: Vec<&Charge> = rows.iter().copied().filter(|row| row.day == day).collect();
            DayTotals { day, sums, latency: latency_of(&of_day) }
        });
        let expected: Vec<DayTotals> = by_day.collect();
        assert_eq!(store.totals_by_day(from, to).await.unwrap(), expected);
    }
}

pub async fn top_users_come_in_order(store: Any) {
    let told = Told::to(&store).await;
    store.add_user(&new_user("idle@b.c", "basic"), &by()).await.unwrap();
    for (by, (from, to)) in [TopBy::Tokens, TopBy::Requests, TopBy::Cost]
        .into_iter()
        .flat_map(|by| SPANS.map(|s| (by, s)))
    {
        let (from, to) = (day(from), day(to));
        let asked = told.rows.iter().filter(|row| (from..=to).contains(&row.day));
        let rows: Vec<&Charge> = asked.collect();
        let mut users = in_order(folded(&rows, |row| row.user));
        users.sort_by_key(|(_, sums)| {
            Reverse(match by {
                TopBy::Tokens => i64::try_from(sums.tokens()).unwrap(),
                TopBy::Requests => i64::try_from(sums.requests).unwrap(),
                TopBy::Cost => sums.cost_micro_dollars,
            })
        });
        for limit in [0, 2, 100] {
            let told_of = store.top_users(from, to, by, limit).await.unwrap();
            for (user, _) in &told_of {
                assert_eq!(told.users.iter().find(|u| u.id == user.id), Some(user));
            }
            let ids: Vec<_> = told_of.into_iter().map(|(user, sums)| (user.id, sums)).collect();
            let first = users.iter().take(limit as usize).copied();
            assert_eq!(ids, first.collect::<Vec<_>>(), "{by:?}");
        }
    }
    // Equal sums go by the users' ids.
    let on = day("2026-02-01");
    let same = |user: &User| charge(&Lease { day: on, ..lease(user, "k", 1) }, 5, 5);
    let batch: Vec<Entry> = told.users.iter().rev().map(|u| Entry::Settle(same(u))).collect();
    write(&store, &batch).await;
    let mut ids: Vec<UserId> = told.users.iter().map(|user| user.id).collect();
    ids.sort_unstable();
    let top = store.top_users(on, on, TopBy::default(), 2).await.unwrap();
    assert_eq!(top.iter().map(|(user, _)| user.id).collect::<Vec<_>>(), ids[..2]);
}

pub async fn a_store_reports_its_connections(store: Any) {
    store.ping().await.unwrap();
    write(&store, &[]).await;
    let all = store.connections();
    assert!(1 <= all.open && all.in_use <= all.open && all.open <= all.max, "{all:?}");
}

pub async fn reports_on_nothing_are_empty(store: Any) {
    let (user, on, filter) = (UserId::new(), day("2026-01-02"), HistoryFilter::default());
    assert_eq!(store.usage_by_day(user, on, on).await.unwrap(), []);
    assert_eq!(store.usage_by_model(user, on, on).await.unwrap(), []);
    assert_eq!(store.usage_by_quarter_hour(user, on).await.unwrap(), []);
    assert_eq!(store.history(user, &filter, None, 10).await.unwrap(), []);
    assert_eq!(store.last_used(user).await.unwrap(), []);
    assert_eq!(store.user_counts().await.unwrap(), []);
    assert_eq!(store.totals_by_plan(on, on).await.unwrap(), []);
    assert_eq!(store.totals_by_model(on, on).await.unwrap(), []);
    assert_eq!(store.totals_by_day(on, on).await.unwrap(), []);
    assert_eq!(store.top_users(on, on, TopBy::Cost, 10).await.unwrap(), []);
}

//! The audit log: what each change leaves in it.

use super::{Any, add_user, admin, at, by, new_key, new_user, plan, suspend, to};
use domain::actor::{Actor, AuditContext};
use domain::id::{PlanId, UserId};
use domain::plan::Plan;
use domain::user::{LimitOverrides, Role};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use store::audit::{AuditEntry, AuditFilter, Change};
use store::{KeyChange, UserChange};
use uuid::Uuid;

/// All entries, the oldest first.
async fn log(store: &Any) -> Vec<AuditEntry> {
    let mut entries = store.audit(&AuditFilter::default(), None, 1_000).await.unwrap();
    entries.reverse();
    entries
}

/// What a change adds to the log.
async fn told<T>(store: &Any, change: impl Future<Output = T>) -> (T, Vec<AuditEntry>) {
    let before = log(store).await.len();
    let changed = change.await;
    (changed, log(store).await.split_off(before))
}

/// Actions and subjects.
fn titles(entries: &[AuditEntry]) -> Vec<(&str, &str)> {
    entries.iter().map(|entry| (entry.action.as_str(), entry.subject.as_str())).collect()
}

/// Of an entry, what differs between before and after: the fields with both their values.
fn differences(entry: &AuditEntry) -> Value {
    let (before, after) = (entry.before.as_ref().unwrap(), entry.after.as_ref().unwrap());
    let fields = after.as_object().unwrap().iter();
    let differing = fields.filter(|(name, now)| before.get(name) != Some(now));
    differing.map(|(name, now)| (name.clone(), json!([before.get(name), now]))).collect()
}

pub async fn changes_of_users_are_logged_with_old_values(store: Any) {
    store.sync_plans(&[plan("basic"), plan("other")], &by()).await.unwrap();
    let by = admin();
    let (user, entries) = told(&store, store.add_user(&new_user("a@b.c", "basic"), &by)).await;
    let user = user.unwrap();
    let subject = format!("user:{}", user.id);
    let expected = AuditEntry {
        id: entries[0].id,
        at: at(9),
        actor: by.actor.to_string(),
        action: "user.add".to_owned(),
        subject: subject.clone(),
        before: None,
        after: Some(json!({
            "email": "a@b.c",
            "email_verified": false,
            "username": null,
            "role": "user",
            "status": "active",
            "plan": "basic",
            "overrides": LimitOverrides::default(),
        })),
        request: Some("req_1".to_owned()),
    };
    assert_eq!(entries, std::slice::from_ref(&expected));

    let overrides = LimitOverrides { tokens_per_day: Some(3), ..LimitOverrides::default() };
    let change = UserChange {
        role: Some(Role::Admin),
        plan: Some(PlanId::from("other")),
        overrides: Some(overrides.clone()),
        ..UserChange::default()
    };
    let (_, entries) = told(&store, store.change_user(user.id, &change, &by)).await;
    assert_eq!(titles(&entries), [("user.change", subject.as_str())]);
    assert_eq!(entries[0].before, expected.after);
    let differing = json!({
        "role": ["user", "admin"],
        "plan": ["basic", "other"],
        "overrides": [LimitOverrides::default(), overrides],
    });
    assert_eq!(differences(&entries[0]), differing);

    let (_, entries) = told(&store, suspend(&store, user.id)).await;
    assert_eq!(differences(&entries[0]), json!({ "status": ["active", "suspended"] }));
    assert_eq!((&*entries[0].actor, &entries[0].request), ("operator", &None));

    let secret = UserChange { password_hash: Some("s3cret".into()), ..UserChange::default() };
    let (_, entries) = told(&store, store.change_user(user.id, &secret, &by)).await;
    assert_eq!(differences(&entries[0]), json!({ "password": [null, "changed"] }));
    assert!(!format!("{entries:?}").contains("s3cret"));
}

pub async fn changes_of_keys_are_logged_with_old_values(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (by, new) = (admin(), new_key("laptop"));
    let subject = format!("key:{}", new.id);
    let (_, entries) = told(&store, store.add_key(user.id, &new, &by)).await;
    assert_eq!(titles(&entries), [("key.add", subject.as_str())]);
    assert_eq!(entries[0].before, None);
    let added = json!({
        "name": "laptop",
        "last_four": new.last_four,
        "expires_at": at(60),
        "revoked_at": null,
        "max_tokens_per_day": 7,
        "max_requests_per_day": null,
        "models": ["grok-4"],
    });
    assert_eq!(entries[0].after, Some(added));

    let change = KeyChange { expires_at: Some(None), ..KeyChange::default() };
    let (_, entries) = told(&store, store.change_key(user.id, &new.id, &change, &by)).await;
    assert_eq!(titles(&entries), [("key.change", subject.as_str())]);
    assert_eq!(differences(&entries[0]), json!({ "expires_at": [at(60), null] }));

    let next = new_key("laptop");
    let (_, entries) = told(&store, store.replace_key(user.id, &next, &by)).await;
    let next_subject = format!("key:{}", next.id);
    let both = [("key.revoke", subject.as_str()), ("key.add", next_subject.as_str())];
    assert_eq!(titles(&entries), both);
    assert_eq!(differences(&entries[0]), json!({ "revoked_at": [null, at(9)] }));

    let (_, entries) = told(&store, store.revoke_key(&next.id, &by)).await;
    assert_eq!(titles(&entries), [("key.revoke", next_subject.as_str())]);
    assert_eq!(differences(&entries[0]), json!({ "revoked_at": [null, at(9)] }));
}

pub async fn changes_of_plans_are_logged_with_old_values(store: Any) {
    let by = AuditContext::gateway(at(1));
    let (_, entries) = told(&store, store.sync_plans(&[plan("one"), plan("two")], &by)).await;
    assert_eq!(titles(&entries), [("plan.add", "plan:one"), ("plan.add", "plan:two")]);
    assert_eq!((entries[0].at, &*entries[0].actor), (at(1), "gateway"));
    let added = json!({
        "name": "Plan one",
        "price_cents": 400,
        "max_tokens_per_day": 1_000,
        "cached_token_fraction": 0.125,
        "max_requests_per_day": 10,
        "window": { "requests": 5, "seconds": 60 },
        "concurrent_streams": 3,
        "models": ["grok-4", "grok-3"],
        "time_zone": "Europe/Berlin",
        "retired": false,
        "server_tools": "strip",
        "max_tool_calls": 7,
        "service_tiers": ["auto", "default", "flex", "standard", "standard_only"],
        "image_sizes":
            ["auto", "256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "1k"],
        "image_qualities": ["auto", "low", "medium", "standard"],
        "account_references": true,
    });
    assert_eq!((&entries[0].before, &entries[0].after), (&None, &Some(added)));

    let two = Plan { price_cents: 500, ..plan("two") };
    let (_, entries) = told(&store, store.sync_plans(&[plan("one"), two.clone()], &by)).await;
    assert_eq!(titles(&entries), [("plan.change", "plan:two")]);
    assert_eq!(differences(&entries[0]), json!({ "price_cents": [400, 500] }));
    let two = Plan { retired: true, ..two };
    let (_, entries) = told(&store, store.change_plan(&two.id, &to(&two), &admin())).await;
    assert_eq!(titles(&entries), [("plan.retire", "plan:two")]);
    assert_eq!(differences(&entries[0]), json!({ "retired": [false, true] }));
    let (_, entries) = told(&store, store.add_plan(&plan("three"), &admin())).await;
    assert_eq!(titles(&entries), [("plan.add", "plan:three")]);
}

pub async fn decisions_are_logged_with_old_values(store: Any) {
    store.sync_plans(&[plan("big"), plan("huge")], &by()).await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let (big, huge) = (PlanId::from("big"), PlanId::from("huge"));
    let by = admin();
    let (asked, entries) = told(&store, store.request_upgrade(user.id, &big, &by)).await;
    let first = format!("upgrade:{}", asked.unwrap().id);
    assert_eq!(titles(&entries), [("upgrade.ask", first.as_str())]);
    let request =
        |to, status| Some(json!({ "user": user.id, "from": "basic", "to": to, "status": status }));
    assert_eq!((&entries[0].before, &entries[0].after), (&None, &request("big", "pending")));

    let (asked, entries) = told(&store, store.request_upgrade(user.id, &huge, &by)).await;
    let id = asked.unwrap().id;
    let second = format!("upgrade:{id}");
    assert_eq!(titles(&entries), [("upgrade.ask", second.as_str())]);
    let both = (&request("big", "pending"), &request("huge", "pending"));
    assert_eq!((&entries[0].before, &entries[0].after), both);

    let (_, entries) = told(&store, store.decide_upgrade(id, true, &by)).await;
    let subject = format!("user:{}", user.id);
    let both = [("upgrade.approve", second.as_str()), ("user.change", subject.as_str())];
    assert_eq!(titles(&entries), both);
    assert_eq!(differences(&entries[0]), json!({ "status": ["pending", "approved"] }));
    assert_eq!(differences(&entries[1]), json!({ "plan": ["basic", "huge"] }));

    let id = store.request_upgrade(user.id, &big, &by).await.unwrap().id;
    let (_, entries) = told(&store, store.decide_upgrade(id, false, &by)).await;
    assert_eq!(titles(&entries), [("upgrade.reject", &*format!("upgrade:{id}"))]);
    assert_eq!(differences(&entries[0]), json!({ "status": ["pending", "rejected"] }));
}

pub async fn a_change_without_effect_is_not_logged(store: Any) {
    store.sync_plans(&[plan("basic"), plan("big")], &by()).await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let (key, gone) = (new_key("laptop"), new_key("gone"));
    store.add_key(user.id, &key, &by()).await.unwrap();
    store.add_key(user.id, &gone, &by()).await.unwrap();
    store.revoke_key(&gone.id, &by()).await.unwrap();
    let password = UserChange { password_hash: Some("hash".into()), ..UserChange::default() };
    store.change_user(user.id, &password, &by()).await.unwrap();
    let big = PlanId::from("big");
    let asked = store.request_upgrade(user.id, &big, &by()).await.unwrap();
    store.decide_upgrade(asked.id, false, &by()).await.unwrap();
    let asked = store.request_upgrade(user.id, &big, &by()).await.unwrap();
    store.decide_upgrade(asked.id, true, &by()).await.unwrap();
    let basic = PlanId::from("basic");
    store.request_upgrade(user.id, &basic, &by()).await.unwrap();

    let nothing = async {
        store.sync_plans(&[plan("basic"), plan("big")], &by()).await.unwrap();
        for known in ["basic", "unknown"] {
            let plan = plan(known);
            store.change_plan(&plan.id, &to(&plan), &by()).await.unwrap();
        }
        store.add_plan(&Plan { price_cents: 1, ..plan("big") }, &by()).await.unwrap();
        store.change_user(user.id, &UserChange::default(), &by()).await.unwrap();
        store.change_user(user.id, &password, &by()).await.unwrap();
        store.change_user(UserId::new(), &password, &by()).await.unwrap();
        store.rehash(user.id, "hash", "hash of the same").await.unwrap();
        store.add_key(user.id, &key, &by()).await.unwrap();
        store.replace_key(user.id, &key, &by()).await.unwrap();
        store.revoke_key(&gone.id, &by()).await.unwrap();
        let name = KeyChange { name: Some("laptop".into()), ..KeyChange::default() };
        store.change_key(user.id, &key.id, &name, &by()).await.unwrap();
        store.change_key(user.id, &gone.id, &name, &by()).await.unwrap();
        store.decide_upgrade(asked.id, true, &by()).await.unwrap();
        store.request_upgrade(user.id, &basic, &by()).await.unwrap();
    };
    let ((), entries) = told(&store, nothing).await;
    assert_eq!(entries, []);
}

pub async fn a_rejected_change_is_not_logged(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let other = add_user(&store, "d@e.f").await;
    let key = new_key("laptop");
    store.add_key(other.id, &key, &by()).await.unwrap();
    let refused = async {
        let change = UserChange {
            email: Some("d@e.f".into()),
            password_hash: Some("hash".into()),
            ..UserChange::default()
        };
        store.change_user(user.id, &change, &by()).await.unwrap_err();
        let change = UserChange { plan: Some(PlanId::from("gone")), ..UserChange::default() };
        store.change_user(user.id, &change, &by()).await.unwrap_err();
        store.add_user(&new_user("a@b.c", "basic"), &by()).await.unwrap_err();
        store.add_user(&new_user("g@h.i", "gone"), &by()).await.unwrap_err();
        store.add_key(user.id, &key, &by()).await.unwrap_err();
        store.replace_key(user.id, &key, &by()).await.unwrap_err();
        store.add_key(UserId::new(), &new_key("orphan"), &by()).await.unwrap_err();
        store.request_upgrade(user.id, &PlanId::from("gone"), &by()).await.unwrap_err();
    };
    let ((), entries) = told(&store, refused).await;
    assert_eq!(entries, []);
}

fn note(subject: &str) -> Change {
    Change { action: "config.reload", subject: subject.to_owned(), before: None, after: None }
}

pub async fn an_audit_entry_reads_back_as_written(store: Any) {
    let value = json!({ "ünïcode \0 \" '": [1, -2.5, null, true, u64::MAX, "\u{1f600}"] });
    let change = Change { before: Some(json!(null)), after: Some(value), ..note("config") };
    let by = AuditContext { request_id: Some("a \0 b".to_owned()), ..admin() };
    store.append_audit(&change, &by).await.unwrap();
    let entries = log(&store).await;
    let expected = AuditEntry {
        id: entries[0].id,
        at: by.at,
        actor: by.actor.to_string(),
        action: change.action.to_owned(),
        subject: change.subject,
        before: change.before,
        after: change.after,
        request: Some("a \u{fffd} b".to_owned()),
    };
    assert_eq!(entries, [expected]);
}

pub async fn entries_come_in_pages_the_newest_first(store: Any) {
    for n in 0..7 {
        store.append_audit(&note(&format!("n:{n}")), &by()).await.unwrap();
    }
    let (mut subjects, mut before): (Vec<String>, Option<Uuid>) = (Vec::new(), None);
    loop {
        let page = store.audit(&AuditFilter::default(), before, 3).await.unwrap();
        assert!(page.len() <= 3);
        match page.last() {
            Some(last) => before = Some(last.id),
            None => break,
        }
        subjects.extend(page.into_iter().map(|entry| entry.subject));
    }
    assert_eq!(subjects, ["n:6", "n:5", "n:4", "n:3", "n:2", "n:1", "n:0"]);
}

pub async fn entries_are_found_by_subject_and_by_actor(store: Any) {
    let ada = AuditContext { actor: Actor::User(UserId::new()), ..by() };
    for (subject, by) in [("one", &ada), ("two", &ada), ("one", &by()), ("two", &ada)] {
        store.append_audit(&note(subject), by).await.unwrap();
    }
    let log = log(&store).await;
    let (ada, one) = (Some(ada.actor.to_string()), Some("one".to_owned()));
    for (actor, subject, expected) in [
        (None, one.clone(), vec![2, 0]),
        (ada.clone(), None, vec![3, 1, 0]),
        (ada, one, vec![0]),
        (Some("operator".to_owned()), Some("two".to_owned()), vec![]),
    ] {
        let filter = AuditFilter { actor, subject, ..AuditFilter::default() };
        let expected: Vec<_> = expected.into_iter().map(|n: usize| log[n].clone()).collect();
        assert_eq!(store.audit(&filter, None, 9).await.unwrap(), expected);
        let Some(first) = expected.first() else { continue };
        let rest = store.audit(&filter, Some(first.id), 9).await.unwrap();
        assert_eq!(rest, expected[1..]);
    }
}

pub async fn entries_are_found_by_action_and_time(store: Any) {
    let now = Timestamp::now();
    let minutes = |n: i64| now.checked_sub(n.minutes()).unwrap();
    for (ago, action) in [(2, "user.change"), (1, "plan.change"), (0, "user.change")] {
        let by = AuditContext::operator(minutes(ago));
        store.append_audit(&Change { action, ..note("one") }, &by).await.unwrap();
    }
    let log = log(&store).await;
    let of = async |action: Option<&str>, from: Option<i64>, until: Option<i64>| {
        let filter = AuditFilter {
            action: action.map(str::to_owned),
            from: from.map(minutes),
            until: until.map(minutes),
            ..AuditFilter::default()
        };
        let found = store.audit(&filter, None, 9).await.unwrap();
        let place = |entry: AuditEntry| log.iter().position(|known| *known == entry).unwrap();
        found.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(of(Some("user.change"), None, None).await, [2, 0]);
    assert_eq!(of(Some("user"), None, None).await, [0; 0]);
    assert_eq!(of(None, Some(1), None).await, [2, 1], "the first moment is included");
    assert_eq!(of(None, None, Some(1)).await, [0], "the last is not");
    assert_eq!(of(None, Some(2), Some(0)).await, [1, 0]);
    assert_eq!(of(Some("user.change"), Some(1), None).await, [2]);
    assert_eq!(of(None, Some(-1), None).await, [0; 0]);
}

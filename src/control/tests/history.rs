//! Usage reports, from the rollups and the ledger.

use super::*;
use jiff::ToSpan;

const HISTORY: &str = "/api/v1/usage/history";

#[tokio::test]
async fn history_pages_filters_and_writes_csv() {
    let control = control().await;
    let ada = control.user().await;
    let token = Some(&*ada.token);
    let now = clock::now();
    for number in 0..5_i64 {
        control
            .charged(ada.user.id, |charge| {
                charge.admitted_at = now.checked_sub((number / 2).minutes()).unwrap();
                charge.model = if number == 4 { "grok-4.5".into() } else { "grok-4.3".into() };
                charge.client_request_id = (number == 0).then(|| "=1+1".into());
                charge.status = if number == 3 { Status::Failed } else { Status::Complete };
            })
            .await;
    }
    let whole = control.get(HISTORY, token).await.ok();
    let whole = whole["data"].as_array().unwrap();
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[0]["tokens"]["total"], 35);
    assert_eq!(whole[0]["cost_cents"], 0.0123);
    let named: Vec<_> = whole.iter().filter(|row| !row["client_request_id"].is_null()).collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0]["client_request_id"], "=1+1");

    let mut paged = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = control.get(&format!("{HISTORY}{query}"), token).await.ok();
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(&paged, whole, "pages are the whole, rows of one moment too");

    let count = async |query: &str| {
        let page = control.get(&format!("{HISTORY}{query}"), token).await.ok();
        page["data"].as_array().unwrap().len()
    };
    assert_eq!(count("?model=grok-4.5").await, 1);
    assert_eq!(count("?status=failed").await, 1);
    assert_eq!(count("?key=0123456789ab").await, 5);
    assert_eq!(count("?key=none").await, 0);
    assert_eq!(count("?to=2020-01-01").await, 0);
    assert_eq!(count("?from=2020-01-01&to=9998-12-31").await, 5);

    let csv = control.get(&format!("{HISTORY}?format=csv&limit=2"), token).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let lines: Vec<&str> = csv.text.trim_end().split('\n').collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("request_id,key_id,model,"));
    assert!(lines[1].contains(whole[0]["request_id"].as_str().unwrap()));
    assert!(lines[0].trim_end().ends_with(",client_request_id,uncounted_tokens"), "{}", lines[0]);
    let all = control.get(&format!("{HISTORY}?format=csv"), token).await;
    assert!(all.text.contains(",'=1+1"), "no formula for a spreadsheet: {}", all.text);
    let link = csv.header("link").to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    let next = control.get(next, token).await;
    assert!(next.text.contains(whole[2]["request_id"].as_str().unwrap()), "{link}");

    for (query, param) in [
        ("?from=yesterday", "from"),
        ("?from=2026-09-02&to=2026-09-01", "from"),
        ("?to=2026-02-30", "to"),
        ("?status=done", "status"),
        ("?format=xml", "format"),
        ("?limit=201", "limit"),
        ("?cursor=1", "cursor"),
        ("?cursor=99999999999999999.req_0", "cursor"),
        ("?model=%00", "model"),
    ] {
        control.get(&format!("{HISTORY}{query}"), token).await.invalid(param);
    }
}

#[tokio::test]
async fn days_and_hours_without_calls_are_zeros() {
    let control = control().await;
    let ada = control.user().await;
    let token = Some(&*ada.token);
    control.charged(ada.user.id, |_| {}).await;
    control.charged(ada.user.id, |charge| charge.status = Status::Failed).await;

    let month = control.get("/api/v1/usage/monthly", token).await.ok();
    let days = month["days"].as_array().unwrap();
    assert!((28..=31).contains(&days.len()));
    assert_eq!(days.iter().filter(|day| day["calls"] == 0).count(), days.len() - 1);
    assert_eq!(month["total"]["calls"], 2);
    let past = control.get("/api/v1/usage/monthly?month=2020-02", token).await.ok();
    assert_eq!((past["days"].as_array().unwrap().len(), &past["total"]["calls"]), (29, &json!(0)));
    control.get("/api/v1/usage/monthly?month=2020-2", token).await.invalid("month");

    let today = control.get("/api/v1/usage/daily", token).await.ok();
    let hours = today["hours"].as_array().unwrap();
    assert_eq!(today["total"]["tokens"]["total"], 70);
    assert_eq!(hours.last().unwrap()["models"][0]["model"], "grok-4.3");
    let empty = hours.iter().filter(|hour| hour["total"]["calls"] == 0);
    assert_eq!(empty.count(), hours.len() - 1);

    let stats = control.get("/api/v1/usage/stats", token).await.ok();
    assert_eq!(stats["by_day"].as_array().unwrap().len(), 30);
    assert_eq!(stats["error_share"], 0.5);
    assert_eq!(stats["by_model"][0]["calls"], 2);
    let p50 = stats["latency"]["p50_ms"].as_u64().unwrap();
    assert!((100..=250).contains(&p50), "200 ms each: {p50}");
    let none = control.get("/api/v1/usage/stats?from=2020-01-01&to=2020-01-02", token).await.ok();
    assert_eq!(none["latency"], json!({ "p50_ms": null, "p95_ms": null }));
    assert_eq!(none["error_share"], 0.0);
    control.get("/api/v1/usage/stats?from=2020-01-02&to=2020-01-01", token).await.invalid("from");
}

#[tokio::test]
async fn hours_of_any_zone_make_up_the_total() {
    use jiff::ToSpan;
    use store::PlanChange;
    for name in ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Marquesas"] {
        let control = control().await;
        let ada = control.user().await;
        let zone = TimeZone::get(name).unwrap();
        let change = PlanChange { time_zone: Some(zone.clone()), ..PlanChange::default() };
        let by = AuditContext::operator(clock::now());
        control.store.change_plan(&PlanId::from("leveler"), &change, &by).await.unwrap().unwrap();
        let (now, day) = (clock::now(), Day::at(clock::now(), &zone));
        let midnight = day.starts_at(&zone);
        let yesterday = midnight.checked_sub(1.second()).unwrap();
        for at in [yesterday, midnight, now] {
            let charged = |charge: &mut Charge| {
                (charge.admitted_at, charge.day) = (at, Day::at(at, &zone));
            };
            control.charged(ada.user.id, charged).await;
        }
        let today = control.get("/api/v1/usage/daily", Some(&ada.token)).await.ok();
        let hours = today["hours"].as_array().unwrap();
        assert_eq!(today["total"]["calls"], 2, "{name}: one is yesterday's");
        let calls: u64 = hours.iter().map(|h| h["total"]["calls"].as_u64().unwrap()).sum();
        assert_eq!(calls, 2, "{name}");
        let first: Timestamp = hours[0]["starts_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(first, midnight, "{name}");
    }
}

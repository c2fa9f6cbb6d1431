//! Admins read the calls of users, and users the receipts of their own.

use super::*;
use jiff::ToSpan;

const HISTORY: &str = "/api/v1/usage/history";
const CALLS: &str = "/api/v1/admin/calls";

fn calls_of(user: UserId) -> String {
    format!("/api/v1/admin/users/{user}/calls")
}

#[tokio::test]
async fn calls_are_found_by_the_ids_of_gateway_and_client() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let eve = control.person("eve@example.com", Role::User).await;
    let named = control
        .charged(ada.user.id, |charge| charge.client_request_id = Some("batch-7".into()))
        .await;
    control.charged(ada.user.id, |charge| charge.model = "grok-4.5".into()).await;
    control.charged(eve.user.id, |charge| charge.client_request_id = Some("batch-7".into())).await;
    let id = named.request.to_string();
    let found = async |path: &str, token: &str, query: &str| {
        let page = control.get(&format!("{path}?{query}"), Some(token)).await.ok();
        let rows = page["data"].as_array().unwrap().clone();
        rows.iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let admins = calls_of(ada.user.id);
    for (path, token) in [(HISTORY, &ada.token), (&*admins, &root.token)] {
        assert_eq!(
            found(path, token, &format!("request_id={id}")).await,
            std::slice::from_ref(&id)
        );
        assert_eq!(found(path, token, "request_id=batch-7").await, std::slice::from_ref(&id));
        assert_eq!(found(path, token, "request_id=batch-7&model=grok-4.5").await, [""; 0]);
        assert_eq!(found(path, token, "request_id=%20batch-7%20").await, std::slice::from_ref(&id));
        assert_eq!(found(path, token, "request_id=batch").await, [""; 0]);
        assert_eq!(found(path, token, "request_id=%25").await, [""; 0]);
        assert_eq!(found(path, token, "").await.len(), 2);
        assert_eq!(found(path, token, "model=grok-4.5").await.len(), 1);
        control.get(&format!("{path}?request_id=%00"), Some(token)).await.invalid("request_id");
    }
    assert_eq!(found(HISTORY, &eve.token, &format!("request_id={id}")).await, [""; 0]);
    let other = calls_of(eve.user.id);
    assert_eq!(found(&other, &root.token, &format!("request_id={id}")).await, [""; 0]);
}

#[tokio::test]
async fn admins_read_a_users_calls_in_pages_and_as_csv() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    for number in 0..5_i64 {
        control
            .charged(ada.user.id, |charge| {
                charge.admitted_at = clock::now().checked_sub(number.seconds()).unwrap();
                charge.client_request_id = Some("@SUM(1+1)".into());
                charge.cost_micro_dollars = -3;
            })
            .await;
    }
    let path = calls_of(ada.user.id);
    let own = control.get(HISTORY, Some(&ada.token)).await.ok();
    assert_eq!(control.get(&path, admin).await.ok(), own, "the same as the user sees");
    let first = control.get(&format!("{path}?limit=3"), admin).await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = control.get(&format!("{path}?limit=3&cursor={cursor}"), admin).await.ok();
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);

    let csv = control.get(&format!("{path}?format=csv&limit=3"), admin).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(csv.header("link").starts_with(&format!("<{path}?format=csv&limit=3&cursor=")));
    assert!(csv.text.contains(",'@SUM(1+1)"), "no formula: {}", csv.text);
    assert!(csv.text.contains(",-3,"), "a number stays one: {}", csv.text);
    let unknown = calls_of(UserId::new());
    control.get(&unknown, admin).await.refused(404, "not_found");
    control.get("/api/v1/admin/users/%2e%2e/calls", admin).await.refused(404, "not_found");
    control.get(&format!("{path}?user=1"), admin).await.invalid("user");
}

#[tokio::test]
async fn a_receipt_shows_prices_times_and_adjustments() {
    let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
    let (ada, root) = (control.user().await, control.admin().await);
    let eve = control.person("eve@example.com", Role::User).await;
    let key = control.key(ada.user.id, None, KeyLimits::default()).await;
    let call = control.charged(ada.user.id, |charge| charge.key = key.id()).await;
    let reset = RequestId::new();
    let by = format!("user:{}", root.user.id);
    let adjustment = domain::charge::Adjustment {
        reset,
        user: ada.user.id,
        key: key.id(),
        day: call.day,
        tokens: -35,
        requests: -1,
        at: clock::now(),
        by: by.clone(),
    };
    control.store.write_batch(&[Entry::Adjust(adjustment)], None).await.unwrap();

    let path = format!("{HISTORY}/{}", call.request);
    let own = control.get(&path, Some(&ada.token)).await.ok();
    assert_eq!(own["request_id"], call.request.to_string());
    assert_eq!(own["user_id"], ada.user.id.to_string());
    assert_eq!(own["tokens"]["total"], 35);
    assert_eq!(own["upstream"], "xai");
    let at = |field: &str| own[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    let admitted = at("admitted_at");
    assert_eq!(at("first_token_at").duration_since(admitted).as_millis(), 40);
    assert_eq!(at("ended_at").duration_since(admitted).as_millis(), 200);
    let lines = own["prices"]["lines"].as_array().unwrap();
    let tokens: Vec<_> =
        lines.iter().map(|line| (line["kind"].as_str().unwrap(), &line["tokens"])).collect();
    let numbers = [json!(6), json!(4), json!(20), json!(5)];
    let kinds = ["input", "cached_input", "output", "reasoning"];
    assert_eq!(tokens, kinds.into_iter().zip(&numbers).collect::<Vec<_>>());
    let sum: f64 = lines.iter().map(|line| line["cost_micro_dollars"].as_f64().unwrap()).sum();
    let total = own["prices"]["total_micro_dollars"].as_f64().unwrap();
    assert!(total > 0.0 && (sum - total).abs() <= 0.5, "{own}");
    assert_eq!(own["adjustments"][0]["tokens"], -35);
    assert_eq!(own["adjustments"][0]["by"], "admin", "not which one");

    assert_eq!(control.get(&path, Some(key.reveal())).await.ok(), own, "by the key as well");
    let admins = format!("{CALLS}/{}", call.request);
    let seen = control.get(&admins, Some(&root.token)).await.ok();
    assert_eq!(seen["adjustments"][0]["by"], by);
    assert_eq!(seen["prices"], own["prices"]);

    // Another user's call is one that does not exist.
    control.get(&path, Some(&eve.token)).await.refused(404, "not_found");
    for bad in ["none", "req_", "req_zz", "%27%20or%201=1", "req_00000000000000000000000000000000"]
    {
        control.get(&format!("{HISTORY}/{bad}"), Some(&ada.token)).await.refused(404, "not_found");
        control.get(&format!("{CALLS}/{bad}"), Some(&root.token)).await.refused(404, "not_found");
    }

    let unknown = control.charged(ada.user.id, |charge| charge.model = "gone".into()).await;
    let path = format!("{HISTORY}/{}", unknown.request);
    let receipt = control.get(&path, Some(&ada.token)).await.ok();
    assert_eq!((&receipt["prices"], &receipt["adjustments"]), (&Value::Null, &json!([])));
}

//! What all users used, for admins.

use super::*;

const USAGE: &str = "/api/v1/admin/usage";

/// Three users: two with calls on two models, one without any.
async fn users_with_calls(control: &Control) -> (Person, Vec<UserId>) {
    let root = control.admin().await;
    let mut users = Vec::new();
    for name in ["ada", "alan", "idle"] {
        let person = control.person(&format!("{name}@example.com"), Role::User).await;
        if name != "idle" {
            control.charged(person.user.id, |_| {}).await;
            control.charged(person.user.id, |_| {}).await;
            control.charged(person.user.id, |charge| charge.model = "grok-4.5".into()).await;
        }
        users.push(person.user.id);
    }
    (root, users)
}

#[tokio::test]
async fn usage_of_all_users_comes_in_pages() {
    let control = control().await;
    let (root, users) = users_with_calls(&control).await;
    let admin = Some(&*root.token);
    let whole = control.get(USAGE, admin).await.ok();
    let rows = whole["data"].as_array().unwrap();
    let told = |rows: &[Value]| {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let row = |row: &Value| (text(row, "email"), text(row, "model"), row["calls"].clone());
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let row = |email: &str, model: &str, calls: u64| {
        (format!("{email}@example.com"), model.to_owned(), json!(calls))
    };
    let expected = [
        row("ada", "grok-4.3", 2),
        row("ada", "grok-4.5", 1),
        row("alan", "grok-4.3", 2),
        row("alan", "grok-4.5", 1),
    ];
    assert_eq!(told(rows), expected);
    assert_eq!(rows[0]["user_id"], users[0].to_string());
    assert_eq!(rows[0]["plan"], "leveler");
    assert_eq!(rows[0]["tokens"]["total"], 70);
    assert_eq!(rows[0]["cost_micro_dollars"], 246);

    for limit in 1..4 {
        let (mut paged, mut query) = (Vec::new(), format!("?limit={limit}"));
        loop {
            let page = control.get(&format!("{USAGE}{query}"), admin).await.ok();
            paged.extend(page["data"].as_array().unwrap().clone());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("?limit={limit}&cursor={cursor}");
        }
        assert_eq!(&paged, rows, "by {limit}");
    }

    let of = async |query: &str| {
        let page = control.get(&format!("{USAGE}{query}"), admin).await.ok();
        told(page["data"].as_array().unwrap())
    };
    assert_eq!(of("?by=user").await, [row("ada", "-", 3), row("alan", "-", 3)]);
    let models = of("?by=model").await;
    let model = |name: &str, calls: u64| ("-".to_owned(), name.to_owned(), json!(calls));
    assert_eq!(models, [model("grok-4.3", 4), model("grok-4.5", 2)]);
    let today = Day::at(clock::now(), &TimeZone::UTC);
    assert_eq!(of(&format!("?from={today}&to={today}")).await, expected);
    assert_eq!(of(&format!("?month={}", &today.to_string()[..7])).await, expected);
    assert_eq!(of("?month=2020-02").await, []);
    assert_eq!(of("?to=2020-02-01&by=user").await, []);
}

#[tokio::test]
async fn usage_of_all_users_is_one_csv_file() {
    let control = control().await;
    let (root, _) = users_with_calls(&control).await;
    let admin = Some(&*root.token);
    let new = NewUser {
        email: "=cmd@example.com".to_owned(),
        username: None,
        password_hash: None,
        email_verified: true,
        role: Role::User,
        plan: PlanId::from("leveler"),
        created_at: clock::now(),
    };
    let by = AuditContext::operator(clock::now());
    let formula = control.store.add_user(&new, &by).await.unwrap();
    control.charged(formula.id, |charge| charge.model = "-1+1".into()).await;
    // A page's limit does not cut the file.
    let csv = control.get(&format!("{USAGE}?format=csv&limit=1"), admin).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"usage.csv\"");
    let lines: Vec<&str> = csv.text.trim_end().split('\n').collect();
    assert_eq!(lines.len(), 1 + 5, "{}", csv.text);
    assert!(lines[0].starts_with("user_id,email,username,plan,model,requests,calls,"));
    assert!(
        lines[1].contains(",ada@example.com,,leveler,grok-4.3,2,2,0,20,8,40,10,70,246"),
        "{}",
        lines[1]
    );
    assert!(lines[5].contains(",'=cmd@example.com,,leveler,'-1+1,1,1,"), "{}", lines[5]);

    let models = control.get(&format!("{USAGE}?format=csv&by=model"), admin).await;
    assert_eq!(models.text.lines().count(), 1 + 3);
    assert!(models.text.contains(",,,,grok-4.3,4,4,"), "{}", models.text);
    let none = control.get(&format!("{USAGE}?format=csv&month=2020-01"), admin).await;
    assert_eq!(none.text.lines().count(), 1, "a head without rows");
}

#[tokio::test]
async fn a_long_file_is_read_in_parts() {
    let control = control().await;
    let root = control.admin().await;
    let ada = control.user().await;
    let rows: u32 = 2_500;
    let batch = (0..rows).map(|n| {
        let mut charge = ended_now(ada.user.id);
        charge.model = format!("model-{n:05}").into();
        Entry::Settle(charge)
    });
    control.store.write_batch(&batch.collect::<Vec<_>>(), None).await.unwrap();
    let csv = control.get(&format!("{USAGE}?format=csv"), Some(&root.token)).await;
    let models: Vec<&str> =
        csv.text.lines().skip(1).map(|line| line.split(',').nth(4).unwrap()).collect();
    let expected: Vec<String> = (0..rows).map(|n| format!("model-{n:05}")).collect();
    assert_eq!(models, expected);
}

#[tokio::test]
async fn usage_of_all_users_needs_a_period_and_a_place() {
    let control = control().await;
    let root = control.admin().await;
    for (query, param) in [
        ("?month=2026-13", "month"),
        ("?month=september", "month"),
        ("?month=2026-09&from=2026-09-01", "month"),
        ("?from=2026-09-02&to=2026-09-01", "from"),
        ("?from=2020-01-01&to=2026-09-01", "from"),
        ("?from=2026-02-30", "from"),
        ("?by=key", "by"),
        ("?limit=0", "limit"),
        ("?cursor=first", "cursor"),
        ("?cursor=.grok", "cursor"),
        ("?user=1", "user"),
    ] {
        for format in ["", "&format=csv"] {
            if param == "limit" && !format.is_empty() {
                continue;
            }
            let path = format!("{USAGE}{query}{format}");
            control.get(&path, Some(&root.token)).await.invalid(param);
        }
    }
}

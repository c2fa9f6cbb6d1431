//! Users, changes and stored responses are the same at every gateway.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_effect_at_every_gateway() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let user = cluster.user("ada", "wide");
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 200);
    let endless = two.ask(&user, "talk", STREAM).header("x-sim-tokens", "100000");
    let mut open = endless.header("x-sim-token-ms", "50").open().await;
    open.next().await.unwrap();
    cluster.run(&["user", "set-plan", &user.id, "tiny"]);
    assert_eq!(one.usage(&user).await["plan"], "tiny");
    cluster.run(&["key", "revoke", &user.key_id]);
    let revoked = Instant::now();
    assert_eq!(one.ask(&user, "hi", "").send().await.status, 401);
    assert_eq!(two.ask(&user, "hi", "").send().await.status, 401);
    let rest = open.rest().await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(rest.text().contains("access_revoked"), "{}", rest.text());
    cluster.rows(2).await;
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_together_create_one_admin() {
    let mut cluster = Cluster::new().await;
    cluster.admin = Some("root@example.com");
    let serving = futures_util::future::join_all((0..4).map(|_| cluster.serve())).await;
    let admins = UserFilter { role: Some(Role::Admin), ..UserFilter::default() };
    let admins = cluster.store().await.users(&admins, None, 9).await.unwrap();
    assert_eq!(admins.iter().map(|user| &*user.email).collect::<Vec<_>>(), ["root@example.com"]);
    for gateway in serving {
        gateway.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_visible_only_to_its_owner_at_every_gateway() {
    let mut server = postgres::Server::start().await;
    let mut cluster = Cluster::new().await;
    cluster.database = server.url("postgres");
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let (ada, bob) = (cluster.user("ada", "wide"), cluster.user("bob", "wide"));
    let respond = |gateway: &Serving, user: &User, members: &str| {
        let body = format!(r#"{{"model":"grok-4.3","input":"hi"{members}}}"#);
        Call::post(gateway.addr, "/v1/responses").key(&user.key).body(body).send()
    };
    let kept = respond(&one, &ada, "").await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{kept}");
    let next = format!(r#","previous_response_id":"{kept}""#);
    for gateway in [&one, &two] {
        let read = async |user: &User| Call::get(gateway.addr, &path).key(&user.key).send().await;
        assert_eq!((read(&ada).await.status, read(&bob).await.status), (200, 404));
        assert_eq!(respond(gateway, &ada, &next).await.status, 200);
        assert_eq!(respond(gateway, &bob, &next).await.status, 404);
    }
    let answered = cluster.rows(3).await.len();
    server.stop();
    let refused = |reply: &Reply| (reply.status, reply.code());
    let away = (503, "reply_store_unavailable".to_owned());
    let unnoted = respond(&one, &ada, "").await;
    assert_eq!(unnoted.status, 200, "the answer is not lost: {}", unnoted.text());
    let unnoted = unnoted.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(refused(&respond(&two, &ada, &next).await), away);
    let stream = respond(&one, &ada, STREAM).await;
    assert!(stream.text().contains("response.completed"), "{}", stream.text());
    assert_eq!(refused(&Call::get(two.addr, &path).key(&ada.key).send().await), away);
    assert_eq!(respond(&two, &ada, r#","store":false"#).await.status, 200, "nothing to be noted");
    server.run().await;
    cluster.rows(answered + 3).await;
    // Each gateway notices by itself that the store is back.
    for gateway in [&one, &two] {
        soon("its owner can read it again", || async {
            Call::get(gateway.addr, &path).key(&ada.key).send().await.status == 200
        })
        .await;
    }
    for user in [&ada, &bob] {
        let path = format!("/v1/responses/{unnoted}");
        let read = Call::get(one.addr, &path).key(&user.key).send().await;
        assert_eq!(read.status, 404, "it has no owner, since none could be recorded");
    }
    cluster.books_agree();
    one.ends_well().await;
    two.ends_well().await;
}

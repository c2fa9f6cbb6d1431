//! What is still read for a caller who has gone.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_cancel_setting_of_an_upstream_overrides_the_default() {
    let upstream = |what: &str| {
        format!(
            "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n\
             on_hang_up = \"{what}\"\n"
        )
    };
    let text = "Talk [sim tokens=60 token-ms=10 reasoning=500]";
    let gw = gateway().upstreams(&upstream("drain")).start().await;
    let key = gw.key("wide").await;
    leave_after(stream(&gw, &key, TEXT[0], PLAIN, text), 2).await;
    assert_billed(&gw, &gw.only_charge().await, Status::CutByClient);
    gw.finish().await;

    let gw = gateway().upstreams(&upstream("cancel")).start().await;
    let key = gw.key("wide").await;
    leave_after(stream(&gw, &key, TEXT[0], REASONING, text), 2).await;
    abandon(&gw, call(&gw, &key, TEXT[0], PLAIN, NEVER)).await;
    let left = Instant::now();
    soon("the upstream is told", || async { gw.simulator.log.totals().open == 0 }).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    for charge in gw.charges().await {
        assert_eq!((charge.status, charge.source), (Status::CutByClient, Source::Estimated));
        assert!((1..60).contains(&charge.tokens.total()), "{charge:?}");
        assert!(gw.bill(&charge).aborted_by_client);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_stream_that_reserves_by_slices_passes_no_limit() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\non_hang_up = \"drain\"\n";
    let small = Plan { id: "small", tokens: 400, ..WIDE };
    let gw = gateway().upstreams(upstream).plan(small).limits("slice_tokens = 32").start().await;
    let key = gw.key("small").await;
    let text = "Talk [sim tokens=5000 token-ms=1]";
    leave_after(stream(&gw, &key, TEXT[0], PLAIN, text), 2).await;
    let charge = gw.only_charge().await;
    assert!(charge.tokens.total() <= 400 && charge.tokens.total() > 300, "{charge:?}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_call_counts_as_a_stream_and_keeps_its_permit() {
    let one = Plan { id: "one", streams: 1, ..WIDE };
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nmax_in_flight = 2\nqueue_length = 0\n";
    let gw = gateway().plan(one).upstreams(upstream).limits("drain = 1").start().await;
    let (key, other) = (gw.key("one").await, gw.key("wide").await);
    leave_after(stream(&gw, &key, TEXT[0], REASONING, NEVER), 0).await;
    abandon(&gw, call(&gw, &other, TEXT[0], PLAIN, NEVER)).await;
    let refused = stream(&gw, &key, TEXT[0], REASONING, "more").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    let full = call(&gw, &other, TEXT[0], PLAIN, "more").send().await;
    assert_eq!(full.status, 503, "{}", full.text());
    gw.settled().await;
    assert_eq!(stream(&gw, &key, TEXT[0], REASONING, "more").send().await.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reasoning_stream_ended_by_revocation_is_charged_the_bill() {
    for suspend in [false, true] {
        let gw = gateway().start().await;
        let key = gw.key("wide").await;
        let text = "Think [sim tokens=100 token-ms=20 reasoning=700]";
        let mut open = stream(&gw, &key, TEXT[0], REASONING, text).open().await;
        open.next().await.expect("the first token");
        if suspend {
            let status = Some(UserStatus::Suspended);
            gw.change_user(key.user, UserChange { status, ..UserChange::default() }).await;
        } else {
            gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
        }
        let ended = Instant::now();
        let rest = open.rest().await;
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
        let words = "This API key was revoked or the account was suspended.";
        assert!(rest.text().contains(words) && rest.text().contains("access_revoked"));
        assert!(!rest.is_done() && !rest.whole, "{}", rest.text());
        assert_billed(&gw, &gw.only_charge().await, Status::CutByQuota);
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_charges_what_it_was_draining() {
    let gw = gateway().limits("shutdown_grace = 0.1").start().await;
    let key = gw.key("wide").await;
    let mut body = TEXT[0].1(NEVER);
    body["max_tokens"] = 1000.into();
    abandon(&gw, ask(&gw, &key, TEXT[0].0, body.clone(), PLAIN)).await;
    let staying = tokio::spawn(ask(&gw, &key, TEXT[0].0, body, PLAIN).try_send());
    soon("the simulator has both", || async { gw.simulator.log.totals().open == 2 }).await;
    let Gateway { running, folder, .. } = gw;
    running.stop().await;
    let _ = staying.await;
    let gw = gateway().start_in(folder).await;
    let charges = gw.charges().await;
    let ends: Vec<_> = charges.iter().map(|it| (it.status, it.tokens.completion)).collect();
    assert_eq!(ends, [(Status::CutByClient, 1000), (Status::Failed, 0)]);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_server_tools_is_drained_after_a_disconnect() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = "Talk [sim tokens=60 token-ms=10 lenient]";
    let asked = |path: &str, members: Value| {
        let (path, body) = TEXT.into_iter().find(|surface| surface.0 == path).unwrap();
        let mut body = body(text);
        body["stream"] = true.into();
        merge(&mut body, members);
        ask(&gw, &key, path, body, PLAIN)
    };
    let search = json!([{"type": "web_search"}]);
    let numbered = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let with_tools = [
        ("/v1/chat/completions", json!({"tools": search})),
        ("/v1/chat/completions", json!({"search_parameters": {"mode": "on"}})),
        ("/v1/responses", json!({"store": false, "tools": search})),
        ("/v1/messages", json!({"tools": numbered})),
    ];
    let read_on = with_tools.len();
    for (path, members) in with_tools {
        leave_after(asked(path, members), 2).await;
    }
    let of_tools = gw.charges().await;
    assert_eq!(of_tools.len(), read_on);
    of_tools.iter().for_each(|charge| assert_billed(&gw, charge, Status::CutByClient));
    let function = json!([{"type": "function", "function": {"name": "f"}}]);
    leave_after(asked("/v1/chat/completions", json!({"tools": function})), 2).await;
    let without = gw.charges().await.pop().unwrap();
    assert_eq!(without.source, Source::Estimated, "the caller's tools cost nothing unseen");
    gw.finish().await;
}

/// Calls of one user that are read on keep a quarter of an upstream's places at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_always_disconnects_does_not_starve_others() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nmax_in_flight = 8\nqueue_length = 0\n";
    let gw = gateway().upstreams(upstream).limits("drain = 5").start().await;
    let (key, other) = (gw.key("wide").await, gw.key("wide").await);
    for surface in [TEXT[0], TEXT[1], TEXT[2], TEXT[0]] {
        abandon(&gw, call(&gw, &key, surface, PLAIN, NEVER)).await;
        abandon(&gw, stream(&gw, &key, surface, REASONING, NEVER)).await;
    }
    let began = Instant::now();
    assert_eq!(call(&gw, &other, TEXT[0], PLAIN, "hi").send().await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let charges = gw.charges().await;
    let given_up: Vec<_> = charges.iter().filter(|it| it.status == Status::CutByClient).collect();
    assert_eq!(given_up.len(), 8);
    for charge in given_up {
        assert!(charge.tokens.completion > 100, "all that was reserved: {charge:?}");
    }
    gw.finish().await;
}

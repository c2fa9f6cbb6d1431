//! Models that take over calls which others refuse.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::{Gateway, Plan, WIDE, body, gateway};

/// Models that an upstream refuses as too long or as forbidden, with `grok-4.3` behind them.
async fn refusing(trouble: &FaultyUpstream) -> Gateway {
    let upstream = |kind: &str| {
        format!(
            "[[upstreams]]\nname = {kind:?}\nbase_url = \"http://{}/{kind}/one/v1\"\napi_key = \"k\"\n",
            trouble.addr
        )
    };
    let model = |kind: &str, key: &str| {
        format!(
            "[[models]]\nid = {kind:?}\nupstreams = [{{ name = {kind:?} }}]\n{key} = \"grok-4.3\"\n\
             context_tokens = 1000\nprices = {{ input = 1, cached_input = 1, output = 1 }}\nowned_by = \"x\"\n"
        )
    };
    let simulator =
        "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n";
    let upstreams = format!("{simulator}{}{}", upstream("too-long"), upstream("forbidden"));
    let models = format!(
        "{}{}",
        model("too-long", "context_fallback"),
        model("forbidden", "content_fallback")
    );
    let narrow = Plan { id: "narrow", models: &["too-long", "forbidden"], ..WIDE };
    gateway().upstreams(&upstreams).models(&models).plan(narrow).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_served_and_priced_by_the_fallback() {
    let trouble = FaultyUpstream::start().await;
    let gw = refusing(&trouble).await;
    let key = gw.key("wide").await;
    for model in ["too-long", "forbidden"] {
        for members in ["", r#","stream":true"#] {
            let text = body("hi", members);
            let direct = gw.ask(&key, &text).await;
            let direct = gw.charge(direct.header("x-request-id")).await;
            let reply = gw.ask(&key, &text.replace("grok-4.3", model)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!((&*charge.model, &*charge.upstream), ("grok-4.3", "simulator"));
            assert_eq!(charge.cost_micro_dollars, direct.cost_micro_dollars);
            assert_eq!(charge.tokens, direct.tokens);
        }
    }
    assert_eq!(trouble.asked("too-long", "one"), 2);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_the_fallback_in_its_plan_is_refused() {
    let trouble = FaultyUpstream::start().await;
    let gw = refusing(&trouble).await;
    let key = gw.key("narrow").await;
    for (model, status) in [("too-long", 400), ("forbidden", 403)] {
        let reply = gw.ask(&key, &body("hi", "").replace("grok-4.3", model)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((&*charge.model, charge.tokens.total()), (model, 0));
    }
    assert_eq!(gw.simulator.log.totals().requests, 0);
    gw.finish().await;
}

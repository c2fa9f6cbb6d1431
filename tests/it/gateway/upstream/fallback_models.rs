//! Models that take over calls which others refuse.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::{Gateway, Plan, WIDE, body, gateway};

/// The models, each named as the way in which its upstream refuses: as too long, as forbidden with 403, and with 400.
const REFUSING: [&str; 3] = ["too-long", "forbidden", "policy"];

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
    let upstreams: String = REFUSING.map(upstream).concat();
    let upstreams = format!("{simulator}{upstreams}");
    let fallback = |kind| if kind == "too-long" { "context_fallback" } else { "content_fallback" };
    let models: String = REFUSING.map(|kind| model(kind, fallback(kind))).concat();
    let narrow = Plan { id: "narrow", models: &REFUSING, ..WIDE };
    gateway().upstreams(&upstreams).models(&models).plan(narrow).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_served_and_priced_by_the_fallback() {
    let trouble = FaultyUpstream::start().await;
    let gw = refusing(&trouble).await;
    let key = gw.key("wide").await;
    for model in REFUSING {
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
    for (model, status) in [("too-long", 400), ("forbidden", 403), ("policy", 400)] {
        let reply = gw.ask(&key, &body("hi", "").replace("grok-4.3", model)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((&*charge.model, charge.tokens.total()), (model, 0));
    }
    assert_eq!(gw.simulator.log.totals().requests, 0);
    gw.finish().await;
}

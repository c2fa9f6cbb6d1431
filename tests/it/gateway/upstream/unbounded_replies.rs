//! Upstreams that send without end what nobody waits for.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::{body, gateway};
use std::time::{Duration, Instant};

const STREAM: &str = r#","stream":true"#;

fn table(trouble: &FaultyUpstream, name: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"hostile\"\nbase_url = \"http://{}/{name}/x/v1\"\napi_key = \"k\"\n",
        trouble.addr
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_replies_are_bounded() {
    let trouble = FaultyUpstream::start().await;
    for name in ["interim", "switching"] {
        let gw = gateway().upstreams(&table(&trouble, name)).start().await;
        let key = gw.key("wide").await;
        for members in ["", STREAM] {
            let began = Instant::now();
            let reply = gw.ask(&key, &body("hi", members)).await;
            assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_bad_reply"));
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
        gw.finish().await;
    }
    let gw = gateway().upstreams(&table(&trouble, "few-interim")).start().await;
    let key = gw.key("wide").await;
    for members in ["", STREAM] {
        let reply = gw.ask(&key, &body("hi", members)).await;
        assert_eq!(reply.status, 200, "sixteen are taken: {}", reply.text());
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_bounded() {
    let trouble = FaultyUpstream::start().await;
    let gw = gateway().upstreams(&table(&trouble, "trailers")).start().await;
    let key = gw.key("wide").await;
    let began = Instant::now();
    let reply = gw.ask(&key, &body("hi", STREAM)).await;
    assert_eq!(reply.status, 200);
    gw.settled().await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(gw.used(key.user).await, (10, 1), "what was reported is charged");
    gw.finish().await;
}

//! Several upstreams, of which some fail, are full, or want to be left alone.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::{Gateway, Key, body, gateway, soon};
use knockx::upstream::breaker::Phase;
use mock_xai::Simulator;
use mock_xai::settings::Settings;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const STREAM: &str = r#","stream":true"#;

/// An upstream beside the one that every gateway has.
struct Other {
    running: mock_xai::RunningSimulator,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Other {
    async fn start(faults: &str) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings { faults: faults.parse().unwrap(), ..Settings::default() };
        let running = Simulator::start(settings, listener, &tasks, stop.clone()).unwrap();
        Self { running, stop, tasks }
    }

    /// A gateway that prefers this one to its own.
    async fn preferred(&self) -> Gateway {
        let tables = format!(
            "[[upstreams]]\nname = \"other\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\n\
             [[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n",
            self.running.url()
        );
        gateway().upstreams(&tables).start().await
    }

    fn asked(&self) -> u64 {
        self.running.log.totals().requests
    }

    async fn finish(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Status of a call, streamed or not.
async fn status(gw: &Gateway, key: &Key, number: u64) -> u16 {
    let members = if number.is_multiple_of(2) { "" } else { STREAM };
    let reply = gw.ask(key, &body(&format!("call {number}"), members)).await;
    assert!(reply.status != 200 || members.is_empty() || reply.is_done(), "{}", reply.text());
    reply.status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_for_a_failing_upstream_and_closes_on_recovery() {
    let other = Other::start("500").await;
    let gw = other.preferred().await;
    let (key, another) = (gw.key("wide").await, gw.key("wide").await);
    for number in 0..20 {
        assert_eq!(status(&gw, &key, number).await, 200);
    }
    assert_eq!(other.asked(), 20, "what one caller alone meets is not held against it");
    for number in 0..20 {
        assert_eq!(status(&gw, &another, number).await, 200);
    }
    assert!((21..25).contains(&other.asked()), "{}", other.asked());
    assert_eq!(gw.metric("knockx_upstream_breaker{upstream=\"other\"}").await, 2);
    other.running.set_faults("none".parse().unwrap());
    soon("it is asked again", || async {
        status(&gw, &key, 0).await;
        other.running.log.totals().finished > 0
    })
    .await;
    assert_eq!(gw.metric("knockx_upstream_breaker{upstream=\"other\"}").await, 0);
    gw.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_succeed_although_half_fail_at_one_upstream() {
    let other = Other::start("none").await;
    let gw = other.preferred().await;
    let key = gw.key("wide").await;
    let mut calm = Vec::new();
    for number in 0..1_000 {
        let began = Instant::now();
        assert_eq!(status(&gw, &key, number).await, 200);
        calm.push(began.elapsed());
    }
    let (mut failed, mut luck, mut stormy) = (0, 1_u64, Vec::new());
    for number in 0..1_000 {
        // The same course every time, and no pattern that a breaker could learn.
        luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fault = if luck >> 63 == 0 { "none" } else { "503" };
        other.running.set_faults(fault.parse().unwrap());
        let began = Instant::now();
        failed += u64::from(status(&gw, &key, number).await != 200);
        stormy.push(began.elapsed());
    }
    for (weather, times) in [("none fails", &mut calm), ("half fail", &mut stormy)] {
        times.sort_unstable();
        println!(
            "{weather}: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
    assert!(failed <= 1, "{failed} of 1,000 failed");
    assert_eq!(gw.charges().await.len(), 2_000, "one row each, however often it was tried");
    gw.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limited_upstream_is_tried_last_during_its_cooldown() {
    let other = Other::start("429=30").await;
    let gw = other.preferred().await;
    let key = gw.key("wide").await;
    for number in 0..10 {
        assert_eq!(status(&gw, &key, number).await, 200);
    }
    assert_eq!(other.asked(), 1);
    gw.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_only_upstream_that_fails_at_once_is_retried_once() {
    let gw = gateway().simulator(|settings| settings.faults = "500".parse().unwrap()).start().await;
    let key = gw.key("wide").await;
    assert_eq!(status(&gw, &key, 0).await, 502);
    assert_eq!(gw.simulator.log.totals().requests, 2);
    assert_eq!(gw.metric("knockx_retries_total").await, 1);
    assert_eq!(crate::support::recent_charges(&gw.running.store).await.len(), 1);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_full_upstream_is_bounded() {
    let narrow = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n\
                  max_in_flight = 1\nqueue_length = 1\nqueue_timeout = 60\n";
    let gw = gateway().upstreams(narrow).start().await;
    let key = gw.key("wide").await;
    let slow = gw.chat(&key, &body("slow", STREAM)).header("x-sim-token-ms", "50");
    let mut open = slow.open().await;
    open.next().await.unwrap();
    let text = body("waits", "");
    let waiting = gw.ask(&key, &text);
    let refused = async {
        let queued = || gw.running.upstreams().statuses(std::time::Instant::now())[0].queued == 1;
        soon("it is queued", || async { queued() }).await;
        let refused = gw.ask(&key, &body("too many", "")).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "upstream_busy"));
        assert_eq!(refused.header("retry-after"), "1");
        drop(open);
    };
    let (answered, ()) = tokio::join!(waiting, refused);
    assert_eq!(answered.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_with_one_cache_key_use_one_upstream() {
    let other = Other::start("none").await;
    let upstreams = format!(
        "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n\
         [[upstreams]]\nname = \"other\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\n",
        other.running.url()
    );
    let spread = "[[models]]\nid = \"spread\"\ncontext_tokens = 100000\nowned_by = \"x\"\n\
                  prices = { input = 1, cached_input = 1, output = 1 }\n\
                  upstreams = [{ name = \"simulator\", model = \"grok-4.3\", weight = 1 }, \
                  { name = \"other\", model = \"grok-4.3\", weight = 1 }]\n";
    let gw = gateway().upstreams(&upstreams).models(spread).start().await;
    let (one, two) = (gw.key("wide").await, gw.key("wide").await);
    let mut met = std::collections::HashSet::new();
    for conversation in 0..12 {
        let members = format!(r#","prompt_cache_key":"conversation-{conversation}""#);
        let text = body("hi", &members).replace("grok-4.3", "spread");
        let mut upstreams = Vec::new();
        for key in [&one, &two] {
            let reply = gw.ask(key, &text).await;
            upstreams.push(gw.charge(reply.header("x-request-id")).await.upstream);
        }
        assert_eq!(upstreams[0], upstreams[1], "conversation {conversation}");
        met.extend(upstreams);
    }
    assert_eq!(met.len(), 2, "both upstreams have their share");
    gw.finish().await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_detect_outage_and_recovery_before_callers() {
    let trouble = FaultyUpstream::start().await;
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstreams = format!(
        "[[upstreams]]\nname = \"sick\"\nbase_url = \"http://{}/503/probed/v1\"\napi_key = \"k\"\nprobe_interval = 0.01\n\
         [[upstreams]]\nname = \"away\"\nbase_url = \"http://{addr}/v1\"\napi_key = \"k\"\nprobe_interval = 0.01\n\
         [[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\nprobe_interval = 0.01\n",
        trouble.addr
    );
    let gw = gateway().upstreams(&upstreams).start().await;
    let key = gw.key("wide").await;
    let phase = |place: usize| gw.running.upstreams().statuses(Instant::now())[place].phase;
    soon("both are left alone", || async { (phase(0), phase(1)) == (Phase::Open, Phase::Open) })
        .await;
    assert_eq!(status(&gw, &key, 0).await, 200);
    assert_eq!(gw.metric("knockx_retries_total").await, 0, "the sound one was asked first");
    let listener = TcpListener::bind(addr).await.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let _back = Simulator::start(Settings::default(), listener, &tasks, stop.clone()).unwrap();
    soon("the one is asked again", || async { phase(1) == Phase::Closed }).await;
    assert_ne!(phase(0), Phase::Closed);
    assert_eq!(phase(2), Phase::Closed);
    gw.finish().await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_rate_limit_of_the_only_upstream_is_waited_out() {
    let gw =
        gateway().simulator(|settings| settings.faults = "429=1".parse().unwrap()).start().await;
    let key = gw.key("wide").await;
    let call = tokio::spawn(gw.chat(&key, &body("hi", "")).send());
    soon("it is refused once", || async { gw.simulator.log.totals().requests == 1 }).await;
    gw.simulator.set_faults("none".parse().unwrap());
    assert_eq!(call.await.unwrap().status, 200);
    gw.simulator.set_faults("429=4".parse().unwrap());
    let began = Instant::now();
    let reply = gw.ask(&key, &body("hi", "")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, "4"));
    assert!(began.elapsed().as_secs() < 3, "a longer one is not waited for");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_delays_one_call_of_a_caller() {
    let trouble = FaultyUpstream::start().await;
    let upstreams = format!(
        "[[upstreams]]\nname = \"silent\"\nbase_url = \"http://{}/slow-first-byte/one/v1\"\napi_key = \"k\"\n\
         first_event_timeout = 0.2\n\
         [[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\n",
        trouble.addr
    );
    let gw = gateway().upstreams(&upstreams).start().await;
    let (one, two) = (gw.key("wide").await, gw.key("wide").await);
    for (key, asked) in [(&one, 1), (&one, 1), (&two, 2), (&one, 2), (&two, 2)] {
        assert_eq!(status(&gw, key, 1).await, 200);
        assert_eq!(trouble.asked("slow-first-byte", "one"), asked);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_is_waited_for_while_no_other_can_take_the_call() {
    let slow = Other::start("slow-first-byte=700").await;
    let upstreams = format!(
        "[[upstreams]]\nname = \"slow\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\nfirst_event_timeout = 0.2\n\
         [[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\napi_key = \"k\"\nmax_in_flight = 1\n",
        slow.running.url()
    );
    let alone = "[[models]]\nid = \"alone\"\ncontext_tokens = 100000\nowned_by = \"x\"\n\
                 prices = { input = 1, cached_input = 1, output = 1 }\n\
                 upstreams = [{ name = \"simulator\", model = \"grok-4.3\" }]\n";
    let gw = gateway().upstreams(&upstreams).models(alone).start().await;
    let key = gw.key("wide").await;
    let long = body("long", STREAM).replace("grok-4.3", "alone");
    let mut open = gw.chat(&key, &long).header("x-sim-token-ms", "100").open().await;
    open.next().await.unwrap();
    let reply = gw.ask(&key, &body("hi", STREAM)).await;
    assert!(reply.status == 200 && reply.is_done(), "{}", reply.text());
    assert_eq!(&*gw.charge(reply.header("x-request-id")).await.upstream, "slow");
    assert_eq!(gw.metric("knockx_retries_total").await, 0);
    drop(open);
    gw.finish().await;
    slow.finish().await;
}

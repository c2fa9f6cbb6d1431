//! Resets, callers who read nothing, requests that were not sent whole.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_reset_or_a_stuck_reader_counts_as_a_disconnect() {
    let gw = gateway().listener("write_timeout = 0.4").start().await;
    let key = gw.key("wide").await;
    let shared = Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await;
    let text = "Think [sim tokens=40 token-ms=10 reasoning=700]";
    let mut open = shared.open(stream(&gw, &key, TEXT[0], REASONING, text)).await;
    open.next().await.expect("tokens flow");
    drop(open);
    assert_billed(&gw, &gw.only_charge().await, Status::CutByClient);

    let mut silent = with_small_buffers(gw.addr()).await;
    let long = "Think [sim tokens=60000 reasoning=700]";
    let body = json!({
        "model": REASONING, "stream": true, "max_completion_tokens": 100_000,
        "messages": [{"role": "user", "content": long}],
    });
    let raw = crate::support::raw_socket::chat(&key.text, "", &body.to_string());
    silent.write_all(raw.as_bytes()).await.unwrap();
    soon("the call has begun", || async {
        gw.simulator.log.totals().answers + gw.simulator.log.totals().open > 1
    })
    .await;
    let all = gw.charges().await;
    let charge = all.iter().find(|charge| charge.tokens.completion > 1000).expect("the long one");
    assert_billed(&gw, charge, Status::CutByClient);
    gw.finish().await;
}

/// A caller who lets nothing in, and then leaves, is charged what its upstream has sent meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn output_buffered_for_a_stuck_reader_is_charged() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let socket = TcpStream::connect(gw.addr()).await.unwrap();
    let mut shut = h2::client::Builder::new();
    let shaken = shut.initial_window_size(0).handshake::<_, Bytes>(socket).await;
    let (mut sender, connection) = shaken.unwrap();
    let driven = tokio::spawn(connection);
    let messages = json!([{"role": "user", "content": "Say [sim tokens=2000]"}]);
    let body = json!({"model": PLAIN, "stream": true, "messages": messages}).to_string();
    let request = http::Request::post(format!("http://{}/v1/chat/completions", gw.addr()))
        .header("authorization", format!("Bearer {}", key.text))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (reply, mut sending) = sender.send_request(request, false).unwrap();
    sending.send_data(Bytes::from(body), true).unwrap();
    assert_eq!(reply.await.unwrap().status(), 200);
    soon("the upstream has said it all", || async { gw.simulator.log.totals().answers > 0 }).await;
    driven.abort();
    let charge = gw.only_charge().await;
    assert_eq!(charge.status, Status::CutByClient);
    assert!(charge.tokens.completion >= 1_990, "{charge:?}");
    gw.finish().await;
}

/// An upstream cannot bill a request that it has a part of.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_sent_whole_is_charged_nothing() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let upstream = format!(
        "[[upstreams]]\nname = \"deaf\"\nbase_url = \"http://{address}/v1\"\napi_key = \"k\"\n"
    );
    let gw = gateway().upstreams(&upstream).start().await;
    let key = gw.key("wide").await;
    let picture = format!("data:image/png;base64,iVBORw0KGgo{}", "A".repeat(24 << 20));
    let content = json!([{"type": "image_url", "image_url": {"url": picture}}]);
    let messages = json!([{"role": "user", "content": content}]);
    for is_stream in [false, true] {
        let body = json!({"messages": messages, "stream": is_stream});
        let waiting = tokio::spawn(ask(&gw, &key, TEXT[0].0, body, REASONING).open());
        let (mut socket, _) = deaf.accept().await.unwrap();
        let mut head = [0; 512];
        socket.read_exact(&mut head).await.unwrap();
        waiting.abort();
        let _ = waiting.await;
        for charge in gw.charges().await {
            assert!(!charge.counted && charge.tokens.total() == 0, "{charge:?}");
        }
        assert_eq!(gw.used(key.user).await, (0, 0));
    }
    gw.finish().await;
}

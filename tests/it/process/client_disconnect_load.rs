//! Many callers hang up at any moment: nothing of theirs stays, anywhere.

use super::{Host, Serving};
use crate::support::http_client::Call;
use crate::support::soon;
use domain::charge::Status;
use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many there are; `KNOCKX_DISCONNECTS` says otherwise.
const CALLERS: usize = 300;
/// The longest that any of them stays, in milliseconds; and more for each of many.
const LONGEST: u64 = 2_000;
/// The time between two arrivals, in milliseconds.
const ARRIVAL_GAP: u64 = 4;
/// What an allocator may keep for later, in kilobytes; and for each caller, in a build for tests.
const KEPT: u64 = 32 * 1024;
const KEPT_EACH: u64 = 40;

/// The sockets that a process has open.
fn sockets(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let is_socket = |fd: &fs::DirEntry| {
        fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    open.flatten().filter(is_socket).count()
}

/// The memory that a process occupies, in kilobytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn open_reservations(serving: &Serving) -> u64 {
    let metrics = Call::get(serving.admin, "/metrics").send().await;
    let line = metrics.text().lines().find_map(|l| l.strip_prefix("knockx_reservations_open "));
    line.map_or(0, |number| number.parse::<f64>().unwrap() as u64)
}

/// Callers who come and go at moments of their own; the requests of those who saw a head. The more they are,
/// the longer it takes until all have come and the slower are their streams: what is tested is that they leave
/// nothing, not how many of them a build for tests can answer in a second.
async fn storm(serving: &Serving, key: &str, callers: usize) -> Vec<String> {
    let (seen, refused) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let token_ms = (20 + callers / 10).to_string();
    let longest = LONGEST + ARRIVAL_GAP * callers as u64;
    let caller = async |number: u64| {
        let arrival = Duration::from_millis(number * ARRIVAL_GAP);
        let stay = Duration::from_millis(number.wrapping_mul(2_654_435_761) % longest);
        let call = serving
            .chat(key, r#","stream":true"#)
            .header("x-sim-tokens", "100000")
            .header("x-sim-token-ms", &token_ms);
        let read = async {
            // An overloaded machine refuses a call that it cannot admit in time, or closes its connection: such calls
            // leave nothing either.
            let admitted = call.try_open().await.filter(|open| open.status != 503);
            let Some(mut open) = admitted else {
                refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            assert_eq!(open.status, 200);
            let request = open.headers["x-request-id"].to_str().unwrap().to_owned();
            seen.lock().unwrap().push(request);
            while open.next().await.is_some() {}
            panic!("a stream of 2,000 seconds has ended");
        };
        tokio::time::sleep(arrival).await;
        let _ = tokio::time::timeout(stay, read).await;
    };
    futures_util::future::join_all((0..callers as u64).map(caller)).await;
    let refused = refused.into_inner();
    assert!(refused <= callers / 4, "{refused} of {callers} were refused");
    seen.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnects_under_load_leave_nothing_behind() {
    let callers =
        std::env::var("KNOCKX_DISCONNECTS").map_or(CALLERS, |number| number.parse().unwrap());
    let host = Host::new();
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(
        host.config(),
        text.replace("concurrent_streams = 1000", "concurrent_streams = 100000"),
    )
    .unwrap();
    let key = host.key();
    let serving = host.serve().await;
    let (gateway, simulator) = (serving.process.0.id(), host._simulator.0.id());
    // The first whose tokens have to be counted unfolds the tokenizer, for good.
    let mut seen: HashSet<String> = storm(&serving, &key, 4).await.into_iter().collect();
    soon("every call is settled", || async { open_reservations(&serving).await == 0 }).await;
    let (idle, idle_sockets) = (memory(gateway), sockets(simulator));

    for round in 1..=2 {
        seen.extend(storm(&serving, &key, callers).await);
        soon("every call is settled", || async { open_reservations(&serving).await == 0 }).await;
        soon("the upstream's connections are closed", || async {
            sockets(simulator) <= idle_sockets
        })
        .await;
        let after = memory(gateway);
        println!("storm {round}: {callers} callers, {idle} KB before, {after} KB after");
        assert!(after <= idle + KEPT + KEPT_EACH * callers as u64, "{idle} KB, then {after} KB");
    }
    assert!(seen.len() > callers / 8, "many of them saw a head: {}", seen.len());
    serving.ends_well().await;
    let verify = host.run(&["usage", "verify"]);
    assert!(verify.status.success(), "{verify:?}");
    let ledger = host.ledger().await;
    assert!(ledger.len() <= 2 * callers + 4);
    let cut: HashSet<String> = ledger
        .iter()
        .filter(|row| row.status == Status::CutByClient)
        .map(|row| row.request.to_string())
        .collect();
    assert!(seen.is_subset(&cut), "{:?}", seen.difference(&cut).next());
    assert_eq!(cut.len(), ledger.len(), "each of the others was cut too");
}

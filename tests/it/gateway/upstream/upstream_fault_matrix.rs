//! Everything an upstream can do to a call, in one table: what the caller sees, how often it was tried,
//! what is charged, what the breaker takes it for; with this upstream alone, and with a sound one
//! after it.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::{Gateway, Key, gateway, soon};
use domain::charge::{Source, Status};
use futures_util::StreamExt as _;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// An error with this status and code; nothing is charged.
    Error(u16, &'static str),
    /// The whole answer; charged as reported, or as counted.
    Whole(Source),
    /// A stream that ends with an error event, never with `[DONE]`; charged for what came.
    Cut,
}

use End::{Cut, Error, Whole};
const REPORTED: End = Whole(Source::Reported);
const COUNTED: End = Whole(Source::Estimated);

/// What happens to a call that meets one kind of trouble.
struct Row {
    trouble: &'static str,
    whole: End,
    stream: End,
    /// How often a lone upstream is tried.
    tries: u32,
    /// Whether a second upstream is asked, and so answers: for whole replies, and for streams.
    moves: [bool; 2],
    /// Whether the breaker counts each try that comes to nothing as a failure.
    blamed: bool,
}

const fn row(
    trouble: &'static str,
    ends: (End, End),
    tries: u32,
    moves: [bool; 2],
    blamed: bool,
) -> Row {
    Row { trouble, whole: ends.0, stream: ends.1, tries, moves, blamed }
}

/// Alike for both kinds of calls.
const fn both(end: End) -> (End, End) {
    (end, end)
}

const REFUSED: End = Error(502, "upstream_unreachable");
const SLOW: End = Error(504, "upstream_timeout");
const BROKEN: End = Error(502, "upstream_error");
const BAD: End = Error(502, "upstream_bad_reply");
const AWAY: End = Error(503, "upstream_unavailable");
const KEY: End = Error(502, "upstream_auth");
const CALLERS: End = Error(400, "-");

const BOTH: [bool; 2] = [true, true];
const WHOLE: [bool; 2] = [true, false];
const NEITHER: [bool; 2] = [false, false];

const ROWS: &[Row] = &[
    row("refused", both(REFUSED), 2, BOTH, true),
    row("dns", both(REFUSED), 2, BOTH, true),
    row("tls", both(REFUSED), 2, BOTH, true),
    row("slow-connect", both(SLOW), 2, BOTH, true),
    row("slow-first-byte", both(SLOW), 1, BOTH, true),
    row("closed", both(Error(502, "upstream_closed")), 1, BOTH, true),
    row("no-http", both(BAD), 1, BOTH, true),
    row("400", both(CALLERS), 1, NEITHER, false),
    row("401", both(KEY), 1, BOTH, true),
    row("403", both(KEY), 1, BOTH, true),
    row("404", both(Error(404, "model_not_found")), 1, BOTH, false),
    row("408", both(SLOW), 1, BOTH, true),
    row("410", both(CALLERS), 1, NEITHER, false),
    row("422", both(CALLERS), 1, NEITHER, false),
    row("429", both(Error(429, "rate_limit_exceeded")), 1, BOTH, false),
    row("500", both(BROKEN), 2, BOTH, true),
    row("503", both(AWAY), 2, BOTH, true),
    row("html", both(BROKEN), 2, BOTH, true),
    row("html-200", both(BAD), 1, BOTH, true),
    row("error-200", both(AWAY), 1, BOTH, true),
    row("empty", both(BAD), 1, BOTH, true),
    row("cut-before", both(BAD), 1, BOTH, true),
    row("cut-after", (BAD, Cut), 1, WHOLE, true),
    row("stall", (BAD, Cut), 1, WHOLE, true),
    row("role-cut", (BAD, Cut), 1, BOTH, true),
    row("role-stall", (BAD, Cut), 1, BOTH, true),
    row("role-silent", (BAD, Cut), 1, BOTH, true),
    row("role-error", (AWAY, Cut), 1, BOTH, true),
    row("slow-roles", both(REPORTED), 1, NEITHER, false),
    row("drip", both(REPORTED), 1, NEITHER, false),
    row("oversize", (BAD, Cut), 1, NEITHER, true),
    row("bad-utf8", (BAD, REPORTED), 1, WHOLE, true),
    row("no-usage", both(COUNTED), 1, NEITHER, false),
    row("usage-twice", both(REPORTED), 1, NEITHER, false),
];

/// One call of the table.
#[derive(Clone, Copy)]
struct Case {
    row: &'static Row,
    is_stream: bool,
    is_alone: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let kinds = [(false, true), (false, false), (true, true), (true, false)];
        let of = |row| kinds.map(|(is_stream, is_alone)| Self { row, is_stream, is_alone });
        ROWS.iter().flat_map(of).collect()
    }

    fn tag(&self) -> String {
        let (kind, number) = (["whole", "stream"], ["two", "one"]);
        format!("{}-{}", kind[usize::from(self.is_stream)], number[usize::from(self.is_alone)])
    }

    fn name(&self) -> String {
        format!("{}-{}", self.row.trouble, self.tag())
    }

    /// How it ends at the upstream in trouble.
    fn end(&self) -> End {
        if self.is_stream { self.row.stream } else { self.row.whole }
    }

    fn moves(&self) -> bool {
        self.row.moves[usize::from(self.is_stream)] && !self.is_alone
    }

    fn expected(&self) -> End {
        if self.moves() { REPORTED } else { self.end() }
    }

    fn body(&self) -> String {
        let stream = if self.is_stream { r#","stream":true"# } else { "" };
        format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"hi"}}]{stream}}}"#,
            self.name()
        )
    }
}

/// Where the trouble is.
struct Places {
    trouble: SocketAddr,
    slow: SocketAddr,
}

impl Places {
    /// The tables for one case: its upstream in trouble, and its model.
    fn tables(&self, case: &Case) -> (String, String) {
        let (name, trouble) = (case.name(), case.row.trouble);
        let at =
            |addr: &str, scheme: &str| format!("{scheme}://{addr}/{trouble}/{}/v1", case.tag());
        let (url, patience) = match trouble {
            "refused" => (at("127.0.0.1:9", "http"), ""),
            "dns" => (at("no-such-host.invalid", "http"), ""),
            "tls" => (at(&self.trouble.to_string(), "https"), ""),
            "slow-connect" => (at(&self.slow.to_string(), "http"), "connect_timeout = 0.2\n"),
            "slow-first-byte" => {
                (at(&self.trouble.to_string(), "http"), "first_byte_timeout = 0.2\n")
            }
            "stall" | "role-stall" => {
                (at(&self.trouble.to_string(), "http"), "idle_timeout = 0.2\n")
            }
            "slow-roles" => (at(&self.trouble.to_string(), "http"), "first_event_timeout = 0.3\n"),
            "role-silent" => (
                at(&self.trouble.to_string(), "http"),
                "first_event_timeout = 0.2\nidle_timeout = 1\n",
            ),
            _ => (at(&self.trouble.to_string(), "http"), ""),
        };
        let upstream = format!(
            "[[upstreams]]\nname = {name:?}\nbase_url = {url:?}\napi_key = \"k\"\n{patience}"
        );
        let second =
            if case.is_alone { "" } else { ", { name = \"sound\", model = \"grok-4.3\" }" };
        let model = format!(
            "[[models]]\nid = {name:?}\nupstreams = [{{ name = {name:?}, model = \"grok-4.3\" }}{second}]\n\
             context_tokens = 100000\nprices = {{ input = 1, cached_input = 1, output = 1 }}\nowned_by = \"x\"\n"
        );
        (upstream, model)
    }
}

/// A listener whose queue of connections is full: the next one waits until it gives up.
async fn full() -> (tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (addr, mut queued) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await
    {
        queued.push(stream);
    }
    (listener, queued)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upstream_fault_has_one_outcome() {
    let (trouble, (slow, _queued)) = (FaultyUpstream::start().await, full().await);
    let places = Places { trouble: trouble.addr, slow: slow.local_addr().unwrap() };
    let mut upstreams =
        "[[upstreams]]\nname = \"sound\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\n"
            .to_owned();
    let mut models = String::new();
    for case in Case::all() {
        let (upstream, model) = places.tables(&case);
        let _ = write!(upstreams, "{upstream}");
        models.push_str(&model);
    }
    let limits = "event_bytes = 1048576\nreply_bytes = 2097152";
    let gw = gateway().upstreams(&upstreams).models(&models).limits(limits).start().await;
    let key = gw.key("wide").await;
    let checks = Case::all().into_iter().map(|case| check(&gw, &key, &trouble, case));
    let wrong: Vec<String> = futures_util::stream::iter(checks)
        .buffer_unordered(8)
        .filter_map(|w| async { w })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let retried: u32 = ROWS
        .iter()
        .map(|row| 2 * (row.tries - 1) + row.moves.map(u32::from).iter().sum::<u32>())
        .sum();
    assert_eq!(gw.metric("knockx_retries_total").await, u64::from(retried));
    soon("no call is left", || async { gw.running.quota.open_leases() == 0 }).await;
    let charges = crate::support::recent_charges(&gw.running.store).await;
    assert_eq!(charges.len(), Case::all().len(), "one row for each call");
    gw.finish().await;
}

/// What the gateway gives up although the upstream may make all of it.
const GIVEN_UP: [&str; 5] = ["slow-first-byte", "stall", "oversize", "role-stall", "role-silent"];

/// What differs from the table, if anything does.
async fn check(gw: &Gateway, key: &Key, trouble: &FaultyUpstream, case: Case) -> Option<String> {
    let call = gw.chat(key, &case.body()).send();
    let Ok(reply) = tokio::time::timeout(Duration::from_secs(15), call).await else {
        return Some(format!("{}: hangs", case.name()));
    };
    let request = reply.header("x-request-id").parse().unwrap();
    let charge = async || gw.running.store.charge(request).await.unwrap();
    soon("it is settled", || async { charge().await.is_some() }).await;
    let charge = charge().await.unwrap();
    let text = String::from_utf8_lossy(&reply.body);
    let is_whole = !case.is_stream || text.ends_with("data: [DONE]\n\n");
    let end = match reply.status {
        200 if is_whole => Whole(charge.source),
        200 if text.contains("\"upstream_cut\"") => Cut,
        status => {
            let code = reply.code();
            let code =
                ROWS.iter().flat_map(|row| [row.whole, row.stream]).find_map(|end| match end {
                    Error(_, known) if known == code => Some(known),
                    _ => None,
                });
            Error(status, code.unwrap_or("?"))
        }
    };
    let is_charged = match end {
        // It took the call, and may bill it.
        Error(..) if GIVEN_UP.contains(&case.row.trouble) => {
            charge.status == Status::CutByUpstream && charge.tokens.prompt > 0
        }
        Error(..) => (charge.status, charge.tokens.total()) == (Status::Failed, 0),
        Whole(_) => charge.status == Status::Complete && charge.tokens.total() > 0,
        Cut => charge.status == Status::CutByUpstream && charge.tokens.prompt > 0,
    };
    let tries = if case.is_alone { case.row.tries } else { 1 };
    let is_blamed = case.row.blamed && !matches!(case.end(), Whole(_));
    let failures = if is_blamed { tries } else { 0 };
    let statuses = gw.running.upstreams().statuses(std::time::Instant::now());
    let condition = statuses.iter().find(|upstream| *upstream.name == *case.name()).unwrap();
    let is_seen = !["refused", "dns", "tls", "slow-connect"].contains(&case.row.trouble);
    let asked = if is_seen { trouble.asked(case.row.trouble, &case.tag()) } else { tries };
    let by = if case.moves() { "sound".to_owned() } else { case.name() };
    let is_right = end == case.expected()
        && is_charged
        && asked == tries
        && condition.failures == failures
        && (*charge.upstream == *by || matches!(end, Error(..)));
    (!is_right).then(|| {
        format!(
            "{}: {end:?} (not {:?}), asked {asked} (not {tries}), failures {} (not {failures}), {charge:?}\n  {}",
            case.name(),
            case.expected(),
            condition.failures,
            text.chars().take(300).collect::<String>()
        )
    })
}

//! An upstream in every kind of trouble, or with a recorded answer: the path of its base address says which.

use super::recording_upstream::UPSTREAM_HEADERS;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves `/TROUBLE/ANYTHING/v1/…` on loopback and counts the requests of each such pair.
pub struct FaultyUpstream {
    pub addr: SocketAddr,
    asked: Arc<Mutex<HashMap<String, u32>>>,
}

/// How a connection of TLS begins; here there is none.
const TLS: u8 = 0x16;

/// What a connection does, step by step; at the end it is closed.
enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    /// Nothing more, until the other side has gone.
    Hang,
}

impl FaultyUpstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, asked) = (listener.local_addr().unwrap(), Arc::default());
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counted)));
            }
        });
        Self { addr, asked }
    }

    /// How often a request came to `/trouble/tag/`.
    pub fn asked(&self, trouble: &str, tag: &str) -> u32 {
        self.asked.lock().unwrap().get(&format!("{trouble}/{tag}")).copied().unwrap_or(0)
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<HashMap<String, u32>>>) {
    let Some((trouble, tag, is_stream)) = request(&mut stream).await else { return };
    *asked.lock().unwrap().entry(format!("{trouble}/{tag}")).or_default() += 1;
    for step in steps(&trouble, is_stream) {
        match step {
            Step::Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Hang => {
                let _ = stream.read(&mut [0; 1024]).await;
            }
        }
    }
}

/// FaultyUpstream and tag of the path, and whether a stream is asked for.
async fn request(stream: &mut TcpStream) -> Option<(String, String, bool)> {
    let mut bytes = Vec::new();
    loop {
        if bytes.first() == Some(&TLS) {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
            });
            if body.len() >= length.unwrap_or(0_usize) {
                let mut path = head.split(' ').nth(1)?.split('/').skip(1);
                let (trouble, tag) = (path.next()?.to_owned(), path.next()?.to_owned());
                return Some((trouble, tag, body.contains(r#""stream":true"#)));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
const USAGE: &str = r#""usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}"#;

fn steps(trouble: &str, is_stream: bool) -> Vec<Step> {
    if let Some(name) = trouble.strip_prefix("golden-") {
        return recorded(name);
    }
    match trouble {
        "closed" => vec![],
        "slow-first-byte" => vec![Step::Hang],
        "no-http" => vec![say("220 mail.example ESMTP\r\n")],
        "interim" => {
            vec![say(&"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(17)), Step::Hang]
        }
        "switching" => {
            vec![say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), Step::Hang]
        }
        "few-interim" => {
            let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(16);
            let mut steps = if is_stream { streamed("") } else { whole("") };
            steps.insert(0, say(&interim));
            steps
        }
        "html" => vec![status(502, "text/html", "<html><h1>502 Bad Gateway</h1></html>")],
        "html-200" => vec![status(200, "text/html", "<html>Checking your browser</html>")],
        "empty" => vec![status(200, "application/json", "")],
        "error-200" => {
            vec![status(
                200,
                "application/json",
                r#"{"code":"unavailable","error":"Try again later."}"#,
            )]
        }
        "wrong-key" => vec![status(400, "application/json", WRONG_KEY)],
        "no-credits" => vec![status(429, "application/json", NO_CREDITS)],
        "too-long" => vec![status(400, "application/json", TOO_LONG)],
        "forbidden" => vec![status(403, "application/json", FORBIDDEN)],
        "policy" => vec![status(400, "application/json", POLICY)],
        _ => match trouble.parse() {
            Ok(number) => vec![status(number, "application/json", complaint(number))],
            Err(_) if is_stream => streamed(trouble),
            Err(_) => whole(trouble),
        },
    }
}

const POLICY: &str = r#"{"error":{"message":"Your request was rejected by our safety system.","type":"invalid_request_error","param":null,"code":"content_policy_violation"}}"#;
const WRONG_KEY: &str =
    r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***Qz."}"#;
const NO_CREDITS: &str = r#"{"code":"resource-exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#;
const FORBIDDEN: &str =
    r#"{"code":"permission-denied","error":"Content violates usage guidelines."}"#;
const TOO_LONG: &str = r#"{"code":"invalid-argument","error":"This model's maximum prompt length is 256000 but the request contains 300001 tokens."}"#;

/// The bytes of a recorded answer.
pub fn golden(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("tests/golden").join(name)).unwrap()
}

/// A recorded answer; a stream in pieces that end anywhere.
fn recorded(name: &str) -> Vec<Step> {
    let bytes = golden(name);
    if !name.ends_with(".sse") {
        return vec![status(200, "application/json", std::str::from_utf8(&bytes).unwrap())];
    }
    let head = format!(
        "{HEAD}{UPSTREAM_HEADERS}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let pieces = bytes.chunks(97).map(|piece| Step::Say(chunk(piece)));
    [say(&head)].into_iter().chain(pieces).chain([say("0\r\n\r\n")]).collect()
}

fn say(text: &str) -> Step {
    Step::Say(text.as_bytes().to_vec())
}

fn status(status: u16, kind: &str, body: &str) -> Step {
    let length = body.len();
    say(&format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// In xAI's words.
fn complaint(status: u16) -> &'static str {
    match status {
        400 => r#"{"code":"invalid-argument","error":"temperature must be below 2"}"#,
        401 => r#"{"code":"unauthenticated","error":"No credentials"}"#,
        403 => r#"{"code":"permission-denied","error":"The team is blocked"}"#,
        404 => r#"{"code":"not-found","error":"The model does not exist"}"#,
        408 => r#"{"code":"deadline-exceeded","error":"Took too long"}"#,
        410 => r#"{"code":"gone","error":"Live search is gone"}"#,
        422 => r#"{"code":"invalid-argument","error":"missing field `role`"}"#,
        429 => r#"{"code":"resource-exhausted","error":"Requests per Second (actual/limit): 2/2"}"#,
        500 => r#"{"code":"internal","error":"An internal error occurred."}"#,
        _ => r#"{"code":"unavailable","error":"Unavailable"}"#,
    }
}

/// A reply in one piece that says ` hi there`.
fn whole(trouble: &str) -> Vec<Step> {
    let usage = match trouble {
        "no-usage" => String::new(),
        "usage-twice" => format!(",{USAGE},{USAGE}"),
        _ => format!(",{USAGE}"),
    };
    let padding = if trouble == "oversize" { " ".repeat(3 << 20) } else { String::new() };
    let body = format!(
        r#"{{"id":"x",{padding}"object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"hi @ there"}},"finish_reason":"stop"}}]{usage}}}"#
    );
    let mut body = body.into_bytes();
    if trouble == "bad-utf8" {
        spoil(&mut body);
    }
    let head =
        format!("{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    match trouble {
        "cut-before" => vec![say(&head)],
        "cut-after" | "role-cut" => vec![say(&head), Step::Say(body[..60].to_vec())],
        "role-error" => vec![status(200, "application/json", complaint(503))],
        "stall" | "role-stall" | "role-silent" => {
            vec![say(&head), Step::Say(body[..60].to_vec()), Step::Hang]
        }
        "drip" => [say(&head)].into_iter().chain(drops(&body)).collect(),
        _ => vec![say(&head), Step::Say(body)],
    }
}

/// The same as events.
fn streamed(trouble: &str) -> Vec<Step> {
    let event = |rest: &str| {
        format!(
            "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",{rest}}}\n\n"
        )
    };
    let delta =
        |text: &str| event(&format!(r#""choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]"#));
    let stop = event(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
    let usage = event(&format!(r#""choices":[],{USAGE}"#));
    let (begin, rest) = (delta("hi @"), delta(" there"));
    let padding = if trouble == "oversize" { " ".repeat(3 << 20) } else { String::new() };
    let usages = match trouble {
        "no-usage" => String::new(),
        "usage-twice" => format!("{usage}{usage}"),
        _ => usage,
    };
    let mut body = format!("{begin}data: {padding}{}{stop}{usages}data: [DONE]\n\n", &rest[6..]);
    let begun = Step::Say(chunk(begin.as_bytes()));
    // Nothing that a client shows.
    let role = event(r#""choices":[{"index":0,"delta":{"role":"assistant","content":""}}]"#);
    let role = Step::Say(chunk(role.as_bytes()));
    let head = say(&format!(
        "{HEAD}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    match trouble {
        "trailers" => {
            let trailer = || [say("x-trailer: 1\r\n"), Step::Wait(Duration::from_millis(2))];
            let trailers = (0..5000).flat_map(|_| trailer());
            [head, Step::Say(chunk(body.as_bytes())), say("0\r\n")]
                .into_iter()
                .chain(trailers)
                .collect()
        }
        "cut-before" => vec![head],
        "cut-after" => vec![head, begun, Step::Wait(Duration::from_millis(20))],
        "slow-roles" => {
            let roles = (0..5).flat_map(|_| {
                let Step::Say(bytes) = &role else { unreachable!("it is said") };
                [Step::Say(bytes.clone()), Step::Wait(Duration::from_millis(100))]
            });
            let rest = [Step::Say(chunk(body.as_bytes())), say("0\r\n\r\n")];
            [head].into_iter().chain(roles).chain(rest).collect()
        }
        "role-cut" => vec![head, role, Step::Wait(Duration::from_millis(20))],
        "role-stall" | "role-silent" => vec![head, role, Step::Hang],
        "role-error" => {
            let error = format!("data: {}\n\n", complaint(503));
            vec![head, role, Step::Say(chunk(error.as_bytes())), say("0\r\n\r\n")]
        }
        "stall" => vec![head, begun, Step::Hang],
        "drip" => {
            let whole = [chunk(body.as_bytes()), b"0\r\n\r\n".to_vec()].concat();
            [head].into_iter().chain(drops(&whole)).collect()
        }
        _ => {
            let mut bytes = std::mem::take(&mut body).into_bytes();
            if trouble == "bad-utf8" {
                spoil(&mut bytes);
            }
            vec![head, Step::Say(chunk(&bytes)), say("0\r\n\r\n")]
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A byte at a time, with a pause between that no time limit minds.
fn drops(bytes: &[u8]) -> impl Iterator<Item = Step> {
    bytes.iter().flat_map(|byte| [Step::Say(vec![*byte]), Step::Wait(Duration::from_millis(1))])
}

/// Inside the text there is a byte that no UTF-8 has.
fn spoil(bytes: &mut [u8]) {
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
}

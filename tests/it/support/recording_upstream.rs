//! An upstream that keeps what it is sent: every head and body byte for byte, and on which
//! connection it came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and header lines, names in lower case.
    pub lines: Vec<String>,
    pub body: Vec<u8>,
    /// The number of the connection, from 0.
    pub connection: usize,
}

/// Headers of an upstream's reply: what tells of its side, and four that are harmless.
pub const UPSTREAM_HEADERS: &str = "openai-organization: org-secret\r\nopenai-project: proj_secret\r\nauthorization: Bearer operators-own\r\n\
set-cookie: __cf_bm=secret\r\nserver: secret-host\r\nx-litellm-key-spend: 12.5\r\nx-accel-redirect: /secret\r\n\
x-accel-expires: 100\r\nx-sendfile: /etc/secret\r\nanthropic-organization-id: secret\r\n\
anthropic-ratelimit-tokens-remaining: 5\r\nx-ratelimit-limit-requests: 31337\r\nvia: 1.1 secret\r\n\
location: http://10.0.0.1/secret\r\nlink: <http://10.0.0.1>; rel=next\r\nretry-after: 31337\r\ncf-ray: secret\r\n\
access-control-allow-origin: http://secret\r\ncache-control: public, max-age=31337\r\nx-kx-clamped: 31337\r\n\
openai-processing-ms: 17\r\nopenai-version: 2020-10-01\r\nx-metrics-ttft-ms: 8.5\r\nx-request-id: up-1\r\n";

pub struct RecordingUpstream {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// What a connection does after its first answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Goes,
    /// Dies when the next request has come on it, without a byte of an answer.
    Dies,
}

impl RecordingUpstream {
    pub async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, received) = (listener.local_addr().unwrap(), Arc::default());
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, connection, then, Arc::clone(&kept)));
            }
        });
        Self { addr, received }
    }

    /// Its table for [`super::Builder::upstreams`].
    pub fn table(&self) -> String {
        format!(
            "[[upstreams]]\nname = \"recorder\"\nbase_url = \"http://{}/v1\"\napi_key = \"operators-own\"\n",
            self.addr
        )
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Received {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let value = |line: &'_ str| -> bool {
            line.starts_with(name) && line[name.len()..].starts_with(": ")
        };
        self.lines.iter().filter(|line| value(line)).map(|line| &line[name.len() + 2..]).collect()
    }

    /// The names of all headers.
    pub fn names(&self) -> Vec<&str> {
        self.lines.iter().skip(1).filter_map(|line| Some(line.split_once(": ")?.0)).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    then: Then,
    kept: Arc<Mutex<Vec<Received>>>,
) {
    let mut bytes = Vec::new();
    for number in 0.. {
        let Some((lines, body)) = request(&mut stream, &mut bytes).await else { return };
        kept.lock().unwrap().push(Received { lines, body, connection });
        if then == Then::Dies && number > 0 {
            return;
        }
        let answer = r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-internal: secret\r\nconnection: x-internal\r\n";
        let reply =
            format!("{head}{UPSTREAM_HEADERS}content-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request that is framed by `Content-Length`, as the gateway's always are.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(Vec<String>, Vec<u8>)> {
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let lines: Vec<String> = head
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().unwrap();
    while bytes.len() < end + 4 + length {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let rest = bytes.split_off(end + 4 + length);
    let body = bytes.split_off(end + 4);
    *bytes = rest;
    Some((lines, body))
}

//! An upstream whose replies the test writes: one function from request to reply.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub body: String,
}

/// The upstream; it goes with the test's runtime.
pub struct ScriptedUpstream {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ScriptedUpstream {
    /// Answers each request with the bytes that `reply` returns, and closes.
    pub async fn start(reply: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (kept, reply) = (Arc::clone(&asked), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, reply) = (Arc::clone(&kept), Arc::clone(&reply));
                tokio::spawn(async move {
                    let Some(asked) = request(&mut stream).await else { return };
                    kept.lock().unwrap().push(asked.clone());
                    let _ = stream.write_all(&reply(&asked)).await;
                });
            }
        });
        Self { addr, asked }
    }

    /// Its table for [`super::Builder::upstreams`]; it offers every surface.
    pub fn table(&self, name: &str, key: &str, lines: &str) -> String {
        format!(
            "[[upstreams]]\nname = {name:?}\nbase_url = \"http://{}/v1\"\napi_key = {key:?}\n\
             surfaces = [\"chat/completions\", \"responses\", \"completions\", \"embeddings\", \
             \"images/generations\", \"messages\", \"messages/count_tokens\"]\n{lines}\n",
            self.addr
        )
    }

    /// The requests that came, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A reply in one piece.
pub fn json(status: u16, body: &str) -> Vec<u8> {
    with_headers(status, "content-type: application/json\r\n", body.as_bytes())
}

/// A reply in one piece with these header lines.
pub fn with_headers(status: u16, lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A stream of these bytes.
pub fn stream(body: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let size = format!("{:x}\r\n", body.len());
    [head.as_bytes(), size.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

/// A stream of events with these data.
pub fn events(datas: &[&str]) -> Vec<u8> {
    let body: String = datas.iter().map(|data| format!("data: {data}\n\n")).collect();
    stream(body.as_bytes())
}

async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
            });
            if body.len() >= length.unwrap_or(0_usize) {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some(Asked { path, body: body.to_owned() });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

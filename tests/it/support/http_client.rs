//! A small HTTP client: one connection a call, replies whole or piece by piece; and one whose calls share
//! a connection of HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A request to be sent.
pub struct Call {
    addr: SocketAddr,
    request: http::request::Builder,
    body: Bytes,
}

/// A whole reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    /// The body ended as HTTP says it should.
    pub whole: bool,
}

/// A reply under way. Dropping it hangs up.
pub struct Open {
    pub status: u16,
    pub headers: http::HeaderMap,
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Call {
    pub fn new(addr: SocketAddr, method: &str, path: &str) -> Self {
        let request =
            http::Request::builder().method(method).uri(path).header("host", addr.to_string());
        Self { addr, request, body: Bytes::new() }
    }

    pub fn get(addr: SocketAddr, path: &str) -> Self {
        Self::new(addr, "GET", path)
    }

    pub fn post(addr: SocketAddr, path: &str) -> Self {
        Self::new(addr, "POST", path).header("content-type", "application/json")
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends, and returns with the head.
    pub async fn open(self) -> Open {
        self.try_open().await.expect("a reply")
    }

    /// Sends to a gateway that may not be there; `None` when nothing comes back.
    pub async fn try_open(self) -> Option<Open> {
        let stream = TcpStream::connect(self.addr).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let request = self.request.body(Full::new(self.body)).unwrap();
        let response = sender.send_request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        Some(Open { status: parts.status.as_u16(), headers: parts.headers, body, connection })
    }

    /// The whole reply of a gateway that may not be there, or go away.
    pub async fn try_send(self) -> Option<Reply> {
        Some(self.try_open().await?.rest().await)
    }

    /// Sends, and returns with the whole reply.
    pub async fn send(self) -> Reply {
        self.open().await.rest().await
    }
}

/// A connection of HTTP/2.
#[derive(Clone)]
pub struct Shared(http2::SendRequest<Full<Bytes>>);

impl Shared {
    /// Begins with HTTP/2 at once.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self(sender)
    }

    /// Sends a call; returns with the head.
    pub async fn open(&self, call: Call) -> Open {
        self.try_open(call).await.expect("a reply")
    }

    /// Sends a call that may be refused without a reply.
    pub async fn try_open(&self, mut call: Call) -> Option<Open> {
        let headers = call.request.headers_mut().unwrap();
        let authority = headers.remove("host").unwrap();
        let path = call.request.uri_ref().unwrap().clone();
        let uri = format!("http://{}{path}", authority.to_str().unwrap());
        let request = call.request.uri(uri).body(Full::new(call.body)).unwrap();
        let response = self.0.clone().send_request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let connection = tokio::spawn(async {});
        Some(Open { status: parts.status.as_u16(), headers: parts.headers, body, connection })
    }

    /// Sends a call; returns with the whole reply.
    pub async fn send(&self, call: Call) -> Reply {
        self.open(call).await.rest().await
    }
}

impl Open {
    /// The next bytes; `None` at the end, however it came.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(data);
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Everything that is still to come.
    pub async fn rest(mut self) -> Reply {
        let (mut body, mut whole) = (Vec::new(), true);
        while let Some(frame) = self.body.frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        Reply { status: self.status, headers: self.headers.clone(), body: body.into(), whole }
    }
}

impl Drop for Open {
    /// Closes the connection at once, as a caller does who goes away.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The error object's code, `-` for null.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("-").to_owned()
    }

    /// The data of each event of a stream, `[DONE]` too.
    pub fn events(&self) -> Vec<String> {
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.trim().to_owned())
            .collect()
    }

    /// The text of a streamed answer's first choice.
    pub fn answer(&self) -> String {
        let content = |data: &String| {
            let chunk: Value = serde_json::from_str(data).ok()?;
            Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
        };
        self.events().iter().filter_map(content).collect()
    }

    /// Whether the stream says it is complete.
    pub fn is_done(&self) -> bool {
        self.events().last().is_some_and(|data| data == "[DONE]")
    }
}

//! Bytes on a socket, for what no honest client sends.

use super::SOON;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A chat call as it stands on the wire; `fields` are lines of the head, the body's length not
/// among them.
pub fn chat(key: &str, fields: &str, body: &str) -> String {
    let head = head(key, fields);
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A chat call's head, up to where the body's length is said.
pub fn head(key: &str, fields: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n{fields}"
    )
}

/// The statuses of the replies in a text. One that answers HTTP/1.0 speaks it.
pub fn statuses(text: &str) -> Vec<u16> {
    let status = |reply: &str| reply.strip_prefix(['0', '1'])?.get(1..4)?.parse().ok();
    text.split("HTTP/1.").skip(1).filter_map(status).collect()
}

/// A plain connection.
pub struct RawSocket {
    pub stream: TcpStream,
}

impl RawSocket {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends bytes; a peer that has closed is no error here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        self
    }

    /// Everything until the peer closes.
    pub async fn everything(&mut self) -> String {
        let mut all = Vec::new();
        let read = tokio::time::timeout(SOON, self.stream.read_to_end(&mut all)).await;
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(read.is_ok(), "the connection stays open after {text:?}");
        text
    }

    /// Reads until `text` has come.
    pub async fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&all).contains(text) {
                let mut piece = [0; 4096];
                let n = self.stream.read(&mut piece).await.unwrap();
                assert!(n > 0, "closed before `{text}`: {}", String::from_utf8_lossy(&all));
                all.extend_from_slice(&piece[..n]);
            }
        };
        tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("`{text}` did not come"));
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// A connection whose own buffers are small, so that what is not read soon blocks the sender.
pub async fn with_small_buffers(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(addr).await.unwrap()
}

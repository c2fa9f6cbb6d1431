//! Bytes on a socket, for what no honest client sends.

use super::SOON;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A plain connection.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
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
    pub async fn to_end(&mut self) -> String {
        let mut all = Vec::new();
        let read = self.stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(SOON, read).await.expect("the connection is closed");
        String::from_utf8_lossy(&all).into_owned()
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

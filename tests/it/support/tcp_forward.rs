//! An address in front of a server, as a name or a balancer is: where it leads may change, and the connections
//! made before stay open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};

pub struct TcpForward {
    pub addr: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl TcpForward {
    /// To a port of this machine.
    pub async fn to(port: u16) -> Self {
        Self::from("127.0.0.1:0", port).await
    }

    /// From an address.
    pub async fn from(addr: &str, port: u16) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(local(port)));
        let current = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = *current.lock().unwrap();
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { addr, target }
    }

    /// Connections to come lead to another port.
    pub fn switch(&self, port: u16) {
        *self.target.lock().unwrap() = local(port);
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

//! The listening sockets: bound, or taken from the process before this one, and served.

use crate::config::Config;
use crate::control::admin_port::{self, AdminState};
use crate::gateway::Gateway;
use crate::gateway::listener::connection;
use crate::hot_restart::successor::Takeover;
use anyhow::anyhow;
use pingora_core::protocols::l4::listener::Listener;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use system::supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The sockets, before any request is served.
pub(super) struct Sockets {
    pub(super) public: TcpListener,
    pub(super) public_addr: SocketAddr,
    pub(super) admin: Option<TcpListener>,
    pub(super) admin_addr: Option<SocketAddr>,
}

impl Sockets {
    /// Binds the sockets, or takes those of the running gateway where the addresses are the same.
    pub(super) async fn bind(
        config: &Config,
        mut takeover: Option<&mut Takeover>,
    ) -> anyhow::Result<Self> {
        let addr = config.listener.addr;
        let public = match takeover.as_mut().map(|t| t.public(addr)).transpose()?.flatten() {
            Some(socket) => socket,
            None => bind(addr).await?,
        };
        let admin = match config.admin_addr {
            Some(addr) => match takeover.map(|t| t.admin(addr)).transpose()?.flatten() {
                Some(socket) => Some(socket),
                None => Some(bind(addr).await?),
            },
            None => None,
        };
        let public_addr = public.local_addr()?;
        let admin_addr = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Self { public, public_addr, admin, admin_addr })
    }

    /// Serves until `stops.calls`; the admin's until `stops.writer`, so that the end can be watched. Both only
    /// until a successor accepts.
    pub(super) fn serve(
        self,
        workers: &Supervisor,
        gateway: &Arc<Gateway>,
        admin: AdminState,
        stops: &Stops<'_>,
    ) {
        let accepting = stops.accepting.clone();
        if let Some(socket) = self.admin {
            let router = admin_port::router(admin);
            let (stop, accepting) = (stops.writer.clone(), accepting.clone());
            let ended = async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = accepting.cancelled() => {}
                }
            };
            workers.spawn("admin", serve_admin(socket, router, ended));
        }
        let public = Listener::from(self.public);
        let (gateway, stop) = (Arc::clone(gateway), stops.calls.clone());
        workers.spawn("accept", async move {
            let accept = connection::accept(gateway, public, stop);
            accepting.run_until_cancelled(accept).await;
        });
    }
}

/// Tokens that end accepting connections.
pub(super) struct Stops<'a> {
    /// Cancelled when the last call has been told to end.
    pub(super) calls: &'a CancellationToken,
    /// Cancelled when the last call has settled.
    pub(super) writer: &'a CancellationToken,
    /// Cancelled when a successor accepts instead.
    pub(super) accepting: &'a CancellationToken,
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|e| {
        let hint = if e.kind() == ErrorKind::AddrInUse {
            "; choose another port with PORT, ADMIN_PORT or `demo --listen`"
        } else {
            ""
        };
        anyhow!("cannot listen on {addr}: {e}{hint}")
    })
}

async fn serve_admin(
    listener: TcpListener,
    router: axum::Router,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let ended = axum::serve(listener, router).with_graceful_shutdown(stop).await;
    if let Err(e) = ended {
        tracing::error!(error = %e, "admin listener stopped");
    }
}

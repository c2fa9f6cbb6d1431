//! Accepts and serves connections, and drops them when the simulator stops.

use super::Simulator;
use crate::request_log::RequestLog;
use crate::socket::{Socket, SocketControl};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two flushes of the log file.
const LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// Pause after a failed `accept`: while the process is out of file descriptors, the next one fails too.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(20);

pub async fn accept(
    simulator: Arc<Simulator>,
    listener: TcpListener,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(Arc::clone(&simulator), stream);
                tasks.spawn(stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "simulator failed to accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
    }
}

/// Serves one connection to its end, whichever way it ends.
async fn serve(simulator: Arc<Simulator>, stream: TcpStream) {
    // Small events must leave at once; a socket that refuses is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let control = SocketControl::default();
    let socket = TokioIo::new(Socket::new(stream, control.clone()));
    let service = service_fn(move |request| {
        let (simulator, control) = (Arc::clone(&simulator), control.clone());
        async move { simulator.reply(request, control).await }
    });
    // Heads and small bodies are copied together: cheaper than a vectored write.
    let served = http1::Builder::new().writev(false).serve_connection(socket, service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "simulator connection ended early");
    }
}

pub async fn flush_log_periodically(log: Arc<RequestLog>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOG_FLUSH_INTERVAL)).await.is_some() {
        log.flush();
    }
    log.flush();
}

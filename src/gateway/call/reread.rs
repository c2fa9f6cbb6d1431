//! Reads a stored response again, by its id, when its call has ended without the upstream's usage.
//!
//! The upstream makes a stored response to its end, and bills it, whatever became of its call. The call was
//! charged an estimate; as soon as the upstream reports what the response used, that takes the estimate's
//! permit, as it does when the caller reads the response ([`crate::gateway::call::correction`]). What a shutdown
//! interrupts is left to the caller's own reads.

use crate::gateway::call::body_memory::BodyMemory;
use crate::gateway::call::correction::ChargeCorrector;
use crate::gateway::call::relay_body;
use crate::upstream::client::UpstreamRequest;
use bytes::{Bytes, BytesMut};
use domain::id::RequestId;
use domain::stored_response::StoredResponse;
use http::{Method, StatusCode};
use jiff::Timestamp;
use std::future;
use std::net::IpAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wire::surface::Surface;

/// How often a response is read. Each delay is [`DELAY_FACTOR`] times the one before: with a first one of 30 s, the
/// last read is about 42 minutes after the call.
const MAX_READS: u32 = 4;
const DELAY_FACTOR: u32 = 4;
const DEFAULT_FIRST_DELAY: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a stored response for the usage that its stream did not report.
#[derive(Clone)]
pub struct StoredResponseReader {
    pub corrector: ChargeCorrector,
    pub body_memory: BodyMemory,
    /// Maximum size of a response, in bytes.
    pub reply_bytes: usize,
    /// The caller's address, whose share of body memory is used.
    pub address: IpAddr,
    /// `limits.drain`: the first read comes as long after it. Zero = the default.
    pub drain: Duration,
    /// Cancelled when the process is about to end.
    pub stop: CancellationToken,
}

/// The result of one read.
enum Read {
    Body(Bytes),
    /// The upstream does not have it.
    Gone,
    Failed,
}

impl StoredResponseReader {
    /// Reads `reply` until its charge is what the upstream reported. `now` is when its call was admitted.
    pub async fn read(self, reply: StoredResponse, now: Timestamp) {
        let Some(call) = reply.unsettled.filter(|_| is_plain(&reply.id)) else { return };
        let mut delay = if self.drain.is_zero() { DEFAULT_FIRST_DELAY } else { self.drain };
        for _ in 0..MAX_READS {
            let reading = async {
                tokio::time::sleep(delay).await;
                self.fetch(&reply, call).await
            };
            let read = tokio::select! {
                () = self.stop.cancelled() => return,
                read = reading => read,
            };
            match read {
                Read::Body(body) => {
                    let settled = self.corrector.settle(&reply, Surface::Responses, &body, now);
                    if settled.await.is_ok() && self.corrector.is_settled(&reply, now).await {
                        return;
                    }
                }
                Read::Gone => return,
                Read::Failed => {}
            }
            delay = delay.saturating_mul(DELAY_FACTOR);
        }
        tracing::warn!(request_id = %call, "stored response reported no usage: its charge stays an estimate until it is retrieved");
    }

    async fn fetch(&self, reply: &StoredResponse, call: RequestId) -> Read {
        let fetched = tokio::time::timeout(READ_TIMEOUT, self.fetch_once(reply, call));
        fetched.await.ok().flatten().unwrap_or(Read::Failed)
    }

    async fn fetch_once(&self, reply: &StoredResponse, call: RequestId) -> Option<Read> {
        let client = self.corrector.upstreams.client(&reply.upstream)?;
        let path = format!("/responses/{}", reply.id);
        let request = UpstreamRequest {
            request: Some(call),
            ..UpstreamRequest::without_body(Method::GET, path)
        };
        let mut exchange = client.try_call(request, future::pending::<()>()).await.ok()?;
        let status = exchange.status();
        let mut room = self.body_memory.empty_permit(Some(reply.user), self.address);
        let body = relay_body::read_on(&mut exchange, BytesMut::new(), self.reply_bytes, &mut room);
        let body = body.await;
        if status == StatusCode::NOT_FOUND {
            return Some(Read::Gone);
        }
        let body = body.filter(|_| status.is_success())?;
        client.release(exchange);
        Some(Read::Body(body))
    }
}

/// An id that can stand in a path as it is.
fn is_plain(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

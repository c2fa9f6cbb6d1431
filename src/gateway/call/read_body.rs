//! The request body, whole and bounded in size and time.

use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, RoutingSnapshot};
use bytes::{Bytes, BytesMut};
use domain::caller::Caller;
use std::time::{Duration, Instant};
use system::clock;
use wire::request::Request;
use wire::surface::Surface;

/// Bytes of the codec's read buffer, unless the body is smaller.
const READ_BUFFER: usize = 64 * 1024;
/// A body of more bytes than this is large.
const LARGE: usize = 64 * 1024;
/// The time after which the minimum rate applies.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// Limits of a request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Maximum size, in bytes.
    pub bytes: usize,
    /// Longest it may take to arrive.
    pub time: Duration,
    /// Bytes per second that it must come at on average, after a grace; 0 = however slow.
    pub rate: u64,
}

impl BodyLimits {
    /// The time from the body's beginning within which the next piece must arrive, with `received` bytes read.
    fn time_for(&self, received: usize) -> Duration {
        let at_rate = Duration::from_millis(
            (received as u64).saturating_mul(1000).checked_div(self.rate).unwrap_or(u64::MAX),
        );
        self.time.min(RATE_GRACE.saturating_add(at_rate))
    }
}

impl Gateway {
    /// Reads the body of a call, and returns it with the permit for its memory. A caller with nothing left is refused
    /// before more than a small body is read.
    pub(crate) async fn read_body(
        &self,
        surface: Surface,
        caller: &Caller,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        current: &RoutingSnapshot,
    ) -> Result<(Bytes, BodyPermit), Refusal> {
        let now = writer.head.admitted_at;
        self.refuse_exhausted(caller, surface, now).await?;
        let mut body_permit = self.body_memory.empty_permit(Some(caller.user), writer.head.address);
        let limits = self.body_limits(current.limits.body_bytes);
        let admit = self.refuse_without_quota(caller, surface, now);
        let body = read(session, limits, &mut body_permit, admit).await?;
        Ok((body, body_permit))
    }
}

/// Reads the body. A declared length over the limit is refused before a byte is read, and an
/// undeclared one as soon as it passes the limit. Its memory is taken from `body_permit` as it arrives.
/// `admit` is awaited once it is known that the body is large, before more of it is read.
///
/// # Errors
/// Compressed, too large, too slow, broken off, no room, or not admitted; the connection cannot be used again.
pub async fn read(
    session: &mut Session,
    limits: BodyLimits,
    body_permit: &mut BodyPermit,
    admit: impl Future<Output = Result<(), Refusal>>,
) -> Result<Bytes, Refusal> {
    refuse_encoded(session)?;
    let declared = declared_length(session)?;
    if declared.is_some_and(|length| length > limits.bytes as u64) {
        return Err(Refusal::BodyTooLarge { limit: limits.bytes });
    }
    let mut admit = Some(admit);
    if declared.is_some_and(|length| length > LARGE as u64)
        && let Some(admit) = admit.take()
    {
        admit.await?;
    }
    let through = match declared {
        Some(length) => READ_BUFFER.min(usize::try_from(length).unwrap_or(READ_BUFFER)),
        None => READ_BUFFER,
    };
    let mut body =
        Pieces { limits, begun_at: clock::instant(), first: Bytes::new(), all: BytesMut::new() };
    while !session.is_body_empty() {
        body_permit.reach(through + body.memory())?;
        let Some(piece) = body.next(session).await? else { break };
        body.add(piece)?;
        if body.len() > LARGE
            && let Some(admit) = admit.take()
        {
            admit.await?;
        }
    }
    body_permit.keep(body.memory());
    Ok(body.whole())
}

/// The part of a body that has arrived.
struct Pieces {
    limits: BodyLimits,
    begun_at: Instant,
    /// Most bodies arrive in one piece, which then needs no copy.
    first: Bytes,
    all: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// Bytes of memory that the pieces use.
    fn memory(&self) -> usize {
        self.first.len() + self.all.capacity()
    }

    async fn next(&self, session: &mut Session) -> Result<Option<Bytes>, Refusal> {
        let until = self.begun_at + self.limits.time_for(self.len());
        let piece = tokio::time::timeout_at(until.into(), session.read_body()).await;
        let slow = |_| Refusal::SlowBody { time: self.limits.time, rate: self.limits.rate };
        piece.map_err(slow)?.map_err(|_| Refusal::CutBody)
    }

    fn add(&mut self, piece: Bytes) -> Result<(), Refusal> {
        let limit = self.limits.bytes;
        if self.len() + piece.len() > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        if self.len() == 0 {
            self.first = piece;
        } else {
            if self.all.is_empty() {
                self.all.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.all.extend_from_slice(&piece);
        }
        Ok(())
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// A compressed body can be a thousand times what is sent, and is not worth its memory: prompts are small beside
/// answers.
fn refuse_encoded(session: &Session) -> Result<(), Refusal> {
    let encodings = session.headers().get_all(http::header::CONTENT_ENCODING);
    let is_plain = |value: &http::HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        value.is_empty() || value.eq_ignore_ascii_case(b"identity")
    };
    if encodings.iter().all(is_plain) { Ok(()) } else { Err(Refusal::EncodedBody) }
}

fn declared_length(session: &Session) -> Result<Option<u64>, Refusal> {
    let Some(value) = session.header(http::header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or(Refusal::BadHead("Content-Length is not valid"))
}

/// Bytes of a body from which reading its JSON would delay other calls on the same thread.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// Reads the JSON of a body.
pub(crate) fn parse(surface: Surface, body: &[u8]) -> Result<Request<'_>, Refusal> {
    on_body(body.len(), || Request::parse(surface, body)).map_err(Refusal::BadBody)
}

/// Runs `work` on a body of this size. A large one has so many values that its thread first gives its other calls
/// to another.
pub(crate) fn on_body<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BODY_BYTES { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_must_come_at_the_rate_after_a_grace() {
        let limits = |rate| BodyLimits { bytes: 1 << 20, time: Duration::from_secs(60), rate };
        let seconds = |rate, received| limits(rate).time_for(received).as_secs();
        assert_eq!(seconds(2048, 0), 10);
        assert_eq!(seconds(2048, 2048), 11);
        assert_eq!(seconds(2048, 65_536), 42);
        assert_eq!(seconds(2048, 1 << 20), 60, "the whole time is a bound as well");
        assert_eq!(seconds(0, 0), 60, "no rate");
    }
}

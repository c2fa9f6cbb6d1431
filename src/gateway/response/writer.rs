//! Writing to the caller: heads with the gateway's own headers, refusals, whole bodies.

use crate::gateway::call::early_keepalive::{self, EarlyKeepalive, Sent};
use crate::gateway::endpoint::{Endpoint, RequestHead};
use crate::gateway::headers;
use crate::gateway::listener::session::{Gone, ResponseHead, Session};
use crate::gateway::response::budget::Budget;
use crate::gateway::response::refusal::{Answer, Refusal};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{self, HeaderName};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use system::clock;
use wire::error::ErrorBody;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) static PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
/// Writes the response of one request.
pub struct ResponseWriter<'a> {
    pub head: &'a RequestHead,
    /// Origins that may read replies; `None` = any.
    pub cors: Option<&'a [String]>,
    /// Keep-alive bytes that may be sent before the upstream responds; unset if there are none.
    pub early: OnceLock<Arc<EarlyKeepalive>>,
}

impl ResponseWriter<'_> {
    /// The head of a reply, with what every reply of the data plane carries. `spent` is the
    /// gateway's own share of the time.
    #[must_use]
    pub fn head(&self, status: u16, spent: Duration) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        head.write(&REQUEST_ID, self.head.id);
        head.write(&PROCESS_TIME, Seconds(spent));
        headers::add_protection(&mut head);
        headers::add_cors(&mut head, self.head.origin.as_ref(), self.cors);
        head
    }

    /// The part of the response that was sent before the upstream responded.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.early.get().map_or(Sent::Nothing, |early| early.sent())
    }

    /// Sends a refusal, with what is known of the caller's budget. In a stream that has begun it is an event,
    /// and the reply ends as a cut one.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn refuse(
        &self,
        session: &mut Session,
        refusal: Refusal,
        budget: Option<Budget>,
    ) -> Result<u16, Gone> {
        let Answer { status, body, headers, close } = refusal.answer();
        if self.sent() != Sent::Nothing {
            return self.refuse_in_band(session, &body).await.map(|()| status);
        }
        if close {
            session.close_after_reply();
        }
        let mut head = self.head(status, self.elapsed());
        if let Some(budget) = budget {
            budget.write(&mut head);
        }
        for (name, value) in headers {
            head.set(name, value);
        }
        let body = self.head.endpoint.error(status, &body);
        self.json(session, head, body.into()).await?;
        Ok(status)
    }

    /// Ends a stream that has begun with an error.
    async fn refuse_in_band(&self, session: &mut Session, error: &ErrorBody) -> Result<(), Gone> {
        session.close_after_reply();
        let Endpoint::Call(surface) = self.head.endpoint else { return Ok(()) };
        if self.sent() == Sent::Torn {
            session.abort();
            return Err(Gone);
        }
        session.send(surface.stream_reader(true).error(error), false).await?;
        session.cut_off().await;
        Ok(())
    }

    /// Sends a whole JSON body.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn json(
        &self,
        session: &mut Session,
        head: ResponseHead,
        body: Bytes,
    ) -> Result<(), Gone> {
        self.whole(session, head, body).await
    }

    /// Sends a whole body, as JSON where `head` names no type. In a stream that has begun it is its one event.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn whole(
        &self,
        session: &mut Session,
        mut head: ResponseHead,
        body: Bytes,
    ) -> Result<(), Gone> {
        match self.sent() {
            Sent::Nothing => {}
            Sent::Head => return session.send(early_keepalive::event(&body), true).await,
            Sent::Torn => {
                session.abort();
                return Err(Gone);
            }
        }
        if !body.is_empty() && !head.headers.contains_key(header::CONTENT_TYPE) {
            head.set(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        session.reply(head, body).await
    }

    /// Time since the head arrived.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        clock::instant().duration_since(self.head.started)
    }
}

/// A time in seconds with microseconds, as `x-process-time` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

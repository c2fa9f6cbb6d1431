//! Keep-alive bytes before there is anything of a reply: if `limits.early_keepalive` is set, and for a stream whose
//! upstream is silent and may be given up for another one.
//!
//! Once the head of a stream is sent, its status cannot be taken back: what fails or is refused later is an
//! event of the stream, and the reply ends as one that was cut.

use crate::config::Limits;
use crate::gateway::headers;
use crate::gateway::listener::session::{Gone, ResponseHead, Session};
use crate::gateway::response::writer::ResponseWriter;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use tokio::time::Instant;

/// Exactly a comment and a blank line: anything else breaks some SDK's parser.
pub(crate) const KEEPALIVE: &[u8] = b": keep-alive\n\n";

/// The start of a stream whose upstream has not responded yet.
pub struct EarlyKeepalive {
    /// Time between comments; `None` = only one is sent.
    every: Option<Duration>,
    state: Mutex<State>,
}

struct State {
    /// The head, until it is sent.
    head: Option<ResponseHead>,
    /// When the next comment is due.
    due: Option<Instant>,
    /// Set while a write is under way. One that was dropped half way leaves it set.
    is_writing: bool,
}

/// The part of the response that was sent before the upstream responded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    /// The head and whole comments.
    Head,
    /// A part of a head or comment: nothing may follow it.
    Torn,
}

impl EarlyKeepalive {
    /// A reply that begins with `head` and a comment at `due`, unless it has another beginning by then; without
    /// `due`, once [`EarlyKeepalive::begin_at`] sets it.
    #[must_use]
    pub fn new(head: ResponseHead, due: Option<Instant>, every: Option<Duration>) -> Self {
        let state = State { head: Some(head), due, is_writing: false };
        Self { every, state: Mutex::new(state) }
    }

    /// Begins at `due`, unless an earlier time is set. Takes effect on later calls of
    /// [`EarlyKeepalive::keep_alive`].
    pub fn begin_at(&self, due: Instant) {
        let mut state = self.state.lock();
        if state.head.is_some() {
            state.due = Some(state.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// The part of the response that has been sent.
    #[must_use]
    pub fn sent(&self) -> Sent {
        match &*self.state.lock() {
            State { is_writing: true, .. } => Sent::Torn,
            State { head: Some(_), .. } => Sent::Nothing,
            State { head: None, .. } => Sent::Head,
        }
    }

    /// Sends what is due, and resolves when the caller has gone.
    pub async fn keep_alive(&self, session: &mut Session) {
        loop {
            let due = self.state.lock().due;
            let Some(due) = due else { return session.caller_gone().await };
            tokio::select! {
                biased;
                () = session.caller_gone() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            if self.comment(session).await.is_err() {
                return;
            }
        }
    }

    async fn comment(&self, session: &mut Session) -> Result<(), Gone> {
        let head = {
            let mut state = self.state.lock();
            state.is_writing = true;
            state.due = self.every.map(|every| (clock::instant() + every).into());
            state.head.take()
        };
        if let Some(head) = head {
            session.send_head(head).await?;
        }
        session.send(Bytes::from_static(KEEPALIVE), false).await?;
        self.state.lock().is_writing = false;
        Ok(())
    }
}

/// A reply in one piece as the one event of a stream that has begun.
#[must_use]
pub fn event(body: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(body.len() + 16);
    for line in body.split(|&byte| byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        event.extend_from_slice(b"\n");
    }
    event.extend_from_slice(b"\n");
    event.freeze()
}

/// Keep-alive bytes for a stream whose upstream has not begun: from `limits.early_keepalive` on, and later on where
/// the call `may_fail_over` to another upstream. They take effect once they are in the call's
/// [`Cancellation`](super::cancellation::Cancellation), and `writer` knows of them.
pub(crate) fn schedule(
    writer: &ResponseWriter<'_>,
    limits: &Limits,
    is_stream: bool,
    may_fail_over: bool,
) -> Option<Arc<EarlyKeepalive>> {
    if !is_stream || (limits.early_keepalive.is_none() && !may_fail_over) {
        return None;
    }
    let mut head = writer.head(200, writer.elapsed());
    headers::make_stream_head(&mut head);
    let due = limits.early_keepalive.map(|after| (clock::instant() + after).into());
    let early = EarlyKeepalive::new(head, due, limits.keepalive_comment);
    Some(Arc::clone(writer.early.get_or_init(|| Arc::new(early))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_one_piece_is_one_event_whatever_its_lines() {
        for (body, expected) in [
            ("{}", "data: {}\n\n"),
            ("{\n  \"a\": 1\r\n}", "data: {\ndata:   \"a\": 1\ndata: }\n\n"),
            ("", "data: \n\n"),
        ] {
            assert_eq!(event(body.as_bytes()), expected);
        }
    }
}

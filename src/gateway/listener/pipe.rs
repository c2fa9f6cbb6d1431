//! The way of a reply from its call to hyper, one piece at a time: a caller who reads slowly slows the call.
//!
//! Both ends are polled by the task of the connection (see [`crate::gateway::listener::http1`]), which looks at the
//! codec again whenever the call has put something in; the call is woken when something was taken out.

use crate::gateway::listener::session::{Gone, ResponseHead};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// State shared by the codec and the call of one connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// A request is under way: the next head has to wait.
    is_busy: AtomicBool,
    /// Something was put into a pipe since the last check.
    is_notified: AtomicBool,
    /// Times that all there was to write had been written.
    flushes: AtomicU64,
    /// A reply that was cut waits for that.
    is_cutting: AtomicBool,
    /// The connection has to end now.
    is_aborted: AtomicBool,
    /// It ends once the reply under way is sent.
    is_last: AtomicBool,
    /// The caller of the request under way has gone.
    is_lost: AtomicBool,
}

impl Link {
    /// Notes that a request begins.
    pub fn begin(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
    }

    /// True while a request is in progress.
    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    /// Notes that all there was to write has been written.
    pub fn note_flush(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        if self.is_cutting.load(Ordering::Relaxed) {
            self.notify();
        }
    }

    /// True if the connection has to end at once.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// The caller of the request under way has gone.
    pub fn lose_caller(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// True if the caller has disconnected.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// True if no further request may follow.
    pub fn is_last(&self) -> bool {
        self.is_last.load(Ordering::Relaxed)
    }

    /// True if something has happened since the last call.
    pub fn take_notification(&self) -> bool {
        self.is_notified.swap(false, Ordering::Relaxed)
    }

    fn notify(&self) {
        self.is_notified.store(true, Ordering::Relaxed);
    }
}

/// One response on its way from the call to hyper.
#[derive(Debug)]
pub(crate) struct Pipe {
    link: Arc<Link>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    head: Option<ResponseHead>,
    part: Option<Bytes>,
    end: Option<End>,
    /// The part of the response that the codec has taken.
    taken: Taken,
    /// Flushes there had been when the latest part was taken.
    flushes: u64,
    call: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the part that is there.
    Whole,
    /// After what was sent before, and in a way that looks cut.
    Cut,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Taken {
    #[default]
    InPart,
    /// To its end.
    Whole,
    /// The connection has ended, and takes no more.
    Gone,
}

impl Pipe {
    /// A reply on the connection of `link`.
    pub fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { link, state: Mutex::default() })
    }

    /// Begins the reply.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send_head(&self, head: ResponseHead) -> Result<(), Gone> {
        let mut state = self.state.lock();
        if state.taken == Taken::Gone {
            return Err(Gone);
        }
        state.head = Some(head);
        drop(state);
        self.link.notify();
        Ok(())
    }

    /// Puts the whole reply in.
    pub fn send_whole(&self, head: ResponseHead, body: Bytes) {
        let mut state = self.state.lock();
        state.head = Some(head);
        state.part = Some(body).filter(|body| !body.is_empty());
        state.end = Some(End::Whole);
        drop(state);
        self.link.notify();
    }

    /// Puts the next piece in, once the one before it is taken.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        part: &mut Option<Bytes>,
        is_last: bool,
    ) -> Poll<Result<(), Gone>> {
        let mut state = self.state.lock();
        if state.taken == Taken::Gone {
            return Poll::Ready(Err(Gone));
        }
        if state.part.is_some() {
            state.call = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.part = part.take().filter(|part| !part.is_empty());
        if is_last {
            state.end = Some(End::Whole);
        }
        drop(state);
        self.link.notify();
        Poll::Ready(Ok(()))
    }

    /// Ready once the codec has all of the reply.
    pub fn poll_whole(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = self.state.lock();
        match state.taken {
            Taken::Whole => Poll::Ready(Ok(())),
            Taken::Gone => Poll::Ready(Err(Gone)),
            Taken::InPart => {
                state.call = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ready once the connection has ended.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.taken == Taken::Gone {
            return Poll::Ready(());
        }
        state.call = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the reply as one that was cut, after what was sent before.
    pub fn cut(&self) {
        self.state.lock().end.get_or_insert(End::Cut);
        self.link.is_cutting.store(true, Ordering::Relaxed);
        self.link.notify();
    }

    /// Ends the connection now, unless the whole reply is there.
    pub fn abort(&self) {
        if self.state.lock().end != Some(End::Whole) {
            self.link.is_aborted.store(true, Ordering::Relaxed);
            self.link.notify();
        }
    }

    /// The call puts nothing more in.
    pub fn close(&self) {
        if self.state.lock().end.is_none() {
            self.abort();
        }
    }

    /// Ends the connection after this reply.
    pub fn be_last(&self) {
        self.link.is_last.store(true, Ordering::Relaxed);
        self.link.notify();
    }

    /// The codec takes nothing more.
    fn leave(&self) {
        let mut state = self.state.lock();
        if state.taken == Taken::InPart {
            state.taken = Taken::Gone;
        }
        let call = state.call.take();
        drop(state);
        self.link.is_busy.store(false, Ordering::Relaxed);
        self.link.notify();
        if let Some(call) = call {
            call.wake();
        }
    }
}

/// The future that hyper polls until the response has a head.
pub(crate) struct Answer(Option<Arc<Pipe>>);

impl Answer {
    /// The reply that goes through `pipe`.
    pub fn through(pipe: Arc<Pipe>) -> Self {
        Self(Some(pipe))
    }
}

impl Future for Answer {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(pipe) = self.0.take() else { return Poll::Pending };
        let flushes = pipe.link.flushes.load(Ordering::Relaxed);
        let head = {
            let mut state = pipe.state.lock();
            state.flushes = flushes;
            state.head.take()
        };
        let Some(head) = head else {
            self.0 = Some(pipe);
            return Poll::Pending;
        };
        let mut response = Response::new(ResponseBody(pipe));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Poll::Ready(Ok(response))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(pipe) = &self.0 {
            pipe.leave();
        }
    }
}

/// The body of a reply, as hyper takes it.
pub(crate) struct ResponseBody(Arc<Pipe>);

/// The response was cut.
#[derive(Debug, thiserror::Error)]
#[error("the response was truncated")]
pub(crate) struct CutOff;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let flushes = self.0.link.flushes.load(Ordering::Relaxed);
        let mut state = self.0.state.lock();
        if let Some(part) = state.part.take() {
            if state.end == Some(End::Whole) {
                state.taken = Taken::Whole;
            }
            state.flushes = flushes;
            if let Some(call) = state.call.take() {
                call.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match state.end {
            None => Poll::Pending,
            Some(End::Whole) => {
                state.taken = Taken::Whole;
                Poll::Ready(None)
            }
            // An error ends the connection with whatever it has not written.
            Some(End::Cut) if flushes > state.flushes => Poll::Ready(Some(Err(CutOff))),
            Some(End::Cut) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        let mut state = self.0.state.lock();
        let is_end = state.part.is_none() && state.end == Some(End::Whole);
        if is_end {
            state.taken = Taken::Whole;
        }
        is_end
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.state.lock();
        match (&state.part, state.end) {
            (Some(part), Some(End::Whole)) => SizeHint::with_exact(part.len() as u64),
            (None, Some(End::Whole)) => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use std::future::poll_fn;

    async fn send(pipe: &Pipe, text: &'static str, is_last: bool) -> Result<(), Gone> {
        let mut part = Some(Bytes::from_static(text.as_bytes()));
        poll_fn(|cx| pipe.poll_send(cx, &mut part, is_last)).await
    }

    /// A pipe, and the body that hyper has from it.
    fn begun() -> (Arc<Pipe>, ResponseBody) {
        let pipe = Pipe::new(Arc::default());
        let mut answer = Answer::through(Arc::clone(&pipe));
        assert!((&mut answer).now_or_never().is_none());
        pipe.send_head(ResponseHead::new(200)).unwrap();
        let Ok(response) = answer.now_or_never().unwrap();
        (pipe, response.into_body())
    }

    fn frame(body: &mut ResponseBody) -> Option<Option<Result<Bytes, CutOff>>> {
        let frame = body.frame().now_or_never()?;
        Some(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    #[test]
    fn a_piece_waits_for_the_one_before_it() {
        let (pipe, mut body) = begun();
        assert!(frame(&mut body).is_none());
        assert!(send(&pipe, "a", false).now_or_never().unwrap().is_ok());
        assert!(send(&pipe, "b", true).now_or_never().is_none(), "the caller reads slowly");
        assert_eq!(frame(&mut body).unwrap().unwrap().unwrap(), "a");
        assert!(send(&pipe, "b", true).now_or_never().unwrap().is_ok());
        assert!(poll_fn(|cx| pipe.poll_whole(cx)).now_or_never().is_none());
        assert_eq!(frame(&mut body).unwrap().unwrap().unwrap(), "b");
        assert!(body.is_end_stream());
        drop(body);
        assert!(poll_fn(|cx| pipe.poll_whole(cx)).now_or_never().unwrap().is_ok());
        pipe.abort();
        assert!(!pipe.link.is_aborted(), "it is all there");
    }

    #[test]
    fn a_connection_that_ends_is_noticed() {
        let (pipe, body) = begun();
        let mut gone = Box::pin(poll_fn(|cx| pipe.poll_gone(cx)));
        assert!((&mut gone).now_or_never().is_none());
        drop(body);
        assert!(gone.now_or_never().is_some());
        assert_eq!(send(&pipe, "a", false).now_or_never(), Some(Err(Gone)));
        let unanswered = Pipe::new(Arc::default());
        drop(Answer::through(Arc::clone(&unanswered)));
        assert_eq!(unanswered.send_head(ResponseHead::new(200)), Err(Gone));
    }

    #[test]
    fn a_cut_waits_for_what_was_sent_before_it() {
        let (pipe, mut body) = begun();
        assert!(send(&pipe, "a", false).now_or_never().unwrap().is_ok());
        pipe.link.note_flush();
        pipe.cut();
        assert_eq!(frame(&mut body).unwrap().unwrap().unwrap(), "a");
        assert!(frame(&mut body).is_none(), "it is not written");
        pipe.link.note_flush();
        assert!(frame(&mut body).unwrap().unwrap().is_err());
        drop(body);
        pipe.close();
        assert!(!pipe.link.is_aborted());
    }

    #[test]
    fn a_call_that_ends_without_a_reply_ends_the_connection() {
        let (pipe, _body) = begun();
        pipe.close();
        assert!(pipe.link.is_aborted() && pipe.link.take_notification());
    }
}

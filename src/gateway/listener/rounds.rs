//! Wakes the two halves of a connection's task: the codec, and the call on it.
//!
//! The halves wake each other while the task runs. Through the runtime, each such wake would schedule the task
//! again, and wake another thread to run it. [`Rounds`] handles it without the runtime: the half that was woken is
//! polled once more before the task rests, and the other one is not polled.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::task::coop::has_budget_remaining;

/// Rounds after which other tasks have a turn.
const MAX_ROUNDS: u32 = 64;

/// Bits of the state: the codec is to be polled, the call is, the task runs.
const CODEC: u8 = 1;
const CALL: u8 = 2;
const RUNNING: u8 = 4;

/// Wakers and state of the two halves of a connection's task.
pub(crate) struct Rounds {
    state: Arc<State>,
    codec: Waker,
    call: Waker,
}

/// The halves that are to be polled in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub codec: bool,
    pub call: bool,
}

#[derive(Default)]
struct State {
    bits: AtomicU8,
    task: AtomicWaker,
}

struct Half {
    state: Arc<State>,
    bit: u8,
}

impl Default for Rounds {
    /// Both halves are to be polled at first.
    fn default() -> Self {
        let state = Arc::new(State { bits: AtomicU8::new(CODEC | CALL), ..State::default() });
        let waker = |bit| Waker::from(Arc::new(Half { state: Arc::clone(&state), bit }));
        Self { codec: waker(CODEC), call: waker(CALL), state }
    }
}

impl Rounds {
    /// The codec's waker.
    pub fn codec(&self) -> &Waker {
        &self.codec
    }

    /// The call's waker.
    pub fn call(&self) -> &Waker {
        &self.call
    }

    /// Calls `round` until it is ready, or neither half is due.
    pub fn poll<T>(&self, cx: &mut Context<'_>, mut round: impl FnMut(Due) -> Poll<T>) -> Poll<T> {
        let State { bits, task } = &*self.state;
        task.register(cx.waker());
        bits.fetch_or(RUNNING, Ordering::AcqRel);
        for _ in 0..MAX_ROUNDS {
            let due = bits.fetch_and(!(CODEC | CALL), Ordering::AcqRel);
            if due == RUNNING {
                let (rested, missed) = (Ordering::AcqRel, Ordering::Acquire);
                if bits.compare_exchange(RUNNING, 0, rested, missed).is_ok() {
                    return Poll::Pending;
                }
                continue;
            }
            let due = Due { codec: due & CODEC != 0, call: due & CALL != 0 };
            if let Poll::Ready(done) = round(due) {
                return Poll::Ready(done);
            }
            // Without budget sockets and timers say that they are not ready, and wake at once.
            if !has_budget_remaining() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Half {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // While the task runs, or was woken, it finds the bit by itself.
        if self.state.bits.fetch_or(self.bit, Ordering::AcqRel) == 0 {
            self.state.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_half_that_is_woken_in_a_round_has_another_and_later_the_task_is_woken() {
        let (rounds, count) = (Rounds::default(), Arc::<Count>::default());
        let task = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&task);
        let woken = || count.0.load(Ordering::Relaxed);
        let mut seen = Vec::new();
        let polled = rounds.poll(&mut cx, |due| {
            seen.push((due.codec, due.call));
            match seen.len() {
                1 => rounds.call().wake_by_ref(),
                2 => rounds.codec().wake_by_ref(),
                _ => {}
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((seen, woken()), (vec![(true, true), (false, true), (true, false)], 0));
        rounds.call().wake_by_ref();
        rounds.codec().wake_by_ref();
        assert_eq!(woken(), 1, "it is awake already");
        let polled = rounds.poll(&mut cx, Poll::Ready);
        assert_eq!(polled, Poll::Ready(Due { codec: true, call: true }));
    }

    #[test]
    fn others_have_a_turn_when_it_goes_on_and_on() {
        let (rounds, count) = (Rounds::default(), Arc::<Count>::default());
        let task = Waker::from(Arc::clone(&count));
        let mut begun = 0;
        let polled = rounds.poll(&mut Context::from_waker(&task), |_| {
            begun += 1;
            rounds.call().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((begun, count.0.load(Ordering::Relaxed)), (MAX_ROUNDS, 1));
        let polled = rounds.poll(&mut Context::from_waker(&task), Poll::Ready);
        assert_eq!(polled, Poll::Ready(Due { codec: false, call: true }), "it is still due");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_missed_that_another_thread_wakes() {
        for _ in 0..2_000 {
            let (rounds, is_done) = (Rounds::default(), Arc::new(AtomicU8::new(0)));
            let (waker, done) = (rounds.call().clone(), Arc::clone(&is_done));
            let other = std::thread::spawn(move || {
                done.store(1, Ordering::Release);
                waker.wake();
            });
            let waits = poll_fn(|cx| {
                rounds.poll(cx, |due| match (due.call, is_done.load(Ordering::Acquire)) {
                    (true, 1) => Poll::Ready(()),
                    _ => Poll::Pending,
                })
            });
            tokio::time::timeout(std::time::Duration::from_secs(20), waits).await.unwrap();
            other.join().unwrap();
        }
    }
}

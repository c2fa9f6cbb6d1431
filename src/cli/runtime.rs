//! The async runtime of all commands: one worker per core, and a standby worker on a single core.
//!
//! A write to the journal may block a worker while the disk does not respond; another one must refuse calls meanwhile.
//! With a single core that takes a second worker. But two workers that share a core cost more per call than one: they
//! wake each other, and one that is descheduled keeps the connections in its queue waiting. So the second is kept
//! asleep, in a task that blocks, until the first one misses the probes of a watchdog.

use parking_lot::{Condvar, Mutex};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

/// Time for a probe, a task that does nothing, to run. A single miss may be a thread that got no time.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
const MISSES: u32 = 2;
/// Time for which both workers stay awake after the first one hung: it may hang again soon, or still.
const AWAKE_TIME: Duration = Duration::from_secs(10);

/// A runtime; see the module.
pub struct Runtime {
    /// On a single core.
    watchdog: Option<Watchdog>,
    runtime: tokio::runtime::Runtime,
}

impl Runtime {
    /// A runtime for the cores that this process may use.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new() -> std::io::Result<Self> {
        Self::for_cores(thread::available_parallelism().map_or(1, NonZero::get), AWAKE_TIME)
    }

    fn for_cores(cores: usize, awake: Duration) -> std::io::Result<Self> {
        let workers = cores.max(2);
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        let start = || Watchdog::start(runtime.handle().clone(), awake);
        let watchdog = (cores == 1).then(start).transpose()?;
        Ok(Self { watchdog, runtime })
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Runtime {
    /// The runtime waits for its tasks to yield, and the one that blocks ends with the watchdog.
    fn drop(&mut self) {
        self.watchdog.take();
    }
}

/// The thread that probes the worker, and wakes the standby worker.
struct Watchdog {
    standby: Arc<Standby>,
    thread: Option<JoinHandle<()>>,
}

/// The standby worker.
#[derive(Default)]
struct Standby {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    /// Number of sleeps that have ended.
    ended: u64,
    /// True while a worker sleeps.
    is_asleep: bool,
}

impl Watchdog {
    fn start(runtime: Handle, awake: Duration) -> std::io::Result<Self> {
        let standby = Arc::new(Standby::default());
        let watched = Arc::clone(&standby);
        let watch = move || watched.watch(&runtime, awake);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(watch)?;
        Ok(Self { standby, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.standby.update(|state| state.is_stopped = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Standby {
    /// Runs the watchdog until it is stopped.
    fn watch(self: &Arc<Self>, runtime: &Handle, awake: Duration) {
        loop {
            self.sleep_on(runtime);
            let mut misses = 0;
            while misses < MISSES {
                let probe = Arc::new(AtomicBool::new(false));
                let ran = Arc::clone(&probe);
                runtime.spawn(async move { ran.store(true, Ordering::Relaxed) });
                if self.pause(PROBE_INTERVAL) {
                    return;
                }
                misses = if probe.load(Ordering::Relaxed) { 0 } else { misses + 1 };
            }
            self.update(|state| state.ended += 1);
            if self.pause(awake) {
                return;
            }
        }
    }

    /// Keeps the worker that runs the task asleep.
    fn sleep_on(self: &Arc<Self>, runtime: &Handle) {
        let standby = Arc::clone(self);
        let ended = self.state.lock().ended;
        runtime.spawn(async move {
            // A worker that takes a task from its own queue has none in the slot for the next task, from which
            // the other worker could not take it. A new task may come from elsewhere; one that has yielded does not.
            tokio::task::yield_now().await;
            standby.sleep(ended);
        });
    }

    /// Blocks until more sleeps than `ended` have ended.
    fn sleep(&self, ended: u64) {
        let mut state = self.state.lock();
        while state.ended == ended && !state.is_stopped {
            state.is_asleep = true;
            self.changed.wait(&mut state);
        }
        state.is_asleep = false;
    }

    /// Returns after this time, or true at once when stopped.
    fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        while !state.is_stopped {
            if self.changed.wait_for(&mut state, time).timed_out() {
                return state.is_stopped;
            }
        }
        true
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const TASK_TIMEOUT: Duration = Duration::from_secs(10);

    fn single_core() -> Runtime {
        Runtime::for_cores(1, Duration::ZERO).unwrap()
    }

    fn is_asleep(runtime: &Runtime) -> bool {
        runtime.watchdog.as_ref().unwrap().standby.state.lock().is_asleep
    }

    /// Runs a task to its end.
    fn run_task(runtime: &Runtime) {
        let (done, ran) = channel();
        runtime.runtime.spawn(async move { done.send(()) });
        ran.recv_timeout(TASK_TIMEOUT).unwrap();
    }

    /// Makes a worker hang until the sender is dropped.
    fn hang(runtime: &Runtime) -> Sender<()> {
        let (hung, hangs) = channel();
        let (release, released) = channel::<()>();
        runtime.runtime.spawn(async move {
            hung.send(()).unwrap();
            released.recv()
        });
        hangs.recv_timeout(TASK_TIMEOUT).unwrap();
        release
    }

    /// Pairs of tasks that wake each other 2,000 times.
    fn start_echoes(runtime: &Runtime, count: usize) -> Vec<Receiver<()>> {
        let echo = |_| {
            let (mut near, mut far) = tokio::io::duplex(64);
            runtime.runtime.spawn(async move {
                let (mut read, mut write) = tokio::io::split(&mut far);
                tokio::io::copy(&mut read, &mut write).await
            });
            let (done, ended) = channel();
            runtime.runtime.spawn(async move {
                for _ in 0..2_000 {
                    let mut byte = [1];
                    near.write_all(&byte).await.unwrap();
                    near.read_exact(&mut byte).await.unwrap();
                }
                done.send(())
            });
            ended
        };
        (0..count).map(echo).collect()
    }

    #[test]
    fn a_worker_sleeps_while_the_other_works() {
        let runtime = single_core();
        while !is_asleep(&runtime) {
            run_task(&runtime);
        }
        for _ in 0..100 {
            run_task(&runtime);
        }
    }

    #[test]
    fn the_standby_worker_takes_over_from_one_that_hangs_and_no_task_is_lost() {
        let runtime = single_core();
        let echoes = start_echoes(&runtime, 50);
        for _ in 0..3 {
            while !is_asleep(&runtime) {
                run_task(&runtime);
            }
            let hanging = hang(&runtime);
            run_task(&runtime);
            drop(hanging);
        }
        for echo in echoes {
            echo.recv_timeout(TASK_TIMEOUT).unwrap();
        }
    }

    #[test]
    fn a_runtime_ends_while_a_worker_sleeps() {
        let runtime = single_core();
        while !is_asleep(&runtime) {
            run_task(&runtime);
        }
        drop(runtime);
    }

    #[test]
    fn many_cores_need_no_standby_worker() {
        let runtime = Runtime::for_cores(2, Duration::ZERO).unwrap();
        assert!(runtime.watchdog.is_none());
        run_task(&runtime);
    }
}

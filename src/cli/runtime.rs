//! The async runtime of all commands: one worker a core, and on a single core one that stands by.
//!
//! A worker may hang in a write to the journal, whose disk does not answer; the others have to refuse calls meanwhile.
//! With a single core that takes a second worker. But two workers that share a core cost more for each call than one
//! (they wake each other, and one that is descheduled keeps the connections in its queue waiting). So the second
//! is kept asleep, in a task that blocks, until the first does not run what is given to it.

use parking_lot::{Condvar, Mutex};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

/// How often the watchdog looks whether the worker runs what it is given. A worker that is busy needs microseconds for
/// what the watchdog asks, so one that has not done it within this time hangs.
const INTERVAL: Duration = Duration::from_millis(100);

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
        Self::for_cores(thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn for_cores(cores: usize) -> std::io::Result<Self> {
        let workers = cores.max(2);
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        let standby =
            (cores == 1).then(|| Watchdog::start(runtime.handle().clone())).transpose()?;
        Ok(Self { watchdog: standby, runtime })
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

/// The thread that watches the worker, and wakes the one that stands by.
struct Watchdog {
    standby: Arc<Standby>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Standby {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    /// True while a worker is to be kept asleep.
    sleeps: bool,
    /// The worker that slept last.
    sleeper: Option<ThreadId>,
    /// The worker that ran the watchdog's last task; `None` while it has not run.
    ran_on: Option<ThreadId>,
}

impl Watchdog {
    fn start(runtime: Handle) -> std::io::Result<Self> {
        let standby = Arc::new(Standby::default());
        let watched = Arc::clone(&standby);
        let watch = move || watched.watch(&runtime);
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
    fn watch(self: &Arc<Self>, runtime: &Handle) {
        self.sleep_on(runtime);
        loop {
            self.state.lock().ran_on = None;
            let asked = Arc::clone(self);
            runtime.spawn(async move {
                asked.state.lock().ran_on = Some(thread::current().id());
            });
            if self.pause() {
                return;
            }
            let (sleeps, ran_on, sleeper) = {
                let state = self.state.lock();
                (state.sleeps, state.ran_on, state.sleeper)
            };
            match ran_on {
                None if sleeps => self.update(|state| state.sleeps = false),
                // The worker that hung is back; until then the other runs everything.
                Some(worker) if !sleeps && Some(worker) != sleeper => self.sleep_on(runtime),
                _ => {}
            }
        }
    }

    /// Keeps the worker that runs the task asleep, until the other hangs.
    fn sleep_on(self: &Arc<Self>, runtime: &Handle) {
        self.state.lock().sleeps = true;
        let standby = Arc::clone(self);
        runtime.spawn(async move {
            let mut state = standby.state.lock();
            state.sleeper = Some(thread::current().id());
            while state.sleeps && !state.is_stopped {
                standby.changed.wait(&mut state);
            }
        });
    }

    /// Returns after [`INTERVAL`], or true at once when stopped.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_stopped {
            if self.changed.wait_for(&mut state, INTERVAL).timed_out() {
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
    use std::sync::mpsc::channel;

    const SOON: Duration = Duration::from_secs(10);

    /// Runs a task, and returns the worker that ran it.
    fn worker(runtime: &Runtime) -> ThreadId {
        let (done, ran) = channel();
        runtime.runtime.spawn(async move { done.send(thread::current().id()) });
        ran.recv_timeout(SOON).unwrap()
    }

    #[test]
    fn one_worker_does_the_work_of_a_single_core() {
        let runtime = Runtime::for_cores(1).unwrap();
        let standby = &runtime.watchdog.as_ref().unwrap().standby;
        while standby.state.lock().sleeper.is_none() {
            thread::yield_now();
        }
        let first = worker(&runtime);
        for _ in 0..100 {
            assert_eq!(worker(&runtime), first);
        }
    }

    #[test]
    fn another_takes_over_while_it_hangs() {
        let runtime = Runtime::for_cores(1).unwrap();
        for _ in 0..3 {
            let (hung, hangs) = channel();
            let (release, released) = channel::<()>();
            runtime.runtime.spawn(async move {
                hung.send(thread::current().id()).unwrap();
                released.recv()
            });
            let hanging = hangs.recv_timeout(SOON).unwrap();
            assert_ne!(worker(&runtime), hanging);
            drop(release);
            // It works again, and the other sleeps.
            while !runtime.watchdog.as_ref().unwrap().standby.state.lock().sleeps {
                worker(&runtime);
            }
        }
    }

    #[test]
    fn many_cores_need_none_that_stands_by() {
        let runtime = Runtime::for_cores(2).unwrap();
        assert!(runtime.watchdog.is_none());
        worker(&runtime);
    }
}

//! Password hashing on a small pool of blocking threads with a bounded queue.

use crate::control::api_error::ApiError;
use domain::password::{self, Verified};
use quick_cache::sync::Cache;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::{Mutex, Semaphore};

/// Maximum number of queued hashes; further ones fail with [`ApiError::Busy`].
const MAX_QUEUED: usize = 64;

/// Maximum number of accounts whose queues are tracked.
const MAX_ACCOUNTS: usize = 1024;

/// Maximum number of queued checks per account; further ones fail with [`ApiError::Busy`].
const MAX_QUEUED_PER_ACCOUNT: usize = 8;

/// Scheduling of a password check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// One at a time per account, so that guesses wait for each other.
    PerAccount,
    /// Concurrently with other checks of the account.
    Immediate,
}

/// The queue of one account.
struct Queue {
    slots: Semaphore,
    running: Mutex<()>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { slots: Semaphore::new(MAX_QUEUED_PER_ACCOUNT), running: Mutex::default() }
    }
}

/// The pool of hashing threads.
pub struct PasswordHasher {
    /// One permit per hash that may run at the same time.
    threads: Arc<Semaphore>,
    queue: Semaphore,
    /// Guesses of one account's password wait for each other, so that others need not wait for them.
    accounts: Cache<String, Arc<Queue>>,
}

impl PasswordHasher {
    /// A pool that uses half the cores.
    #[must_use]
    pub fn on_half_the_cores() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            threads: Arc::new(Semaphore::new((cores / 2).max(1))),
            queue: Semaphore::new(MAX_QUEUED),
            accounts: Cache::new(MAX_ACCOUNTS),
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if the queue is full.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let password = password.to_owned();
        let hashed = self.run(move || password::hash(&password)).await?;
        hashed.map_err(|_| ApiError::Internal)
    }

    /// Checks the password of the account with this e-mail address. Without a stored hash it takes as long and
    /// fails, so that the time does not reveal whether the account exists.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if the queue is full.
    pub async fn verify(
        &self,
        account: &str,
        password: &str,
        stored: Option<&str>,
        scheduling: Scheduling,
    ) -> Result<Verified, ApiError> {
        let Ok(queue) =
            self.accounts.get_or_insert_with(account, || Ok::<_, Infallible>(Arc::default()));
        let _waiting = match scheduling {
            Scheduling::PerAccount => {
                let slot = queue.slots.try_acquire().map_err(|_| ApiError::Busy)?;
                Some((queue.running.lock().await, slot))
            }
            Scheduling::Immediate => None,
        };
        let (password, is_known) = (password.to_owned(), stored.is_some());
        let stored = stored.unwrap_or(password::NOBODYS).to_owned();
        let verified = self.run(move || password::verify(&password, &stored)).await?;
        Ok(if is_known { verified } else { Verified::No })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let _queued = self.queue.try_acquire().map_err(|_| ApiError::Busy)?;
        let thread =
            Arc::clone(&self.threads).acquire_owned().await.map_err(|_| ApiError::Internal)?;
        // The permit is moved: the work goes on even if the caller stops waiting.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(thread);
            result
        });
        done.await.map_err(|_| ApiError::Internal)
    }
}

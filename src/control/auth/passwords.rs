//! Hashing passwords without stopping anything else: on threads of their own, few at a time, with a
//! bounded queue before them.

use crate::account::password::{self, Verified};
use crate::control::api_error::ApiError;
use quick_cache::sync::Cache;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::{Mutex, Semaphore};

/// Hashes that may wait for their turn; more are refused rather than kept waiting for seconds.
const WAITING: usize = 64;

/// Accounts of which it is known whether a check runs.
const ACCOUNTS: usize = 1024;

/// Checks of one account's password that may wait for each other; more are refused.
const WAITING_OF_ACCOUNT: usize = 8;

/// When a check may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// After the other checks of its account: who guesses waits for those who guess.
    OfItsAccount,
    /// Beside them.
    AtOnce,
}

/// The checks of one account's password.
struct Queue {
    places: Semaphore,
    turn: Mutex<()>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { places: Semaphore::new(WAITING_OF_ACCOUNT), turn: Mutex::default() }
    }
}

/// The pool.
pub struct PasswordHasher {
    /// Cores that may hash.
    turns: Arc<Semaphore>,
    places: Semaphore,
    /// Many guesses of one account's password wait for each other, not others for them.
    accounts: Cache<String, Arc<Queue>>,
}

impl PasswordHasher {
    /// A pool of half the cores.
    #[must_use]
    pub fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            places: Semaphore::new(WAITING),
            accounts: Cache::new(ACCOUNTS),
        }
    }

    /// The hash to store.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when too many wait.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let password = password.to_owned();
        let hashed = self.run(move || password::hash(&password)).await?;
        hashed.map_err(|_| ApiError::Internal)
    }

    /// Checks the password of an account (by its e-mail, whether there is one or not). Without a stored
    /// hash it takes as long, and is wrong.
    ///
    /// # Errors
    /// [`ApiError::Busy`] when too many wait.
    pub async fn verify(
        &self,
        account: &str,
        password: &str,
        stored: Option<&str>,
        turn: Turn,
    ) -> Result<Verified, ApiError> {
        let Ok(queue) =
            self.accounts.get_or_insert_with(account, || Ok::<_, Infallible>(Arc::default()));
        let _waiting = match turn {
            Turn::OfItsAccount => {
                let place = queue.places.try_acquire().map_err(|_| ApiError::Busy)?;
                Some((queue.turn.lock().await, place))
            }
            Turn::AtOnce => None,
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
        let _place = self.places.try_acquire().map_err(|_| ApiError::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| ApiError::Internal)?;
        // The turn goes along: a caller that stops waiting does not end the work it began.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| ApiError::Internal)
    }
}

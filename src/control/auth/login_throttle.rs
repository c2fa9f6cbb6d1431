//! Throttles password guessing without letting an attacker lock a user out.
//!
//! Attempts are counted per account and host, so a wrong guess delays only its own host. Distributed guessing is
//! limited by rate, not by locking the account: while an account is under attack, a host that has never logged in to
//! it has one guess and then long delays. A first correct password is always accepted.

use super::throttle::{Backoff, Throttle};
use crate::http::client_ip;
use quick_cache::sync::Cache;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Maximum number of remembered pairs of account and host.
const KNOWN_HOSTS: usize = 100_000;
/// Free attempts of a network (IPv4 /24, IPv6 /48) at an account, as a multiple of those of one host.
const NETWORK_FACTOR: u32 = 20;
/// An account is under attack beyond this multiple of the free attempts of one host.
const ATTACK_FACTOR: u32 = 10;
/// An attack is over after this time without attempts.
const ATTACK_MEMORY: Duration = Duration::from_hours(24);
/// The backoff of an unknown host at an account under attack: 15 minutes after the first attempt, then twice as
/// long each time, which is about seven attempts per day.
const UNDER_ATTACK: Backoff = Backoff {
    free: 1,
    shortest: Duration::from_mins(15),
    longest: Duration::from_hours(24),
    memory: Duration::from_hours(48),
};

/// The e-mail address of an account, and a host or network.
type AccountAndHost = (String, IpAddr);

/// Login attempts by account, host and network.
pub struct LoginThrottle {
    by_host_at: Throttle<AccountAndHost>,
    by_network_at: Throttle<AccountAndHost>,
    /// Attempts at any account.
    by_host: Throttle<IpAddr>,
    /// Attempts from any host.
    by_account: Throttle<String>,
    known: Cache<AccountAndHost, ()>,
}

/// A login attempt that was counted and whose outcome is open.
pub struct LoginAttempt {
    at_host: AccountAndHost,
    at_network: AccountAndHost,
    /// True if the host has logged in to the account before.
    pub is_known_host: bool,
}

impl LoginThrottle {
    /// Each host has `account_tries` free attempts per account, and `address_tries` in all.
    #[must_use]
    pub fn new(account_tries: u32, address_tries: u32) -> Self {
        let of_account = |factor| account_tries.saturating_mul(factor);
        Self {
            by_host_at: Throttle::new(account_tries),
            by_network_at: Throttle::new(of_account(NETWORK_FACTOR)),
            by_host: Throttle::new(address_tries),
            by_account: Throttle::with_backoff(Backoff {
                memory: ATTACK_MEMORY,
                ..Backoff::standard(of_account(ATTACK_FACTOR))
            }),
            known: Cache::new(KNOWN_HOSTS),
        }
    }

    /// Counts a login to `account` from `address`, before the password is checked.
    ///
    /// # Errors
    /// How long this host has to wait; nothing is counted then.
    pub fn begin(
        &self,
        account: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<LoginAttempt, Duration> {
        let at_host = (account.to_owned(), client_ip::host(address));
        let at_network = (account.to_owned(), client_ip::network(address));
        let is_known_host = self.known.get(&at_host).is_some();
        if is_known_host || !self.by_account.is_over(&at_host.0, now) {
            self.by_host_at.attempt(&at_host, now)?;
        } else {
            self.by_host_at.attempt_with(UNDER_ATTACK, &at_host, now)?;
        }
        // A known host is delayed only by its own attempts, not by those of its network.
        if !is_known_host {
            let other_limits = self.by_network_at.attempt(&at_network, now);
            let other_limits = other_limits.and_then(|()| {
                self.by_host
                    .attempt(&at_host.1, now)
                    .inspect_err(|_| self.by_network_at.undo(&at_network))
            });
            other_limits.inspect_err(|_| self.by_host_at.undo(&at_host))?;
        }
        self.by_account.count(&at_host.0, now);
        Ok(LoginAttempt { at_host, at_network, is_known_host })
    }

    /// Reports a correct password: forgets the attempt.
    pub fn succeeded(&self, attempt: LoginAttempt) {
        self.by_host_at.reset(&attempt.at_host);
        self.undo_shared_counts(&attempt);
        self.known.insert(attempt.at_host, ());
    }

    /// The password could not be checked.
    pub fn cancelled(&self, attempt: &LoginAttempt) {
        self.by_host_at.undo(&attempt.at_host);
        self.undo_shared_counts(attempt);
    }

    fn undo_shared_counts(&self, attempt: &LoginAttempt) {
        self.by_account.undo(&attempt.at_host.0);
        if !attempt.is_known_host {
            self.by_network_at.undo(&attempt.at_network);
            self.by_host.undo(&attempt.at_host.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    const ADMIN: &str = "admin@example.com";

    fn throttle() -> LoginThrottle {
        LoginThrottle::new(5, 30)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Wrong guesses that are taken from `address` between `from` and a day later, tried every second.
    fn taken_in_a_day(
        throttle: &LoginThrottle,
        account: &str,
        address: IpAddr,
        from: Instant,
    ) -> u32 {
        let (mut now, mut taken) = (from, 0);
        while now < from + Duration::from_hours(24) {
            match throttle.begin(account, address, now) {
                Ok(_) => taken += 1,
                Err(wait) => now += wait,
            }
        }
        taken
    }

    #[test]
    fn wrong_guesses_of_others_never_lock_anybody_out() {
        let (throttle, now) = (throttle(), clock::instant());
        let home = throttle.begin(ADMIN, address("192.0.2.1"), now).ok().unwrap();
        throttle.succeeded(home);
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let _ = throttle.begin(ADMIN, IpAddr::from([100 + a, b, c, 1]), now);
            let _ = throttle.begin(ADMIN, IpAddr::from([192, 0, 2, 2 + c % 250]), now);
        }
        assert!(throttle.begin(ADMIN, address("192.0.2.1"), now).is_ok(), "from a host it knows");
        assert!(throttle.begin(ADMIN, address("203.0.113.7"), now).is_ok(), "from a new one");
        assert!(throttle.begin("eve@example.com", address("198.51.100.1"), now).is_ok());
    }

    #[test]
    fn guesses_from_one_host_and_from_many_are_bounded() {
        let now = clock::instant();
        let one = taken_in_a_day(&throttle(), ADMIN, address("192.0.2.1"), now);
        assert!((5..=115).contains(&one), "one host: {one} a day");
        let many = throttle();
        let attack_begins = (0..60_u8).map(|n| IpAddr::from([198, 18, n, 1]));
        for host in attack_begins {
            assert!(many.begin(ADMIN, host, now).is_ok());
        }
        let under_attack = taken_in_a_day(&many, ADMIN, address("198.18.200.1"), now);
        assert!((1..=7).contains(&under_attack), "a host under attack: {under_attack} a day");
        let network: u32 = (0..250_u8)
            .map(|n| taken_in_a_day(&many, ADMIN, IpAddr::from([198, 19, 7, n]), now))
            .sum();
        assert!(network <= 250 * 7, "a network under attack: {network} a day");
    }

    #[test]
    fn a_refused_guess_counts_nowhere() {
        let (throttle, now) = (throttle(), clock::instant());
        let host = address("192.0.2.1");
        for number in 0..30 {
            assert!(throttle.begin(&format!("a{number}@example.com"), host, now).is_ok());
        }
        for _ in 0..200 {
            assert!(throttle.begin(ADMIN, host, now).is_err(), "the host has to wait");
        }
        let other = address("192.0.2.9");
        assert!(throttle.begin(ADMIN, other, now).is_ok(), "its network does not");
        assert!(!throttle.by_account.is_over(&ADMIN.to_owned(), now));
    }
}

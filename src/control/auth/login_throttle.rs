//! Throttles password guessing without letting an attacker lock a user out.
//!
//! Attempts are counted per account and host, so a wrong guess delays only its own host. Distributed guessing is
//! limited by rate, not by locking the account: while an account is under attack, a host that has never logged in to
//! it has one guess and then long delays. A first correct password is always accepted.

use super::throttle::{Pace, Throttle};
use crate::http::client_ip;
use quick_cache::sync::Cache;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Hosts that are remembered for the accounts they logged in to.
const KNOWN_HOSTS: usize = 100_000;
/// A network of hosts (IPv4 /24, IPv6 /48) has so many times the free tries of one host at an account.
const NETWORK_FACTOR: u32 = 20;
/// An account is under attack beyond so many times the free tries of one host.
const ATTACK_FACTOR: u32 = 10;
/// An account is under attack until it was not guessed at for so long.
const ATTACK_MEMORY: Duration = Duration::from_hours(24);
/// The pace of a host that an account under attack does not know: 15 minutes after the first guess, then twice as
/// long each time: about seven guesses in a day.
const UNDER_ATTACK: Pace = Pace {
    free: 1,
    shortest: Duration::from_mins(15),
    longest: Duration::from_hours(24),
    memory: Duration::from_hours(48),
};

/// An account, by its e-mail, and a host or network.
type At = (String, IpAddr);

/// What log-ins were tried.
pub struct LoginThrottle {
    by_host_at: Throttle<At>,
    by_network_at: Throttle<At>,
    /// Whatever the account.
    by_host: Throttle<IpAddr>,
    /// Whatever the host.
    by_account: Throttle<String>,
    known: Cache<At, ()>,
}

/// A log-in that is being tried.
pub struct Guess {
    at_host: At,
    at_network: At,
    /// The account was logged in to from this host.
    pub is_known: bool,
}

impl LoginThrottle {
    /// LoginThrottle of which `account_tries` at an account, and `address_tries` in all, are free for a host.
    #[must_use]
    pub fn new(account_tries: u32, address_tries: u32) -> Self {
        let of_account = |factor| account_tries.saturating_mul(factor);
        Self {
            by_host_at: Throttle::new(account_tries),
            by_network_at: Throttle::new(of_account(NETWORK_FACTOR)),
            by_host: Throttle::new(address_tries),
            by_account: Throttle::at(Pace {
                memory: ATTACK_MEMORY,
                ..Pace::usual(of_account(ATTACK_FACTOR))
            }),
            known: Cache::new(KNOWN_HOSTS),
        }
    }

    /// Counts a log-in to `account` from `address`, before the password is looked at.
    ///
    /// # Errors
    /// How long this host has to wait; then nothing is counted.
    pub fn begin(&self, account: &str, address: IpAddr, now: Instant) -> Result<Guess, Duration> {
        let at_host = (account.to_owned(), client_ip::host(address));
        let at_network = (account.to_owned(), client_ip::network(address));
        let is_known = self.known.get(&at_host).is_some();
        if is_known || !self.by_account.is_over(&at_host.0, now) {
            self.by_host_at.attempt(&at_host, now)?;
        } else {
            self.by_host_at.attempt_at(UNDER_ATTACK, &at_host, now)?;
        }
        // A host that an account knows is held up by its own guesses alone, not by its neighbours'.
        if !is_known {
            let of_others = self.by_network_at.attempt(&at_network, now);
            let of_others = of_others.and_then(|()| {
                self.by_host
                    .attempt(&at_host.1, now)
                    .inspect_err(|_| self.by_network_at.take_back(&at_network))
            });
            of_others.inspect_err(|_| self.by_host_at.take_back(&at_host))?;
        }
        self.by_account.count(&at_host.0, now);
        Ok(Guess { at_host, at_network, is_known })
    }

    /// The password was right.
    pub fn succeeded(&self, guess: Guess) {
        self.by_host_at.forgive(&guess.at_host);
        self.take_back_others(&guess);
        self.known.insert(guess.at_host, ());
    }

    /// The password was not looked at after all.
    pub fn not_made(&self, guess: &Guess) {
        self.by_host_at.take_back(&guess.at_host);
        self.take_back_others(guess);
    }

    fn take_back_others(&self, guess: &Guess) {
        self.by_account.take_back(&guess.at_host.0);
        if !guess.is_known {
            self.by_network_at.take_back(&guess.at_network);
            self.by_host.take_back(&guess.at_host.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const ADMIN: &str = "admin@example.com";

    fn guesses() -> LoginThrottle {
        LoginThrottle::new(5, 30)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Wrong guesses that are taken from `address` between `from` and a day later, tried every second.
    fn taken_in_a_day(
        guesses: &LoginThrottle,
        account: &str,
        address: IpAddr,
        from: Instant,
    ) -> u32 {
        let (mut now, mut taken) = (from, 0);
        while now < from + Duration::from_hours(24) {
            match guesses.begin(account, address, now) {
                Ok(_) => taken += 1,
                Err(wait) => now += wait,
            }
        }
        taken
    }

    #[test]
    fn wrong_guesses_of_others_never_lock_anybody_out() {
        let (guesses, now) = (guesses(), clock::instant());
        let home = guesses.begin(ADMIN, address("192.0.2.1"), now).ok().unwrap();
        guesses.succeeded(home);
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let _ = guesses.begin(ADMIN, IpAddr::from([100 + a, b, c, 1]), now);
            let _ = guesses.begin(ADMIN, IpAddr::from([192, 0, 2, 2 + c % 250]), now);
        }
        assert!(guesses.begin(ADMIN, address("192.0.2.1"), now).is_ok(), "from a host it knows");
        assert!(guesses.begin(ADMIN, address("203.0.113.7"), now).is_ok(), "from a new one");
        assert!(guesses.begin("eve@example.com", address("198.51.100.1"), now).is_ok());
    }

    #[test]
    fn guesses_from_one_host_and_from_many_are_bounded() {
        let now = clock::instant();
        let one = taken_in_a_day(&guesses(), ADMIN, address("192.0.2.1"), now);
        assert!((5..=115).contains(&one), "one host: {one} a day");
        let many = guesses();
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
        let (guesses, now) = (guesses(), clock::instant());
        let host = address("192.0.2.1");
        for number in 0..30 {
            assert!(guesses.begin(&format!("a{number}@example.com"), host, now).is_ok());
        }
        for _ in 0..200 {
            assert!(guesses.begin(ADMIN, host, now).is_err(), "the host has to wait");
        }
        let other = address("192.0.2.9");
        assert!(guesses.begin(ADMIN, other, now).is_ok(), "its network does not");
        assert!(!guesses.by_account.is_over(&ADMIN.to_owned(), now));
    }
}

//! A user of the gateway.

use super::caller::Denied;
use super::day::Day;
use super::id::{PlanId, UserId};
use super::plan::{PlanLimits, Window};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A registered user, with role, plan and status.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// Normalised: trimmed and lower case.
    pub email: String,
    pub username: Option<String>,
    pub role: Role,
    pub status: UserStatus,
    pub plan: PlanId,
    /// Limits of this user that differ from the plan's.
    pub overrides: LimitOverrides,
    /// Time at which the user proved to receive mail at `email`; `None` = not yet, or not since it changed.
    pub email_verified_at: Option<Timestamp>,
    /// Raised by every change that a call must notice (plan, status, role, any of the user's keys).
    pub version: u64,
    pub created_at: Timestamp,
}

/// A user's own limits in place of the plan's. `None` leaves the plan's in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    #[serde(rename = "max_tokens_per_day")]
    pub tokens_per_day: Option<u64>,
    #[serde(rename = "max_requests_per_day")]
    pub requests_per_day: Option<u64>,
    pub window: Option<Window>,
    pub concurrent_streams: Option<u32>,
    pub models: Option<Arc<[Arc<str>]>>,
    /// The user's own time zone, where it differs from the plan's: see [`LimitOverrides::zone_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Arc<str>>,
}

impl LimitOverrides {
    /// The limits that apply to the user.
    #[must_use]
    pub fn over(&self, plan: PlanLimits) -> PlanLimits {
        PlanLimits {
            tokens_per_day: self.tokens_per_day.unwrap_or(plan.tokens_per_day),
            cached_token_fraction: plan.cached_token_fraction,
            requests_per_day: self.requests_per_day.unwrap_or(plan.requests_per_day),
            window: self.window.unwrap_or(plan.window),
            concurrent_streams: self.concurrent_streams.unwrap_or(plan.concurrent_streams),
            models: self.models.clone().or(plan.models),
            time_zone: self
                .time_zone
                .as_deref()
                .and_then(|name| TimeZone::get(name).ok())
                .unwrap_or(plan.time_zone),
            policy: plan.policy,
        }
    }

    /// The zone that a user keeps who changes from a plan in the zone `from` to one in `to`. Where it is
    /// another day there at that moment, the user's days stay where they were: a new day would come with
    /// a fresh quota. Where it is the same day, what was used of it counts on, so the plan's zone holds.
    #[must_use]
    pub fn zone_after(&self, from: &str, to: &str, at: Timestamp) -> Option<Arc<str>> {
        let own = self.time_zone.as_deref().unwrap_or(from);
        let day = |name| TimeZone::get(name).ok().map(|zone| Day::at(at, &zone));
        (day(own) != day(to)).then(|| own.into())
    }

    /// True if the plan's limits apply unchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The user's rights on the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    /// Reads what an admin reads, and changes only their own account.
    Auditor,
    Admin,
}

/// The status of an account: keys and sessions of a suspended one are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    Active,
    Suspended,
    /// Only the id and the usage are left; final.
    Deleted,
}

impl UserStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Deleted];

    /// Checks that the user may log in and call.
    ///
    /// # Errors
    /// The user is suspended or deleted. The latter is not shown: a deleted user has neither a session nor
    /// a key that is not revoked.
    pub fn check(self) -> Result<(), Denied> {
        match self {
            Self::Active => Ok(()),
            Self::Suspended | Self::Deleted => Err(Denied::UserSuspended),
        }
    }
}

impl Role {
    /// Every role, from the one with the fewest rights on.
    pub const ALL: [Self; 3] = [Self::User, Self::Auditor, Self::Admin];

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// True if the role may read the data of all users.
    #[must_use]
    pub fn may_read_all(self) -> bool {
        match self {
            Self::User => false,
            Self::Auditor | Self::Admin => true,
        }
    }

    /// True if the role may change users, plans and the configuration.
    #[must_use]
    pub fn may_change_all(self) -> bool {
        match self {
            Self::User | Self::Auditor => false,
            Self::Admin => true,
        }
    }
}

impl UserStatus {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

/// Text that is not an e-mail address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an e-mail address")]
pub struct BadEmail(pub String);

/// The form an e-mail address is stored and looked up in: trimmed and lower case.
///
/// # Errors
/// Unless there is one `@` with something on both sides, all of it ASCII, no white space, and at
/// most 254 bytes. Letters of other scripts that look like these would make two addresses of what
/// people take for one. Whether mail arrives there is not checked.
pub fn normalised_email(text: &str) -> Result<String, BadEmail> {
    let email = text.trim().to_ascii_lowercase();
    let parts: Vec<&str> = email.split('@').collect();
    let has_shape = matches!(parts[..], [name, host] if !name.is_empty() && !host.is_empty());
    let is_plain = email.bytes().all(|byte| byte.is_ascii_graphic());
    if has_shape && is_plain && email.len() <= 254 {
        Ok(email)
    } else {
        Err(BadEmail(text.trim().to_owned()))
    }
}

/// The stored form of an e-mail address that an account gets. Stricter than [`normalised_email`], which also finds
/// accounts of earlier versions.
///
/// # Errors
/// Unless it is a plain `local@domain.tld`: a local part of at most 64 of the characters that RFC 5322 allows
/// without quotes, and the name of a host with at least two labels. Hosts below `localhost` may have one.
pub fn new_email(text: &str) -> Result<String, BadEmail> {
    let email = normalised_email(text)?;
    let (local, host) = email.split_once('@').unwrap_or_default();
    if is_local_part(local) && is_mail_host(host) {
        Ok(email)
    } else {
        Err(BadEmail(text.trim().to_owned()))
    }
}

fn is_local_part(local: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_allowed);
    local.len() <= 64 && local.split('.').all(is_word)
}

fn is_mail_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len())
            && is_plain
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let mut labels = host.rsplit('.');
    let top = labels.next().unwrap_or_default();
    let begins_with_letter = top.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_below_top = labels.next().is_some() && top.len() >= 2 && begins_with_letter;
    host.split('.').all(is_label) && (top == "localhost" || is_below_top)
}

/// What a deleted user has in place of an e-mail address. It is not one, so it cannot be used to log in or register.
#[must_use]
pub fn erased_email(id: UserId) -> String {
    format!("deleted user {id}")
}

/// Text that is not a username.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a username: 3 to 32 letters a to z, digits, dots, underscores and hyphens, \
    beginning with a letter or digit"
)]
pub struct BadUsername(pub String);

/// The form a username is stored and compared in: trimmed and lower case.
///
/// # Errors
/// Unless it is 3 to 32 of `a-z 0-9 . _ -`, beginning with a letter or digit.
pub fn normalised_username(text: &str) -> Result<String, BadUsername> {
    let username = text.trim().to_ascii_lowercase();
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_plain = username.bytes().all(|byte| is_word(byte) || b"._-".contains(&byte));
    let begins_well = username.bytes().next().is_some_and(is_word);
    if is_plain && begins_well && (3..=32).contains(&username.len()) {
        Ok(username)
    } else {
        Err(BadUsername(text.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_trimmed_and_lowered() {
        assert_eq!(normalised_email(" Ada@Example.COM\n").unwrap(), "ada@example.com");
    }

    #[test]
    fn what_is_no_email_is_refused() {
        let long = format!("{}@example.com", "a".repeat(250));
        // The last ones hold a Cyrillic a, a dotless i, the Kelvin sign and a full-width a.
        let looks = ["\u{430}da@b.c", "ada@ex\u{131}t.c", "\u{212a}@b.c", "\u{ff41}@b.c"];
        let plain = ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\u{a0}c", "a@b\0c", "plain", &long];
        for text in plain.into_iter().chain(looks) {
            assert_eq!(normalised_email(text), Err(BadEmail(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn accounts_get_plain_addresses_alone() {
        let longest = format!("{}@example.com", "a".repeat(64));
        for good in [
            "ada@example.com",
            "a.l+tag_1@mail.example.co.uk",
            "o'hara@example.xn--p1ai",
            "demo@localhost",
            "demo@kx.localhost",
            "a@1.example.org",
            &longest,
        ] {
            assert_eq!(new_email(good).as_deref(), Ok(good));
        }
        assert_eq!(new_email(" Ada@Example.COM ").as_deref(), Ok("ada@example.com"));
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "a@b",
            "a@b.c",
            "<ada@example.com>",
            "ada <ada@example.com>",
            "\"a b\"@example.com",
            "a,b@example.com",
            "a:b@example.com",
            ".a@example.com",
            "a..b@example.com",
            "a.@example.com",
            "a@-example.com",
            "a@example-.com",
            "a@example..com",
            "a@example.com.",
            "a@.example.com",
            "a@[192.0.2.1]",
            "a@192.0.2.1",
            "a@exa_mple.com",
            "a@notlocalhost",
            "a@b@example.com",
            "a@example.com\r\nBcc: e@example.com",
            &long,
        ] {
            assert_eq!(new_email(bad), Err(BadEmail(bad.to_owned())), "{bad}");
        }
        assert!(normalised_email("a@b").is_ok(), "an account of an earlier version is found");
    }

    #[test]
    fn the_name_of_a_deleted_user_is_no_email() {
        assert!(normalised_email(&erased_email(UserId::new())).is_err());
    }

    #[test]
    fn usernames_are_trimmed_and_lowered() {
        let longest = "a".repeat(32);
        for (text, expected) in
            [(" Ada.L-1_ ", "ada.l-1_"), ("0ab", "0ab"), ("a--", "a--"), (&longest, &longest)]
        {
            assert_eq!(normalised_username(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_username_is_refused() {
        let long = "a".repeat(33);
        let bad = ["", "ab", ".ab", "_ab", "-ab", "a b", "a@b", "ab\0", "\u{430}da", "\u{212a}ate"];
        for text in bad.into_iter().chain([&*long]) {
            let refused = normalised_username(text);
            assert_eq!(refused, Err(BadUsername(text.to_owned())), "{text:?}");
        }
    }
}

#[cfg(test)]
mod zone_tests {
    use super::*;

    /// The zones of a user who changes plans at each of the given times.
    fn zones(changes: &[(&str, &str, &str)]) -> Vec<Option<String>> {
        let mut own = LimitOverrides::default();
        let mut seen = Vec::new();
        for (at, from, to) in changes {
            own.time_zone = own.zone_after(from, to, at.parse().unwrap());
            seen.push(own.time_zone.as_deref().map(str::to_owned));
        }
        seen
    }

    #[test]
    fn a_change_of_plan_gives_no_second_day_in_either_direction() {
        let (utc, kolkata) = ("UTC", "Asia/Kolkata");
        let kept = |zone: &str| Some(zone.to_owned());
        // 19:00 in London is the next day in Kolkata.
        assert_eq!(zones(&[("2026-01-02T19:00:00Z", utc, kolkata)]), [kept(utc)]);
        assert_eq!(zones(&[("2026-01-02T19:00:00Z", kolkata, utc)]), [kept(kolkata)]);
        // Noon is the same day.
        assert_eq!(zones(&[("2026-01-02T12:00:00Z", utc, kolkata)]), [None]);
        assert_eq!(zones(&[("2026-01-02T12:00:00Z", kolkata, utc)]), [None]);
        let there_and_back = [
            ("2026-01-02T19:00:00Z", utc, kolkata),
            ("2026-01-02T19:01:00Z", kolkata, utc),
            ("2026-01-02T19:02:00Z", utc, kolkata),
            ("2026-01-03T10:00:00Z", kolkata, "Asia/Calcutta"),
        ];
        assert_eq!(zones(&there_and_back), [kept(utc), None, kept(utc), None]);
    }
}

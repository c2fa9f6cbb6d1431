//! A user of the gateway.

use super::id::{PlanId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A registered user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// Normalised: trimmed and lower case.
    pub email: String,
    pub username: Option<String>,
    pub role: Role,
    pub status: UserStatus,
    pub plan: PlanId,
    /// Raised by every change that a call must notice (plan, status, role, any of the user's keys).
    pub version: u64,
    pub created_at: Timestamp,
}

/// What a user may do on the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Admin,
}

/// Whether a user's keys work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    Active,
    Suspended,
}

impl Role {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
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
/// Unless there is one `@` with something on both sides, no white space, and at most 254 bytes.
/// Whether mail arrives there only sending it can tell.
pub fn normalised_email(text: &str) -> Result<String, BadEmail> {
    let email = text.trim().to_lowercase();
    let parts: Vec<&str> = email.split('@').collect();
    let has_shape = matches!(parts[..], [name, host] if !name.is_empty() && !host.is_empty());
    let is_plain = !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if has_shape && is_plain && email.len() <= 254 {
        Ok(email)
    } else {
        Err(BadEmail(text.trim().to_owned()))
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
        for text in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\u{a0}c", "a@b\0c", "plain", &long]
        {
            assert_eq!(normalised_email(text), Err(BadEmail(text.to_owned())), "{text:?}");
        }
    }
}

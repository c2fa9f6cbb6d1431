//! A user who has proved who they are, so that a session may begin.

use store::sessions::Credentials;

/// A user whose password was verified or set, with what was checked.
#[derive(Debug, Clone)]
pub struct VerifiedUser {
    pub credentials: Credentials,
    /// True if the user's second factor was checked as well. If one is enabled before the session begins, none
    /// begins without it.
    pub has_passed_factor: bool,
}

impl VerifiedUser {
    /// A user who has no second factor yet, such as a new one.
    #[must_use]
    pub fn without_factor(credentials: Credentials) -> Self {
        Self { credentials, has_passed_factor: false }
    }
}

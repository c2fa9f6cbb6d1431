//! How often an address or a user may do what costs others something.

use super::Identity;
use crate::control::api_error::ApiError;
use crate::http::client_ip;
use domain::id::UserId;
use std::net::IpAddr;
use std::time::Instant;

impl Identity {
    /// Counts a registration from `address`.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_register(&self, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        let attempt = self.registrations.attempt(&client_ip::host(address), now);
        attempt.map_err(ApiError::TooManyAttempts)
    }

    /// Counts a sign-in at a provider from `address`, before it is known to succeed.
    pub(in crate::control) fn may_sign_in(
        &self,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), ApiError> {
        let attempt = self.sign_ins.attempt(&client_ip::host(address), now);
        attempt.map_err(ApiError::TooManyAttempts)
    }

    /// A sign-in from `address` succeeded: it does not count.
    pub fn has_signed_in(&self, address: IpAddr) {
        self.sign_ins.undo(&client_ip::host(address));
    }

    /// Counts a mail that is requested for `email` from `address`. One that has to wait is not sent, and the
    /// link of the one before stays valid, so no user can keep another from theirs.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_mail(&self, email: &str, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        let from = client_ip::host(address);
        self.mails_from.attempt(&from, now).map_err(ApiError::TooManyAttempts)?;
        let to = self.mails_to.attempt(&email.to_owned(), now);
        to.inspect_err(|_| self.mails_from.undo(&from)).map_err(ApiError::TooManyAttempts)
    }

    /// Counts a change that a user makes to their own keys, profile or plan.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_change(&self, user: UserId, now: Instant) -> Result<(), ApiError> {
        self.changes.attempt(&user, now).map_err(ApiError::TooManyAttempts)
    }

    /// Counts an export of a user.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_export(&self, user: UserId, now: Instant) -> Result<(), ApiError> {
        self.exports.attempt(&user, now).map_err(ApiError::TooManyAttempts)
    }
}

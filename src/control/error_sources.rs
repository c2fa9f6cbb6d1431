//! What errors of other modules are to the clients of the control plane.

use super::api_error::ApiError;
use crate::links::LinkError;
use crate::mail::NotQueued;
use crate::oidc::ProviderError;
use domain::caller::Denied;
use quota::backend::QuotaUnavailable;
use store::{LIVE_KEYS, StoreError, UserError};

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(what) => Self::NotFound(what),
            StoreError::TooManyKeys => Self::TooManyKeys(LIVE_KEYS),
            StoreError::Corrupt(_) => {
                tracing::error!(%error, "store returned corrupt data");
                Self::Internal
            }
            error @ (StoreError::Unavailable(_) | StoreError::Superseded) => {
                Self::StoreUnavailable(error)
            }
        }
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::NoRandomness(_) => Self::Internal,
            LinkError::Store(error) => error.into(),
        }
    }
}

impl From<NotQueued> for ApiError {
    fn from(error: NotQueued) -> Self {
        match error {
            NotQueued::Off => Self::MailNotConfigured,
            NotQueued::Full => Self::MailQueueFull,
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::EmailTaken => Self::AlreadyTaken("email"),
            UserError::UsernameTaken => Self::AlreadyTaken("username"),
            UserError::NoSuchPlan(_) => Self::NotFound("plan"),
            UserError::AddressReserved(until) => Self::AddressReserved(until),
            UserError::LastAdmin => Self::LastAdmin,
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::KeyRevoked => Self::RevokedKey,
            Denied::KeyExpired => Self::ExpiredKey,
            Denied::UserSuspended => Self::Suspended,
            Denied::EmailUnverified => Self::EmailUnverified,
        }
    }
}

impl From<QuotaUnavailable> for ApiError {
    fn from(error: QuotaUnavailable) -> Self {
        Self::QuotaUnavailable(error)
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable(cause) => {
                tracing::warn!(%cause, "the sign-in provider is unavailable");
                Self::ProviderUnavailable
            }
            ProviderError::Rejected(cause) => {
                tracing::warn!(%cause, "a sign-in at the provider was rejected");
                Self::SignInRejected
            }
        }
    }
}

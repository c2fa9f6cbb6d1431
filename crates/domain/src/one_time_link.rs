//! One-time links: `lt-kx-<id>_<secret>`, mailed or handed to one person and good for one act. The one that creates
//! the first admin begins with `su-kx-`: it is shown in the log, where all others are masked.
//!
//! The id (32 hex digits) finds the record, the secret (43 base62 characters, 256 bits) proves the holder. Only
//! a hash keyed with the server's secret and the purpose is stored, so that a new `SECRET_KEY` ends every link.

use super::id::LinkId;
use super::key::NoRandomness;
use super::refresh_token::{generate, id_of};
use super::server_secret::ServerSecret;
use jiff::SignedDuration;
use std::fmt;
use subtle::ConstantTimeEq;

/// The act that a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPurpose {
    /// Proves that the user receives mail at the address.
    VerifyEmail,
    /// Sets a new password.
    ResetPassword,
    /// Sets the first password of a user whom an admin or the operator has added.
    Invitation,
    /// Creates the first admin; belongs to no user.
    FirstAdmin,
}

/// The token of a link as its holder presents it. Prints only its id.
#[derive(Clone)]
pub struct LinkToken {
    id: LinkId,
    purpose: LinkPurpose,
    text: String,
}

/// The keyed hash of a token: what is stored and compared.
#[derive(Clone, Copy)]
pub struct LinkDigest(pub [u8; 32]);

/// A text that is not the token of a link.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed token")]
pub struct MalformedLink;

impl LinkPurpose {
    /// The word stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::Invitation => "invitation",
            Self::FirstAdmin => "first_admin",
        }
    }

    /// True if whoever holds the link sets the password of the account, and so becomes its user.
    #[must_use]
    pub fn sets_password(self) -> bool {
        matches!(self, Self::ResetPassword | Self::Invitation)
    }

    /// Beginning of the tokens of this purpose.
    fn prefix(self) -> &'static str {
        match self {
            Self::VerifyEmail | Self::ResetPassword | Self::Invitation => "lt-kx-",
            Self::FirstAdmin => "su-kx-",
        }
    }

    /// Time for which a link can be used; `None` = until it is used or not needed any more.
    #[must_use]
    pub fn lifetime(self) -> Option<SignedDuration> {
        match self {
            Self::VerifyEmail => Some(SignedDuration::from_hours(24)),
            Self::ResetPassword => Some(SignedDuration::from_hours(1)),
            Self::Invitation => Some(SignedDuration::from_hours(7 * 24)),
            Self::FirstAdmin => None,
        }
    }
}

impl LinkToken {
    /// The token of a new link.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(id: LinkId, purpose: LinkPurpose) -> Result<Self, NoRandomness> {
        Ok(Self { id, purpose, text: generate(purpose.prefix(), id.0)? })
    }

    /// Reads a token that is presented for a purpose.
    ///
    /// # Errors
    /// [`MalformedLink`] for anything that [`LinkToken::generate`] cannot have made.
    pub fn parse(text: &str, purpose: LinkPurpose) -> Result<Self, MalformedLink> {
        let id = id_of(purpose.prefix(), text).ok_or(MalformedLink)?;
        Ok(Self { id: LinkId(id), purpose, text: text.to_owned() })
    }

    /// The link to look the token up by.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// The keyed hash to store or compare. It is good for the token's purpose only.
    #[must_use]
    pub fn digest(&self, secret: &ServerSecret) -> LinkDigest {
        LinkDigest(secret.link_digest(self.purpose.as_str(), &self.text))
    }

    /// The token itself, to send or show to its holder once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkToken({}…)", self.id.0.simple())
    }
}

impl PartialEq for LinkDigest {
    /// Takes the same time wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for LinkDigest {}

impl fmt::Debug for LinkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use crate::key::Pepper;
    use crate::refresh_token::RefreshToken;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let purpose = LinkPurpose::Invitation;
        let token = LinkToken::generate(LinkId::new(), purpose).unwrap();
        let read = LinkToken::parse(token.reveal(), purpose).unwrap();
        assert_eq!((read.id(), read.reveal()), (token.id(), token.reveal()));
        assert!(!format!("{token:?}").contains(&token.reveal()[40..]));
        let text = token.reveal();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
        let refresh = RefreshToken::generate(SessionId::new()).unwrap();
        let upper = text.to_uppercase().replace("LT-KX-", "lt-kx-");
        for bad in ["", "lt-kx-", &text[1..], &format!("{text}a"), &upper, refresh.reveal()] {
            assert_eq!(LinkToken::parse(bad, purpose).unwrap_err(), MalformedLink, "{bad}");
        }
        let setup = LinkToken::generate(LinkId::new(), LinkPurpose::FirstAdmin).unwrap();
        assert!(setup.reveal().starts_with("su-kx-"));
        assert_eq!(LinkToken::parse(setup.reveal(), purpose).unwrap_err(), MalformedLink);
        assert_eq!(LinkToken::parse(text, LinkPurpose::FirstAdmin).unwrap_err(), MalformedLink);
    }

    #[test]
    fn a_digest_is_of_one_token_one_purpose_and_one_secret() {
        let secret = |text: &[u8]| ServerSecret::of(&Pepper::new(text));
        let (id, one) = (LinkId::new(), secret(b"one"));
        let token = LinkToken::generate(id, LinkPurpose::VerifyEmail).unwrap();
        let again = LinkToken::generate(id, LinkPurpose::VerifyEmail).unwrap();
        let digest = token.digest(&one);
        assert_eq!(digest, token.digest(&one));
        assert_ne!(digest, token.digest(&secret(b"other")));
        assert_ne!(digest, again.digest(&one));
        for other in [LinkPurpose::ResetPassword, LinkPurpose::Invitation] {
            let token = LinkToken::parse(token.reveal(), other).unwrap();
            assert_ne!(digest, token.digest(&one), "{other:?}");
        }
    }
}

//! Text fields of requests. Each type is validated when it is deserialized.

use domain::label::{has_only_seen_characters, label};
use domain::password;
use domain::user::{new_email, normalised_email, normalised_username};
use serde::{Deserialize, Deserializer};
use std::fmt;
use store::announcements::MAX_CHARACTERS as MAX_ANNOUNCEMENT;
use utoipa::ToSchema;

/// Maximum length of a code with all its separators, in characters.
const LONGEST_CODE: usize = 64;

/// An e-mail address. Stored in lower case without surrounding spaces.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = Email, min_length = 3, max_length = 254, example = "ada@example.com")]
pub struct Email(pub String);

/// The e-mail address of a new account, or a new one of an account: plain `local@domain.tld`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = Email, min_length = 6, max_length = 254, example = "ada@example.com")]
pub struct NewEmail(pub String);

/// A username: 3 to 32 letters, digits, dots, underscores and hyphens.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = r"^\s*[A-Za-z0-9][A-Za-z0-9._-]{2,31}\s*$", example = "ada")]
pub struct Username(pub String);

/// A new password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = Password, min_length = 8, max_length = 128, example = "correct horse battery staple")]
pub struct NewPassword(pub String);

/// A password to verify.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = Password, min_length = 1, max_length = 1024, example = "correct horse battery staple")]
pub struct Password(pub String);

/// A code of the authenticator app (six digits) or a recovery code. Spaces and hyphens do not matter.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 64, example = "123 456")]
pub struct Code(pub String);

/// A display name, such as that of a key.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe-\uffff]*[^\s\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe-\uffff][^\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe-\uffff]*$", example = "laptop")]
pub struct Label(pub String);

/// The plain text of an announcement: 1 to 500 visible characters, spaces and line breaks.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 500, example = "Maintenance on Sunday, 02:00 to 03:00 UTC.")]
pub struct AnnouncementText(pub String);

/// The text is not valid for its field.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadField(String);

fn bad(problem: impl Into<String>) -> BadField {
    BadField(problem.into())
}

impl TryFrom<String> for Email {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        normalised_email(&text).map(Self).map_err(|_| bad("must be an e-mail address"))
    }
}

impl TryFrom<String> for NewEmail {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        new_email(&text)
            .map(Self)
            .map_err(|_| bad("must be an e-mail address such as ada@example.com"))
    }
}

impl TryFrom<String> for Username {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        normalised_username(&text).map(Self).map_err(|e| bad(e.to_string()))
    }
}

impl TryFrom<String> for NewPassword {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        let characters = text.chars().count();
        let (least, most) = (password::MIN_CHARACTERS, password::MAX_CHARACTERS);
        if (least..=most).contains(&characters) {
            return Ok(Self(text));
        }
        Err(bad(format!("must have {least} to {most} characters, but has {characters}")))
    }
}

impl TryFrom<String> for Password {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        if (1..=password::LONGEST).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(bad(format!("must have 1 to {} bytes, but has {}", password::LONGEST, text.len())))
        }
    }
}

impl TryFrom<String> for Code {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        let characters = text.chars().count();
        if (1..=LONGEST_CODE).contains(&characters) {
            Ok(Self(text))
        } else {
            Err(bad(format!("must have 1 to {LONGEST_CODE} characters, but has {characters}")))
        }
    }
}

impl TryFrom<String> for Label {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        label(&text).map(Self).map_err(|e| bad(e.to_string()))
    }
}

impl TryFrom<String> for AnnouncementText {
    type Error = BadField;
    fn try_from(text: String) -> Result<Self, BadField> {
        let text = text.replace("\r\n", "\n").trim().to_owned();
        let characters = text.chars().count();
        if !(1..=MAX_ANNOUNCEMENT).contains(&characters) {
            let problem =
                format!("must have 1 to {MAX_ANNOUNCEMENT} characters, but has {characters}");
            return Err(bad(problem));
        }
        has_only_seen_characters(&text).map_err(|e| bad(e.to_string()))?;
        Ok(Self(text))
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(…)")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Deserializes `null` as `Some(None)` and a missing field as `None`.
pub fn present<'de, T, D>(reader: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(reader).map(Some)
}

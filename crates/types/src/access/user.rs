//! Users: a name, which RocketMQ's clients call access key, and a secret that both sides know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A name or a secret that users cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The name does not fit into a client's `authorization`.
    #[error("user name {0:?}: expected 1 to {max} ASCII letters, digits, '.', '_', '-' and '@'", max = limits::USER_NAME_BYTES_MAX)]
    Name(String),
    /// The secret is too short, too long, or unprintable. It is not shown.
    #[error("secret: expected {min} to {max} printable ASCII characters without blanks, found something else", min = limits::SECRET_BYTES_MIN, max = limits::SECRET_BYTES_MAX)]
    Secret,
    /// A principal, host or name of an ACL.
    #[error("{what} {found:?}: expected {expected}")]
    Acl {
        /// The field.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// What proves that a client is a user. Kept as it is, for a signature with a shared secret cannot be checked with less; never
/// shown: neither by `Debug` nor by a description.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    ///
    /// # Errors
    /// It has too few or too many characters, or others than printable ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, AccessError> {
        let secret = Self(text.into());
        secret.check()?;
        Ok(secret)
    }

    /// Refuses a secret that came by another way than [`Secret::new`].
    ///
    /// # Errors
    /// As [`Secret::new`].
    pub fn check(&self) -> Result<(), AccessError> {
        let length = self.0.len();
        let is_good = (limits::SECRET_BYTES_MIN..=limits::SECRET_BYTES_MAX).contains(&length);
        if is_good && self.0.chars().all(|c| c.is_ascii_graphic()) { Ok(()) } else { Err(AccessError::Secret) }
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether ACLs count for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserType {
    /// They do: without one, nothing is allowed.
    #[default]
    Normal,
    /// Everything is allowed.
    Super,
}

/// Whether a user is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserStatus {
    /// Yes.
    #[default]
    Enabled,
    /// No; its ACLs are kept.
    Disabled,
}

/// A user, without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What it proves itself with.
    pub secret: Secret,
    /// Whether ACLs count for it.
    pub user_type: UserType,
    /// Whether it is let in.
    pub status: UserStatus,
}

/// Refuses names that clients could not send.
///
/// # Errors
/// `Name`.
pub fn check_user_name(name: &str) -> Result<(), AccessError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if (1..=limits::USER_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_legal) {
        return Ok(());
    }
    Err(AccessError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("12345678").unwrap();
        let user = User { secret, user_type: UserType::Super, status: UserStatus::Enabled };
        let shown = format!("{user:?}");
        assert!(shown.contains("Super") && !shown.contains("1234"), "{shown}");
        for bad in ["", "12345", "with blank", "übergröße", &"x".repeat(257)] {
            let error = Secret::new(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_name_fits_into_an_authorization() {
        for name in ["a", "billing-app", "team@x", "A.b_1"] {
            check_user_name(name).unwrap();
        }
        for name in ["", "a b", "a,b", "a/b", "a=b", "ä", "*", &"x".repeat(129)] {
            check_user_name(name).unwrap_err();
        }
    }
}

//! The one module that names bincode: how values of tables and bodies of commands are written.
//!
//! ```text
//! byte 0      version of the type
//! byte 1..    bincode 2, config::standard() (variable-length integers, little endian), through serde
//! ```
//!
//! A rolling upgrade reads an older version by a branch on the version byte in [`decode`]'s caller; a version that is
//! unknown is an error that names what was found and what was expected. Bytes after the value are an error too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StateError;

/// No value takes more memory than this: a damaged length must not allocate without bound.
const VALUE_BYTES_MAX: usize = 256 << 20;

/// A type that is stored or replicated.
pub trait Versioned: Serialize + DeserializeOwned {
    /// Name of the type in errors.
    const NAME: &'static str;
    /// The version that this build writes and reads.
    const VERSION: u8;
}

/// Encodes a value behind its version byte.
///
/// # Panics
/// When serde refuses the value: none of our types does.
#[must_use]
pub fn encode<T: Versioned>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.push(T::VERSION);
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("plain structs and enums always encode into memory");
    bytes
}

/// Decodes a value and checks its version.
///
/// # Errors
/// `UnknownVersion`; `Undecodable` when the bytes are not exactly one value of the type.
pub fn decode<T: Versioned>(bytes: &[u8]) -> Result<T, StateError> {
    let Some((&version, body)) = bytes.split_first() else {
        return Err(undecodable::<T>("no bytes, expected a version byte"));
    };
    if version != T::VERSION {
        return Err(StateError::UnknownVersion { what: T::NAME, found: version, expected: T::VERSION });
    }
    let config = bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();
    let (value, used) =
        bincode::serde::decode_from_slice(body, config).map_err(|error| undecodable::<T>(&error.to_string()))?;
    if used != body.len() {
        return Err(undecodable::<T>(&format!("{} bytes follow the value", body.len() - used)));
    }
    Ok(value)
}

/// Decodes a value of an earlier version that lacked the last fields: they become `missing`.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_shorter<T: Versioned>(bytes: &[u8], missing: &impl Serialize) -> Result<T, StateError> {
    let mut whole = bytes.to_vec();
    if let Some(version) = whole.first_mut() {
        *version = T::VERSION;
    }
    bincode::serde::encode_into_std_write(missing, &mut whole, bincode::config::standard())
        .expect("plain structs always encode into memory");
    decode(&whole)
}

fn undecodable<T: Versioned>(reason: &str) -> StateError {
    StateError::Undecodable { what: T::NAME, reason: reason.to_owned() }
}

macro_rules! versioned {
    ($($type:ty = $version:literal),+ $(,)?) => {
        $(impl $crate::codec::Versioned for $type {
            const NAME: &'static str = stringify!($type);
            const VERSION: u8 = $version;
        })+
    };
}
pub(crate) use versioned;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        words: Vec<String>,
    }
    versioned!(Sample = 3);

    fn sample() -> Sample {
        Sample { number: 300, words: vec!["a".into(), "bc".into()] }
    }

    #[test]
    fn values_round_trip() {
        assert_eq!(decode::<Sample>(&encode(&sample())).unwrap(), sample());
    }

    #[test]
    fn fields_that_an_earlier_version_lacked_are_given() {
        let mut earlier = encode(&sample());
        earlier.truncate(earlier.len() - 6);
        earlier[0] = 2;
        let missing = vec!["x".to_owned()];
        let found = decode_shorter::<Sample>(&earlier, &missing).unwrap();
        assert_eq!(found, Sample { words: missing.clone(), ..sample() });
        earlier.pop();
        decode_shorter::<Sample>(&earlier, &missing).unwrap_err();
        decode_shorter::<Sample>(&[], &missing).unwrap_err();
    }

    #[test]
    fn an_unknown_version_names_found_and_expected() {
        let mut bytes = encode(&sample());
        bytes[0] = 9;
        assert_eq!(decode::<Sample>(&bytes).unwrap_err().to_string(), "Sample: unknown version 9, expected 3");
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let bytes = encode(&sample());
        for length in 0..bytes.len() {
            decode::<Sample>(&bytes[..length]).unwrap_err();
        }
        let mut longer = bytes;
        longer.push(0);
        decode::<Sample>(&longer).unwrap_err();
    }
}

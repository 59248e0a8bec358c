//! Digests of bodies: what clients send is compared, what they get is made.

use md5::Md5;
use sha1::Sha1;
use sha1::digest::Digest as _;

use crate::errors::Refusal;
use crate::proto::{Code, Digest, DigestType};

/// The digest that goes with a delivered body: MD5 in upper-case hexadecimal, as clients expect it.
pub(crate) fn of(body: &[u8]) -> Digest {
    Digest { r#type: DigestType::Md5.into(), checksum: hex(&Md5::digest(body)) }
}

/// Compares a body with the digest that its producer gave, if it did.
///
/// Clients write CRC-32 as hexadecimal with and without leading zeros, or in decimal; all count.
pub(crate) fn check(body: &[u8], digest: Option<&Digest>) -> Result<(), Refusal> {
    let Some(digest) = digest.filter(|digest| !digest.checksum.is_empty()) else { return Ok(()) };
    let given = digest.checksum.trim();
    let (name, is_equal, found) = match digest.r#type() {
        DigestType::Unspecified => return Ok(()),
        DigestType::Crc32 => {
            let found = crc32fast::hash(body);
            let is_equal = u32::from_str_radix(given, 16) == Ok(found) || given.parse() == Ok(found);
            ("CRC32", is_equal, format!("{found:08X}"))
        }
        DigestType::Md5 => same("MD5", given, &Md5::digest(body)),
        DigestType::Sha1 => same("SHA1", given, &Sha1::digest(body)),
    };
    if is_equal {
        return Ok(());
    }
    Err(Refusal::new(
        Code::MessageCorrupted,
        format!("the {name} digest of the body does not match: the message says {given:?}, the body has {found}"),
    ))
}

fn same(name: &'static str, given: &str, digest: &[u8]) -> (&'static str, bool, String) {
    let found = hex(digest);
    (name, found.eq_ignore_ascii_case(given), found)
}

/// Upper-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The MD5 of several pieces in upper-case hexadecimal: 32 digits.
pub(crate) fn md5_hex(pieces: &[&[u8]]) -> String {
    let mut md5 = Md5::new();
    for piece in pieces {
        md5.update(piece);
    }
    hex(&md5.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(kind: DigestType, checksum: &str) -> Digest {
        Digest { r#type: kind.into(), checksum: checksum.to_owned() }
    }

    #[test]
    fn a_delivered_digest_is_md5_in_upper_case() {
        assert_eq!(of(b"hello"), digest(DigestType::Md5, "5D41402ABC4B2A76B9719D911017C592"));
        assert_eq!(md5_hex(&[b"he", b"llo"]), "5D41402ABC4B2A76B9719D911017C592");
    }

    #[test]
    fn every_clients_way_to_write_a_digest_is_understood() {
        // The CRC-32 of this body begins with a zero.
        let (body, crc) = (b"message 4", crc32fast::hash(b"message 4"));
        for good in [
            digest(DigestType::Md5, "5d41402abc4b2a76b9719d911017c592"),
            digest(DigestType::Sha1, "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D"),
            digest(DigestType::Crc32, "3610A686"),
            digest(DigestType::Crc32, "907060870"),
            digest(DigestType::Md5, ""),
            digest(DigestType::Unspecified, "whatever"),
        ] {
            check(b"hello", Some(&good)).unwrap();
        }
        for text in [format!("{crc:x}"), format!("{crc:08X}"), crc.to_string()] {
            check(body, Some(&digest(DigestType::Crc32, &text))).unwrap();
        }
        check(b"hello", None).unwrap();
    }

    #[test]
    fn a_body_that_was_changed_is_found() {
        for kind in [DigestType::Crc32, DigestType::Md5, DigestType::Sha1] {
            let refusal = check(b"hello", Some(&digest(kind, "123456"))).unwrap_err();
            assert_eq!(refusal.code(), Code::MessageCorrupted);
        }
    }
}

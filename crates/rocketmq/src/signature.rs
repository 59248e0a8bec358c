//! What a client proves itself with: the metadata `authorization` and `x-mq-date-time` of RocketMQ's clients.
//!
//! ```text
//! authorization:  MQv2-HMAC-SHA1 Credential=ACCESS_KEY[/…], SignedHeaders=x-mq-date-time, Signature=HEX
//! HEX             HMAC-SHA1 (RFC 2104) of the text of x-mq-date-time, with the secret as the key; in either case of letters
//! x-mq-date-time  20261126T233000Z, or RFC 3339 (Rust)
//! ```
//!
//! The signature covers nothing but the time: whoever overhears a call may repeat it and others until it is too old. TLS keeps it secret.
//!
//! Clients for Java and Python write their *local* time and a Z behind it.

use ring::hmac;

/// The one algorithm.
const ALGORITHM: &str = "MQv2-HMAC-SHA1";
/// The one header that is signed.
pub(crate) const DATE_TIME: &str = "x-mq-date-time";
const SHA1_BYTES: usize = 20;
const MINUTE_MS: i64 = 60_000;
/// Time zones differ from UTC by a multiple of this…
const ZONE_STEP_MS: i64 = 15 * MINUTE_MS;
/// …from twelve hours less to fourteen hours more.
const ZONE_MIN_MS: i64 = -12 * 60 * MINUTE_MS;
const ZONE_MAX_MS: i64 = 14 * 60 * MINUTE_MS;

/// A call's proof, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature<'a> {
    /// The user's name.
    pub(crate) access_key: &'a str,
    bytes: [u8; SHA1_BYTES],
}

impl<'a> Signature<'a> {
    /// Reads the metadata `authorization`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let (algorithm, rest) = text.split_once(' ').ok_or("expected an algorithm and its parts".to_owned())?;
        if algorithm != ALGORITHM {
            return Err(format!("algorithm {algorithm:?}: expected {ALGORITHM}"));
        }
        let (mut credential, mut headers, mut hex) = (None, None, None);
        for part in rest.split(',').map(str::trim) {
            match part.split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => headers = Some(value),
                Some(("Signature", value)) => hex = Some(value),
                _ => {}
            }
        }
        // Behind a slash some clients name a region and a service.
        let access_key = credential.and_then(|credential| credential.split('/').next()).unwrap_or_default();
        if access_key.is_empty() {
            return Err("expected Credential=ACCESS_KEY".to_owned());
        }
        if headers != Some(DATE_TIME) {
            return Err(format!("SignedHeaders={}: expected {DATE_TIME}", headers.unwrap_or_default()));
        }
        let bytes = hex.and_then(from_hex).ok_or("expected Signature= and 40 hexadecimal digits".to_owned())?;
        Ok(Self { access_key, bytes })
    }

    /// Whether it was made with this secret. Takes as long for a wrong one as for the right one.
    pub(crate) fn is_of(&self, secret: &str, date_time: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        hmac::verify(&key, date_time.as_bytes(), &self.bytes).is_ok()
    }
}

fn from_hex(text: &str) -> Option<[u8; SHA1_BYTES]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 2 * SHA1_BYTES { bytes.try_into().ok() } else { None }
}

/// When a call was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignedAt {
    /// Milliseconds since the epoch, if the time is UTC.
    utc_ms: i64,
    /// Whether the text may be local time all the same.
    may_be_local: bool,
}

impl SignedAt {
    /// Reads either form; `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let compact = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
        if compact && text.is_ascii() {
            let utc_ms = ms_of([&text[..4], &text[4..6], &text[6..8], &text[9..11], &text[11..13], &text[13..15]])?;
            return Some(Self { utc_ms, may_be_local: true });
        }
        let is_long = text.is_ascii() && text.len() >= 20 && matches!(text.as_bytes()[10], b'T' | b't' | b' ');
        if !is_long {
            return None;
        }
        let local_ms = ms_of([&text[..4], &text[5..7], &text[8..10], &text[11..13], &text[14..16], &text[17..19]])?;
        let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        Some(Self { utc_ms: local_ms - zone_ms(zone)?, may_be_local: false })
    }

    /// Whether it lies within `age_ms_max` of now; with `any_zone` in some time zone, when it may be local time.
    pub(crate) fn is_recent(self, now_ms: i64, age_ms_max: i64, any_zone: bool) -> bool {
        let age_ms = now_ms.saturating_sub(self.utc_ms);
        let ahead_ms = match any_zone && self.may_be_local {
            // The zone that makes it most recent.
            true => {
                let steps = (-age_ms).saturating_add(ZONE_STEP_MS / 2).div_euclid(ZONE_STEP_MS);
                steps.saturating_mul(ZONE_STEP_MS).clamp(ZONE_MIN_MS, ZONE_MAX_MS)
            }
            false => 0,
        };
        age_ms.saturating_add(ahead_ms).saturating_abs() <= age_ms_max
    }
}

/// `Z`, `+08:00`.
fn zone_ms(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    Some(sign * (number(hours, 0, 23)? * 60 + number(minutes, 0, 59)?) * MINUTE_MS)
}

fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && (min..=max).contains(number))
}

/// Year, month, day, hour, minute, second.
fn ms_of(parts: [&str; 6]) -> Option<i64> {
    let (year, month, day) = (number(parts[0], 1970, 9999)?, number(parts[1], 1, 12)?, number(parts[2], 1, 31)?);
    let (hour, minute, second) = (number(parts[3], 0, 23)?, number(parts[4], 0, 59)?, number(parts[5], 0, 60)?);
    // The year begins in March, so that a leap day is its last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - DAYS_TO_1970;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

/// From March 1 of the year 0 to January 1, 1970.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret `12345678` and the time `20231227T194619Z`; made with OpenSSL.
    const HEX: &str = "b78a646b41b898e9a4b565927a888b247ea32e86";

    fn text(hex: &str) -> String {
        format!("MQv2-HMAC-SHA1 Credential=abc, SignedHeaders=x-mq-date-time, Signature={hex}")
    }

    #[test]
    fn every_client_has_its_way_to_write_a_signature() {
        let upper = HEX.to_uppercase();
        for given in [
            text(HEX),
            text(&upper),
            text(HEX).replace("abc", "abc/region/service"),
            text(HEX).replace("abc", "abc//Rocketmq"),
            text(HEX).replace(", ", ","),
        ] {
            let signature = Signature::parse(&given).unwrap();
            assert_eq!(signature.access_key, "abc", "{given}");
            assert!(signature.is_of("12345678", "20231227T194619Z"), "{given}");
            assert!(!signature.is_of("12345679", "20231227T194619Z"));
            assert!(!signature.is_of("12345678", "20231227T194620Z"));
        }
    }

    #[test]
    fn what_is_no_signature_is_named() {
        for (given, expected) in [
            (String::new(), "an algorithm"),
            ("Basic dXNlcg==".to_owned(), "Basic"),
            (text(HEX).replace("MQv2", "MQv3"), "MQv3"),
            (text(HEX).replace("abc", ""), "Credential"),
            (text(HEX).replace("Credential", "Cred"), "Credential"),
            (text(HEX).replace("x-mq-date-time", "x-mq-date"), "SignedHeaders"),
            (text(""), "40 hexadecimal"),
            (text(&HEX[1..]), "40 hexadecimal"),
            (text(&format!("{HEX}00")), "40 hexadecimal"),
            (text(&HEX.replace('b', "g")), "40 hexadecimal"),
            (text(&HEX.replace('b', "é")), "40 hexadecimal"),
        ] {
            let error = Signature::parse(&given).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (text, expected) in [
            ("19700101T000000Z", Some(0)),
            ("20231227T194619Z", Some(1_703_706_379_000)),
            ("20240229T000000Z", Some(1_709_164_800_000)),
            ("2023-12-27T19:46:19Z", Some(1_703_706_379_000)),
            ("2023-12-27T19:46:19.123456789Z", Some(1_703_706_379_000)),
            ("2023-12-28T03:46:19.1+08:00", Some(1_703_706_379_000)),
            ("2023-12-27T14:16:19-05:30", Some(1_703_706_379_000)),
            ("20231327T194619Z", None),
            ("2023122xT194619Z", None),
            ("20231227T19461+Z", None),
            ("2023-12-27T19:46:19", None),
            ("2023-12-27T19:46:19+8", None),
            ("2023-12-27T19:46:19é", None),
            ("", None),
        ] {
            assert_eq!(SignedAt::parse(text).map(|at| at.utc_ms), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_recent_in_utc_or_in_some_time_zone() {
        const NOW: i64 = 1_703_706_379_000;
        let minutes = |minutes: i64| SignedAt { utc_ms: NOW - minutes * MINUTE_MS, may_be_local: true };
        // Age in minutes; whether it is recent to UTC's minute; to the minute of any zone.
        for (age, utc, any) in [
            (0, true, true),
            (1, true, true),
            (-1, true, true),
            (3, false, false),
            (8 * 60, false, true),
            (-8 * 60, false, true),
            (-(5 * 60 + 45), false, true),
            (-(5 * 60 + 44), false, true),
            (-(5 * 60 + 40), false, false),
            (12 * 60 + 1, false, true),
            (12 * 60 + 15, false, false),
            (-14 * 60, false, true),
            (-15 * 60, false, false),
            (48 * 60, false, false),
        ] {
            let at = minutes(age);
            assert_eq!(at.is_recent(NOW, MINUTE_MS, false), utc, "{age} UTC");
            assert_eq!(at.is_recent(NOW, MINUTE_MS, true), any, "{age} in any zone");
            let exact = SignedAt { may_be_local: false, ..at };
            assert_eq!(exact.is_recent(NOW, MINUTE_MS, true), utc, "{age} with a zone of its own");
        }
    }
}

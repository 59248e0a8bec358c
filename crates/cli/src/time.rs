//! Points in time on the command line: RFC 3339, or milliseconds since the epoch.

use anyhow::{Context, ensure};

const MS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since the epoch of `2026-11-23T10:00:00Z`, `2026-11-23T11:00:00.5+01:00` or `1795428000000`.
///
/// # Errors
/// Neither form, with what was expected.
pub(crate) fn parse_ms(text: &str) -> anyhow::Result<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        ensure!(ms >= 0, "{text:?}: expected milliseconds since 1970, at least 0");
        return Ok(ms);
    }
    rfc3339_ms(text)
        .with_context(|| format!("{text:?}: expected a time such as 2026-11-23T10:00:00Z, or milliseconds since 1970"))
}

fn rfc3339_ms(text: &str) -> Option<i64> {
    if !text.is_ascii() || text.len() < "2026-11-23T10:00:00Z".len() {
        return None;
    }
    let (date, rest) = text.split_at(10);
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        // A leap second counts as the first of the next minute.
        && second <= 60;
    if !in_range {
        return None;
    }
    let (fraction_ms, zone) = match rest.strip_prefix('.') {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    let of_day_ms = ((hour * 60 + minute) * 60 + second) * 1000 + fraction_ms;
    let ms = days_since_epoch(year, month, day) * MS_PER_DAY + of_day_ms - zone_ms(zone)?;
    (ms >= 0).then_some(ms)
}

/// Digits after the point, as milliseconds (further digits are cut), and what follows them.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let ms: String = digits.chars().chain("000".chars()).take(3).collect();
    (!digits.is_empty()).then_some((ms.parse().ok()?, rest))
}

/// How far a zone is ahead of UTC.
fn zone_ms(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next()? {
        'Z' | 'z' if zone.len() == 1 => return Some(0),
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

/// Numbers of a fixed number of digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let days_before_year = before * 365 + before / 4 - before / 100 + before / 400;
    let days_before_month: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    // 719,162 days lie before 1970 in this count.
    days_before_year + days_before_month + day - 1 - 719_162
}

/// A time as people read it, in UTC: `2026-11-23T10:00:00.000Z`. What has no year of four digits stays a number.
pub(crate) fn format_ms(ms: i64) -> String {
    let (mut day, of_day_ms) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let mut year = 1970 + day.div_euclid(366);
    if !(1970..9_000).contains(&year) {
        return ms.to_string();
    }
    while days_since_epoch(year + 1, 1, 1) <= day {
        year += 1;
    }
    day -= days_since_epoch(year, 1, 1);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let (hour, minute) = (of_day_ms / 3_600_000, of_day_ms / 60_000 % 60);
    let (second, fraction) = (of_day_ms / 1_000 % 60, of_day_ms % 1_000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for ms in [0, 951_782_400_000, 951_868_799_999, 1_795_428_000_500, 4_102_444_799_999, 1_704_067_200_000] {
            assert_eq!(parse_ms(&format_ms(ms)).unwrap(), ms, "{}", format_ms(ms));
        }
        assert_eq!(format_ms(1_795_428_000_500), "2026-11-23T10:00:00.500Z");
        assert_eq!((format_ms(-1), format_ms(i64::MAX)), ("-1".to_owned(), i64::MAX.to_string()));
    }

    #[test]
    fn both_forms_are_understood() {
        for (text, expected) in [
            ("0", 0),
            ("1795428000000", 1_795_428_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-11-23T10:00:00Z", 1_795_428_000_000),
            ("2026-11-23 10:00:00z", 1_795_428_000_000),
            ("2026-11-23T11:00:00.5+01:00", 1_795_428_000_500),
            ("2026-11-23T09:29:59.123456-00:30", 1_795_427_999_123),
        ] {
            assert_eq!(parse_ms(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_an_example() {
        for text in [
            "",
            "-1",
            "yesterday",
            "2026-11-23",
            "2026-11-23T10:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00+1:00",
            "2026-11-23T10:00:00ZZ",
            "1969-12-31T23:59:59Z",
            "２026-11-23T10:00:00Z",
        ] {
            let error = parse_ms(text).expect_err(text).to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
}

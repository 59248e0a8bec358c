//! Zig-zag varints of records, as Protocol Buffers' sint32 and sint64: least significant group of 7 bits first.

/// Reads a 32-bit varint (at most five bytes) and moves `bytes` on; `None` when it is truncated or too long.
pub(crate) fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = u32::try_from(read_u64(bytes, 5)?).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a 64-bit varint (at most ten bytes) and moves `bytes` on; `None` when it is truncated or too long.
pub(crate) fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = read_u64(bytes, 10)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn read_u64(bytes: &mut &[u8], bytes_max: usize) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..bytes_max {
        let byte = *bytes.get(at)?;
        let group = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        // The tenth byte holds one bit only.
        if group.leading_zeros() < shift {
            return None;
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a 32-bit varint.
pub(crate) fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_i64(out, i64::from(value));
}

/// Appends a 64-bit varint.
pub(crate) fn write_i64(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_have_their_protocol_buffers_bytes() {
        for (value, expected) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (63, &[126]), (64, &[128, 1]), (-65, &[129, 1])]
        {
            let mut out = Vec::new();
            write_i32(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn too_long_and_truncated_varints_are_refused() {
        for mut bytes in [&[][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            assert_eq!(read_i32(&mut bytes), None);
        }
        assert_eq!(read_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
    }

    proptest! {
        #[test]
        fn round_trip(wide: i64, narrow: i32) {
            let mut out = Vec::new();
            write_i64(&mut out, wide);
            write_i32(&mut out, narrow);
            let mut rest = &out[..];
            prop_assert_eq!(read_i64(&mut rest), Some(wide));
            prop_assert_eq!(read_i32(&mut rest), Some(narrow));
            prop_assert!(rest.is_empty());
        }
    }
}

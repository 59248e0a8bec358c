//! The shape of each request, and a walk that checks a request against it before kafka-protocol decodes it.
//!
//! kafka-protocol's decoder reserves room for as many array elements as the wire says, so that 12 bytes could ask for
//! hundreds of gigabytes, and an allocation that fails ends the process. The walk refuses a request unless every array
//! fits in the bytes that are left and all arrays and tagged fields together stay below [`ELEMENTS_MAX`]. It reads lengths
//! only and skips what they measure, records included, so it costs next to nothing.
//!
//! Invariant: whatever the walk accepts, the decoder reads at the same positions. A known tagged field must therefore
//! have exactly the size that it claims.

/// Most array elements and tagged fields of one request, all arrays together.
pub(crate) const ELEMENTS_MAX: usize = 200_000;

/// What a field looks like on the wire.
#[derive(Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, nullable or not.
    String,
    /// Bytes or records, nullable or not.
    Bytes,
    /// An array, nullable or not.
    Array(&'static Kind),
    /// A structure.
    Struct(&'static [Field]),
    /// A structure behind a byte that says whether it is there: 1 yes, −1 no.
    NullableStruct(&'static [Field]),
}

/// A field and the versions that have it.
#[derive(Debug)]
pub(crate) struct Field {
    kind: Kind,
    version_min: i16,
    version_max_inclusive: i16,
    tag: Option<u32>,
}

/// A request's shape.
#[derive(Debug)]
pub(crate) struct Shape {
    /// First version with compact lengths and tagged fields.
    pub(crate) flexible_from: i16,
    /// Its fields in order, tagged ones anywhere.
    pub(crate) fields: &'static [Field],
}

/// A field of every version.
pub(crate) const fn field(kind: Kind) -> Field {
    Field { kind, version_min: 0, version_max_inclusive: i16::MAX, tag: None }
}

impl Field {
    /// Only from this version on.
    pub(crate) const fn from(self, version: i16) -> Self {
        let Self { kind, version_max_inclusive, tag, .. } = self;
        Self { kind, version_min: version, version_max_inclusive, tag }
    }

    /// Only up to this version.
    pub(crate) const fn until(self, version_inclusive: i16) -> Self {
        let Self { kind, version_min, tag, .. } = self;
        Self { kind, version_min, version_max_inclusive: version_inclusive, tag }
    }

    /// A tagged field.
    pub(crate) const fn tagged(self, tag: u32) -> Self {
        let Self { kind, version_min, version_max_inclusive, .. } = self;
        Self { kind, version_min, version_max_inclusive, tag: Some(tag) }
    }

    fn is_in(&self, version: i16) -> bool {
        (self.version_min..=self.version_max_inclusive).contains(&version)
    }
}

pub(crate) const BOOL: Kind = Kind::Fixed(1);
pub(crate) const INT8: Kind = Kind::Fixed(1);
pub(crate) const INT16: Kind = Kind::Fixed(2);
pub(crate) const INT32: Kind = Kind::Fixed(4);
pub(crate) const INT64: Kind = Kind::Fixed(8);
pub(crate) const UUID: Kind = Kind::Fixed(16);

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeError {
    /// It ends within a field.
    #[error("ends within a field: {missing} more bytes were expected at byte {position}")]
    Short {
        /// Where.
        position: usize,
        /// How many at least.
        missing: usize,
    },
    /// A length that no writer writes.
    #[error("impossible length {found} at byte {position}")]
    Length {
        /// Where.
        position: usize,
        /// What was found.
        found: i64,
    },
    /// Too many elements.
    #[error("more than {ELEMENTS_MAX} array elements and tagged fields")]
    TooManyElements,
}

/// Checks a body against its shape. Bytes after it are let pass, as Kafka does.
pub(crate) fn check(shape: &Shape, version: i16, body: &[u8]) -> Result<(), ShapeError> {
    let flexible = version >= shape.flexible_from;
    let mut walk = Walk { bytes: body, position: 0, elements_left: ELEMENTS_MAX, flexible, version };
    walk.fields(shape.fields)
}

/// Where the tagged fields that begin at `position` end; for request heads.
pub(crate) fn skip_tagged_fields(bytes: &[u8], position: usize) -> Result<usize, ShapeError> {
    let mut walk = Walk { bytes, position, elements_left: ELEMENTS_MAX, flexible: true, version: 0 };
    walk.tagged_fields(&[])?;
    Ok(walk.position)
}

struct Walk<'a> {
    bytes: &'a [u8],
    position: usize,
    elements_left: usize,
    flexible: bool,
    version: i16,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && f.is_in(version)) {
            self.kind(&field.kind)?;
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), ShapeError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::String => {
                let bytes = if self.flexible { self.compact_length()? } else { self.int16_length()? };
                self.skip(bytes)
            }
            Kind::Bytes => {
                let bytes = if self.flexible { self.compact_length()? } else { self.int32_length()? };
                self.skip(bytes)
            }
            Kind::Array(element) => self.array(element),
            Kind::Struct(fields) => self.fields(fields),
            Kind::NullableStruct(fields) => match self.byte()? {
                1 => self.fields(fields),
                0xff => Ok(()),
                found => Err(ShapeError::Length { position: self.position - 1, found: i64::from(found) }),
            },
        }
    }

    fn array(&mut self, element: &Kind) -> Result<(), ShapeError> {
        let count = if self.flexible { self.compact_length()? } else { self.int32_length()? };
        let left = self.bytes.len() - self.position;
        // Every element takes a byte at least, so a count beyond the bytes that are left cannot be true.
        if count > left {
            return Err(ShapeError::Short { position: self.position, missing: count - left });
        }
        self.count(count)?;
        for _ in 0..count {
            self.kind(element)?;
        }
        Ok(())
    }

    fn tagged_fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        let count = self.uvarint()?;
        for _ in 0..count {
            self.count(1)?;
            let tag = self.uvarint()?;
            let bytes = self.uvarint()? as usize;
            let known = fields.iter().find(|f| f.tag == Some(tag) && f.is_in(self.version));
            let begin = self.position;
            match known {
                None => self.skip(bytes)?,
                Some(field) => {
                    self.kind(&field.kind)?;
                    if self.position - begin != bytes {
                        return Err(ShapeError::Length { position: begin, found: bytes as i64 });
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Result<(), ShapeError> {
        self.elements_left = self.elements_left.checked_sub(elements).ok_or(ShapeError::TooManyElements)?;
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ShapeError> {
        let left = self.bytes.len() - self.position;
        if bytes > left {
            return Err(ShapeError::Short { position: self.position, missing: bytes - left });
        }
        self.position += bytes;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ShapeError> {
        self.skip(1)?;
        Ok(self.bytes[self.position - 1])
    }

    fn int16_length(&mut self) -> Result<usize, ShapeError> {
        let position = self.position;
        self.skip(2)?;
        let found = i16::from_be_bytes(self.bytes[position..position + 2].try_into().expect("two bytes"));
        length(position, i64::from(found))
    }

    fn int32_length(&mut self) -> Result<usize, ShapeError> {
        let position = self.position;
        self.skip(4)?;
        let found = i32::from_be_bytes(self.bytes[position..position + 4].try_into().expect("four bytes"));
        length(position, i64::from(found))
    }

    /// Compact lengths are one more than they mean; 0 means null.
    fn compact_length(&mut self) -> Result<usize, ShapeError> {
        Ok((self.uvarint()? as usize).saturating_sub(1))
    }

    fn uvarint(&mut self) -> Result<u32, ShapeError> {
        let begin = self.position;
        let mut value: u64 = 0;
        for i in 0..5 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| ShapeError::Length { position: begin, found: value as i64 });
            }
        }
        Err(ShapeError::Length { position: begin, found: value as i64 })
    }
}

/// −1 means null.
fn length(position: usize, found: i64) -> Result<usize, ShapeError> {
    match found {
        -1 => Ok(0),
        _ => usize::try_from(found).map_err(|_| ShapeError::Length { position, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        flexible_from: 1,
        fields: &[
            field(Kind::Array(&Kind::Struct(&[field(Kind::String)]))),
            field(INT32).tagged(0),
            field(INT8).from(2),
        ],
    };

    #[test]
    fn counts_that_cannot_be_true_are_refused() {
        for (version, body, expected) in [
            (0, &b"\0\0\0\x01\0\x02ab"[..], Ok(())),
            (0, b"\xff\xff\xff\xff", Ok(())),
            (0, b"\x7f\xff\xff\xff\0\0", Err(ShapeError::Short { position: 4, missing: 0x7fff_ffff - 2 })),
            (0, b"\xff\xff\xff\xfe", Err(ShapeError::Length { position: 0, found: -2 })),
            (1, b"\x02\x03ab\0\0", Ok(())),
            (1, b"\x02\x03ab\0\x01\x00\x04abcd", Ok(())),
            (1, b"\x02\x03ab\0\x01\x00\x05abcde", Err(ShapeError::Length { position: 8, found: 5 })),
            (1, b"\x02\x03ab\0\x01\x09\x02xy", Ok(())),
            (1, b"\xff\xff\xff\xff\x0f", Err(ShapeError::Short { position: 5, missing: u32::MAX as usize - 1 })),
            (1, b"\xff\xff\xff\xff\x1f", Err(ShapeError::Length { position: 0, found: 0x1_ffff_ffff })),
            (2, b"\x01", Err(ShapeError::Short { position: 1, missing: 1 })),
        ] {
            assert_eq!(check(&SHAPE, version, body), expected, "version {version}, {body:?}");
        }
    }

    #[test]
    fn a_great_many_tiny_elements_are_refused() {
        let count = ELEMENTS_MAX + 1;
        let mut body = (count as i32).to_be_bytes().to_vec();
        body.resize(body.len() + 2 * count, 0);
        assert_eq!(check(&SHAPE, 0, &body), Err(ShapeError::TooManyElements));
    }
}

//! key=value text (RFC 7143 6.1): grammar, continuation with the C bit, limits.
//!
//! A sequence of Login or Text PDUs carries `key=value` pairs, each ended by one zero byte, split anywhere over
//! PDUs whose C bit is set. [`Collector`] puts the pieces together, [`parse`] reads the whole, [`TextWriter`] makes
//! the answer and [`Pieces`] cuts it for the peer's MaxRecvDataSegmentLength.
//!
//! Extra zero bytes between pairs are skipped: initiators that count their padding as text exist.

use nom::bytes::complete::{tag, take_till, take_while};
use nom::error::{ErrorKind, ParseError};
use nom::{Finish, IResult};

use crate::limits::{KEY_NAME_MAX, TEXT_PAIRS_MAX, TEXT_SEQUENCE_MAX, VALUE_MAX};

/// "Not offered by this side in this state" (RFC 7143 6.2).
pub const REJECT: &str = "Reject";
/// "Has no meaning in this state" (RFC 7143 6.2).
pub const IRRELEVANT: &str = "Irrelevant";
/// "Key not known here" (RFC 7143 6.2).
pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// "No method" in list-valued keys (RFC 7143 6.2).
pub const NONE: &str = "None";

/// One key and its value as they stand in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Key name, 1 to 63 bytes.
    pub key: &'a str,
    /// Value, possibly empty, not decoded.
    pub value: &'a str,
}

/// Why a text is not key=value text (RFC 7143 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A pair has no `=`.
    #[error("a pair without '='")]
    MissingEquals,
    /// Nothing stands before `=`.
    #[error("an empty key name")]
    EmptyKey,
    /// The key name is longer than 63 bytes.
    #[error("a key name longer than {KEY_NAME_MAX} bytes")]
    KeyTooLong,
    /// The key name has a byte that no key name may have.
    #[error("a byte in a key name that no key name may have")]
    BadKeyByte,
    /// The value is longer than we take.
    #[error("a value longer than {VALUE_MAX} bytes")]
    ValueTooLong,
    /// The value is not UTF-8, or has control characters.
    #[error("a value that is not printable UTF-8")]
    BadValueByte,
    /// The last pair has no zero byte behind it.
    #[error("the last pair is not ended by a zero byte")]
    Unterminated,
    /// More pairs than [`TEXT_PAIRS_MAX`].
    #[error("more than {TEXT_PAIRS_MAX} pairs in a sequence")]
    TooManyPairs,
    /// More text than [`TEXT_SEQUENCE_MAX`] over continued PDUs.
    #[error("more than {TEXT_SEQUENCE_MAX} bytes of text in a sequence")]
    SequenceTooLong,
}

/// Reads a complete text (all pieces put together) into its pairs, in order.
pub fn parse(text: &[u8]) -> Result<Vec<Pair<'_>>, TextError> {
    let mut pairs = Vec::new();
    let mut rest = skip_zeroes(text);
    while !rest.is_empty() {
        if pairs.len() == TEXT_PAIRS_MAX {
            return Err(TextError::TooManyPairs);
        }
        let (after, found) = pair(rest).finish()?;
        pairs.push(found);
        rest = skip_zeroes(after);
    }
    Ok(pairs)
}

/// A numerical-value (RFC 7143 6.1): decimal without leading zeroes, or hexadecimal after `0x`.
pub fn number(value: &str) -> Option<u64> {
    if let Some(digits) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        return if plain {
            u64::from_str_radix(digits, 16).ok()
        } else {
            None
        };
    }
    let plain = value.bytes().all(|b| b.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
    if plain { value.parse().ok() } else { None }
}

/// A boolean-value (RFC 7143 6.1).
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// The word for a boolean-value.
pub fn yes_or_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// An answer under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextWriter {
    bytes: Vec<u8>,
}

impl TextWriter {
    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one pair.
    pub fn put(&mut self, key: &str, value: &str) {
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// True when no pair was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The text as it goes on the wire.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Puts text together that the peer split over PDUs with the C bit (RFC 7143 6.2: the pairs count once the last
/// piece is there).
#[derive(Debug, Default)]
pub struct Collector {
    bytes: Vec<u8>,
}

impl Collector {
    /// Adds the data segment of one PDU.
    pub fn push(&mut self, segment: &[u8]) -> Result<(), TextError> {
        if self.bytes.len() + segment.len() > TEXT_SEQUENCE_MAX {
            return Err(TextError::SequenceTooLong);
        }
        self.bytes.extend_from_slice(segment);
        Ok(())
    }

    /// Takes everything collected and starts afresh.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A text on its way out in pieces that fit the peer's MaxRecvDataSegmentLength.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    sent: usize,
}

impl Pieces {
    /// The whole text, nothing of it sent.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }

    /// The next piece of at most `limit` bytes; empty when all is sent.
    pub fn next_piece(&mut self, limit: usize) -> Vec<u8> {
        let end = self.bytes.len().min(self.sent.saturating_add(limit.max(1)));
        let piece = self.bytes[self.sent..end].to_vec();
        self.sent = end;
        piece
    }

    /// True while pieces remain: the piece just taken needs the C bit.
    pub fn more(&self) -> bool {
        self.sent < self.bytes.len()
    }
}

fn skip_zeroes(text: &[u8]) -> &[u8] {
    let zeroes = text.iter().take_while(|&&b| b == 0).count();
    &text[zeroes..]
}

fn pair(input: &[u8]) -> IResult<&[u8], Pair<'_>, TextError> {
    let (input, key) = key(input)?;
    let (input, _) = tag("=")(input).map_err(|_: nom::Err<TextError>| fail(TextError::MissingEquals))?;
    let (input, value) = value(input)?;
    let (input, _) = tag("\0")(input).map_err(|_: nom::Err<TextError>| fail(TextError::Unterminated))?;
    Ok((input, Pair { key, value }))
}

fn key(input: &[u8]) -> IResult<&[u8], &str, TextError> {
    let (rest, name) = take_while(is_key_byte)(input)?;
    match rest.first() {
        Some(b'=') if name.is_empty() => return Err(fail(TextError::EmptyKey)),
        Some(b'=' | 0) | None => {}
        Some(_) => return Err(fail(TextError::BadKeyByte)),
    }
    if name.len() > KEY_NAME_MAX {
        return Err(fail(TextError::KeyTooLong));
    }
    let name = std::str::from_utf8(name).map_err(|_| fail(TextError::BadKeyByte))?;
    Ok((rest, name))
}

fn value(input: &[u8]) -> IResult<&[u8], &str, TextError> {
    let (rest, value) = take_till(|b| b == 0)(input)?;
    if value.len() > VALUE_MAX {
        return Err(fail(TextError::ValueTooLong));
    }
    let value = std::str::from_utf8(value).map_err(|_| fail(TextError::BadValueByte))?;
    if value.chars().any(char::is_control) {
        return Err(fail(TextError::BadValueByte));
    }
    Ok((rest, value))
}

/// Bytes of a standard-label, and `#` and `/` of extension keys (RFC 7143 6.1, 13.22).
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_#/".contains(&byte)
}

fn fail(error: TextError) -> nom::Err<TextError> {
    nom::Err::Failure(error)
}

impl ParseError<&[u8]> for TextError {
    /// The parsers above name their own failures; what nom itself reports can only be an early end.
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Unterminated
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(text: &[u8]) -> Vec<(&str, &str)> {
        parse(text).unwrap().iter().map(|p| (p.key, p.value)).collect()
    }

    #[test]
    fn pairs_stand_in_order_and_values_may_hold_anything_but_zero() {
        let text = b"InitiatorName=iqn.1993-08.org.debian:01:a=b\0X-com.a#1=\0SendTargets=All\0";
        let expected = vec![
            ("InitiatorName", "iqn.1993-08.org.debian:01:a=b"),
            ("X-com.a#1", ""),
            ("SendTargets", "All"),
        ];
        assert_eq!(keys(text), expected);
    }

    #[test]
    fn padding_counted_as_text_is_skipped() {
        assert_eq!(keys(b"\0\0A=1\0\0\0\0B=2\0\0"), vec![("A", "1"), ("B", "2")]);
        assert_eq!(keys(b""), vec![]);
    }

    #[test]
    fn every_malformed_text_has_its_name() {
        let long_key = [vec![b'k'; KEY_NAME_MAX + 1], b"=1\0".to_vec()].concat();
        let long_value = [b"k=".to_vec(), vec![b'v'; VALUE_MAX + 1], vec![0]].concat();
        let many = b"k=v\0".repeat(TEXT_PAIRS_MAX + 1);
        let cases: [(&[u8], TextError); 10] = [
            (b"Lonely\0", TextError::MissingEquals),
            (b"Lonely", TextError::MissingEquals),
            (b"=1\0", TextError::EmptyKey),
            (&long_key, TextError::KeyTooLong),
            (b"a b=1\0", TextError::BadKeyByte),
            (&long_value, TextError::ValueTooLong),
            (b"a=\xff\0", TextError::BadValueByte),
            (b"a=b\n\0", TextError::BadValueByte),
            (b"a=b", TextError::Unterminated),
            (&many, TextError::TooManyPairs),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_nothing_else() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("262144"), Some(262_144));
        assert_eq!(number("0x40000"), Some(262_144));
        assert_eq!(number("0XfF"), Some(255));
        for wrong in [
            "",
            "007",
            "-1",
            "+1",
            "1 ",
            "0x",
            "0x+1",
            "1e3",
            "99999999999999999999",
        ] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_collected_sequence_is_bounded() {
        let mut collector = Collector::default();
        for _ in 0..8 {
            collector.push(&[b'a'; 8192]).unwrap();
        }
        assert_eq!(collector.push(b"a"), Err(TextError::SequenceTooLong));
        assert_eq!(collector.take().len(), TEXT_SEQUENCE_MAX);
        assert!(collector.is_empty());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_split_and_collected_reads_the_same(
            pairs in proptest::collection::vec(("[A-Z][A-Za-z0-9.#-]{0,20}", "[ -~]{0,40}"), 0..20),
            limit in 1_usize..64,
        ) {
            let mut writer = TextWriter::new();
            for (key, value) in &pairs {
                writer.put(key, value);
            }
            let mut pieces = Pieces::new(writer.into_bytes());
            let mut collector = Collector::default();
            loop {
                let piece = pieces.next_piece(limit);
                prop_assert!(piece.len() <= limit);
                collector.push(&piece).unwrap();
                if !pieces.more() {
                    break;
                }
            }
            let text = collector.take();
            let read: Vec<_> = parse(&text).unwrap().iter().map(|p| (p.key.to_owned(), p.value.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}

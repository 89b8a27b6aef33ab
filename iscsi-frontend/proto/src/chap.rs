//! CHAP for iSCSI (RFC 7143 12.1.3 and 9.2.1, RFC 1994): algorithms, responses, encodings.
//!
//! The order of the exchange is the login machine's; this module holds what both directions and both ends share.
//! Responses are compared in constant time, secrets are wiped when dropped and never shown by `Debug`.

use std::fmt;

use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use sha3::{Digest, Sha3_256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::limits::CHAP_CHALLENGE_MAX;

/// Bytes of the challenges we make. 64 hexadecimal digits fit every initiator's buffer.
pub const CHALLENGE_LENGTH: usize = 32;

/// Random bytes that one CHAP direction needs: the challenge and its identifier.
pub const ENTROPY_LENGTH: usize = CHALLENGE_LENGTH + 1;

/// A hash of the CHAP_A registry (RFC 7143 12.1.3 and IANA "PPP Authentication Algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// MD5, the only one RFC 7143 requires.
    Md5 = 5,
    /// SHA-1.
    Sha1 = 6,
    /// SHA-256.
    Sha256 = 7,
    /// SHA3-256.
    Sha3_256 = 8,
}

impl Algorithm {
    /// Strongest first: the order in which a list of the peer is searched by default.
    pub const PREFERENCE: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The algorithm of that number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::PREFERENCE
            .into_iter()
            .find(|algorithm| u64::from(algorithm.number()) == number)
    }

    /// Its number in CHAP_A.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Bytes of a response.
    pub fn response_length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The first of `preference` that stands in the peer's list `offered` (a CHAP_A value). Numbers we do not know
    /// are passed over; "56" is one number, not a 5.
    pub fn choose(offered: &str, preference: &[Self]) -> Option<Self> {
        let known: Vec<_> = offered
            .split(',')
            .filter_map(crate::text::number)
            .filter_map(Self::from_number)
            .collect();
        preference
            .iter()
            .copied()
            .find(|algorithm| known.contains(algorithm))
    }
}

/// A CHAP secret.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes of a secret. RFC 7143 9.2.1 wants 96 bits or more of them; the configuration checks that.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// True when both are the same secret, in time that does not depend on where they differ.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }

    /// The response to a challenge: hash of identifier, secret, challenge (RFC 1994 4.1).
    pub fn response(&self, algorithm: Algorithm, identifier: u8, challenge: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::Md5 => self.hashed::<Md5>(identifier, challenge),
            Algorithm::Sha1 => self.hashed::<Sha1>(identifier, challenge),
            Algorithm::Sha256 => self.hashed::<Sha256>(identifier, challenge),
            Algorithm::Sha3_256 => self.hashed::<Sha3_256>(identifier, challenge),
        }
    }

    fn hashed<D: Digest>(&self, identifier: u8, challenge: &[u8]) -> Vec<u8> {
        let mut hash = D::new();
        hash.update([identifier]);
        hash.update(self.0.as_slice());
        hash.update(challenge);
        hash.finalize().to_vec()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A name and the secret that goes with it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CHAP name, taken literally whatever it starts with.
    pub name: String,
    /// Its secret.
    pub secret: Secret,
}

/// What one side asks of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// CHAP_I.
    pub identifier: u8,
    /// CHAP_C.
    pub bytes: Vec<u8>,
}

impl Challenge {
    /// A challenge of our own from random bytes.
    pub fn from_entropy(entropy: &[u8; ENTROPY_LENGTH]) -> Self {
        Self {
            identifier: entropy[CHALLENGE_LENGTH],
            bytes: entropy[..CHALLENGE_LENGTH].to_vec(),
        }
    }

    /// The peer's challenge from its CHAP_I and CHAP_C.
    pub fn decode(identifier: &str, challenge: &str) -> Result<Self, ChapError> {
        let identifier = crate::text::number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(ChapError::BadIdentifier)?;
        let bytes = decode_binary(challenge).ok_or(ChapError::BadEncoding)?;
        if bytes.is_empty() || bytes.len() > CHAP_CHALLENGE_MAX {
            return Err(ChapError::BadChallengeLength);
        }
        Ok(Self { identifier, bytes })
    }

    /// True when `name` and `response` (a CHAP_R value, decoded) answer this challenge for one of `accepted`.
    /// Every entry is tried whatever the others gave, so that time tells nothing of which one fits.
    pub fn answered_by(
        &self,
        algorithm: Algorithm,
        accepted: &[Credentials],
        name: &str,
        response: &[u8],
    ) -> bool {
        let mut fits = Choice::from(0);
        for credentials in accepted {
            let expected = credentials
                .secret
                .response(algorithm, self.identifier, &self.bytes);
            fits |= credentials.name.as_bytes().ct_eq(name.as_bytes()) & expected.ct_eq(response);
        }
        fits.into()
    }
}

/// What is wrong with a CHAP value (RFC 7143 12.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    /// CHAP_I is not a number of one byte.
    #[error("CHAP_I is not a number from 0 to 255")]
    BadIdentifier,
    /// CHAP_C or CHAP_R is neither hexadecimal nor base64.
    #[error("a binary CHAP value is neither hexadecimal (0x) nor base64 (0b)")]
    BadEncoding,
    /// CHAP_C has no bytes or more than 1024.
    #[error("CHAP_C is not 1 to {CHAP_CHALLENGE_MAX} bytes long")]
    BadChallengeLength,
    /// CHAP_R has not the length of the hash.
    #[error("CHAP_R has not the length of the hash")]
    BadResponseLength,
}

/// Decodes a CHAP_R value for `algorithm`.
pub fn decode_response(algorithm: Algorithm, value: &str) -> Result<Vec<u8>, ChapError> {
    let bytes = decode_binary(value).ok_or(ChapError::BadEncoding)?;
    if bytes.len() == algorithm.response_length() {
        Ok(bytes)
    } else {
        Err(ChapError::BadResponseLength)
    }
}

/// A binary-value as hexadecimal, the form every peer reads.
pub fn encode_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("0x");
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing to a String cannot fail");
    }
    out
}

/// A binary-value (RFC 7143 6.1): hexadecimal after `0x`, base64 after `0b`.
pub fn decode_binary(value: &str) -> Option<Vec<u8>> {
    match value.get(..2)? {
        "0x" | "0X" => decode_hex(&value.as_bytes()[2..]),
        "0b" | "0B" => decode_base64(&value.as_bytes()[2..]),
        _ => None,
    }
}

/// An odd number of digits has a leading zero left out, as in any number.
fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let (head, rest) = digits.split_at(digits.len() % 2);
    let mut out = Vec::with_capacity(digits.len() / 2 + 1);
    if let Some(digit) = head.first() {
        out.push(nibble(digit)?);
    }
    for pair in rest.chunks_exact(2) {
        out.push(nibble(&pair[0])? << 4 | nibble(&pair[1])?);
    }
    Some(out)
}

/// RFC 4648 4, padding optional, unused bits zero.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    if unpadded.len() % 4 == 1 || (unpadded.len() != text.len() && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut out = Vec::with_capacity(unpadded.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for &letter in unpadded {
        bits = bits << 6 | u32::from(sextet(letter)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(out)
}

fn sextet(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_over_identifier_secret_challenge_in_that_order() {
        // The hashes of the bytes "1abc", computed elsewhere; identifier '1', secret "ab", challenge "c".
        let secret = Secret::new(*b"ab");
        let md5 = secret.response(Algorithm::Md5, b'1', b"c");
        let sha1 = secret.response(Algorithm::Sha1, b'1', b"c");
        assert_eq!(encode_hex(&md5), "0xe511341dc05782269d3d859b5ff3939b");
        assert_eq!(encode_hex(&sha1), "0x61ad43d75ba33f5f8a8956ad2118d0b62f840fa2");
        let sha256 = secret.response(Algorithm::Sha256, b'1', b"c");
        let sha3 = secret.response(Algorithm::Sha3_256, b'1', b"c");
        assert_eq!(
            encode_hex(&sha256),
            "0x57cb980e41933ae69e22f0a76bb5a0b55717af4fb2816e0431f31b3afe79eb5e"
        );
        assert_eq!(
            encode_hex(&sha3),
            "0x3aabdbe970858129869cdc5ad254e72ca56a845c31dfb254f13daab331734620"
        );
        for algorithm in Algorithm::PREFERENCE {
            assert_eq!(
                secret.response(algorithm, 1, b"c").len(),
                algorithm.response_length()
            );
        }
    }

    #[test]
    fn the_algorithm_comes_from_a_list_in_our_order() {
        use Algorithm::{Md5, Sha1, Sha3_256, Sha256};
        assert_eq!(
            Algorithm::choose("5,6,7,8", &Algorithm::PREFERENCE),
            Some(Sha3_256)
        );
        assert_eq!(Algorithm::choose("5,7", &Algorithm::PREFERENCE), Some(Sha256));
        assert_eq!(Algorithm::choose("7,5", &[Md5, Sha1]), Some(Md5));
        for none in ["", "56", "9", "5x", "None", "8"] {
            assert_eq!(Algorithm::choose(none, &[Md5, Sha1]), None, "{none}");
        }
    }

    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(decode_binary("0x0102fF"), Some(vec![1, 2, 255]));
        assert_eq!(decode_binary("0X102"), Some(vec![1, 2]));
        assert_eq!(decode_binary("0bAQL/"), Some(vec![1, 2, 255]));
        assert_eq!(decode_binary("0BAQI="), Some(vec![1, 2]));
        assert_eq!(decode_binary("0bAQI"), Some(vec![1, 2]));
        assert_eq!(decode_binary("0bAQ=="), Some(vec![1]));
        for wrong in [
            "", "0", "12", "0x1g", "0bA", "0bAQJ=", "0bAQ=", "0bA===", "0bA Q=", "0é",
        ] {
            assert_eq!(decode_binary(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn challenges_have_bounds() {
        let decode = |i: &str, c: &str| Challenge::decode(i, c);
        assert_eq!(
            decode("255", "0x01"),
            Ok(Challenge {
                identifier: 255,
                bytes: vec![1]
            })
        );
        assert_eq!(decode("256", "0x01"), Err(ChapError::BadIdentifier));
        assert_eq!(decode("1", "01"), Err(ChapError::BadEncoding));
        assert_eq!(decode("1", "0x"), Err(ChapError::BadChallengeLength));
        let long = format!("0x{}", "00".repeat(CHAP_CHALLENGE_MAX + 1));
        assert_eq!(decode("1", &long), Err(ChapError::BadChallengeLength));
        assert_eq!(
            decode_response(Algorithm::Md5, "0x01"),
            Err(ChapError::BadResponseLength)
        );
    }

    #[test]
    fn one_of_several_secrets_and_the_literal_name_are_needed() {
        let challenge = Challenge::from_entropy(&[7; ENTROPY_LENGTH]);
        let of = |name: &str, secret: &str| Credentials {
            name: name.into(),
            secret: Secret::new(secret),
        };
        let accepted = [of("0xabcd", "old secret 1234"), of("0xabcd", "new secret 1234")];
        let answer = |secret: &str| Secret::new(secret).response(Algorithm::Sha256, 7, &[7; 32]);
        let fits = |name: &str, secret: &str| {
            challenge.answered_by(Algorithm::Sha256, &accepted, name, &answer(secret))
        };
        assert!(fits("0xabcd", "old secret 1234") && fits("0xabcd", "new secret 1234"));
        assert!(!fits("0xABCD", "old secret 1234") && !fits("0xabcd", "another secret"));
        assert!(!challenge.answered_by(Algorithm::Sha256, &[], "0xabcd", &answer("old secret 1234")));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = Credentials {
            name: "a".into(),
            secret: Secret::new("hidden"),
        };
        assert!(!format!("{credentials:?}").contains("hidden"));
        assert!(Secret::new("a").same_as(&Secret::new("a")) && !Secret::new("a").same_as(&Secret::new("ab")));
    }

    proptest! {
        #[test]
        fn hexadecimal_goes_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode_binary(&encode_hex(&bytes)), Some(bytes));
        }

        #[test]
        fn decoding_never_panics(value in "0[xXbB]?.{0,40}") {
            let _ = decode_binary(&value);
        }
    }
}

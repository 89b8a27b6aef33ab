//! Bounds on everything a peer can make us hold, repeat or wait for before full feature phase.
//!
//! RFC 7143 6.1 asks for at least 8 KiB of key=value text per negotiation sequence and 64 KiB where authentication
//! needs it. The larger one is taken for both, and nothing below grows with what the peer sends.

use std::time::Duration;

/// Time a connection has from being accepted until full feature phase, by default (RFC 7143 6.3: the login phase
/// must end within a reasonable time). Passed to the login machine, so a caller may choose another.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Login Requests of one login phase. Four are usual; the rest is room for text split with the C bit.
pub const LOGIN_EXCHANGES_MAX: u32 = 64;

/// Bytes of text collected over PDUs with the C bit set (RFC 7143 6.1).
pub const TEXT_SEQUENCE_MAX: usize = 64 * 1024;

/// Bytes of text in one PDU before the peer has declared another limit (RFC 7143 13.12, the default).
pub const TEXT_SEGMENT_DEFAULT: usize = 8192;

/// key=value pairs in one sequence. All keys of the RFCs together are fewer than 60.
pub const TEXT_PAIRS_MAX: usize = 256;

/// Bytes of a key name (RFC 7143 6.1).
pub const KEY_NAME_MAX: usize = 63;

/// Bytes of a value. The 255 of RFC 7143 6.1 hold for simple values before encoding; lists and encoded binary
/// values are longer.
pub const VALUE_MAX: usize = 8192;

/// Keys we do not know, remembered over one negotiation so that a repetition is noticed.
pub const UNKNOWN_KEYS_MAX: usize = 256;

/// Bytes of an iSCSI name (RFC 7143 4.2.7.1).
pub const NAME_MAX: usize = 223;

/// Bytes of a CHAP challenge (RFC 7143 12.1.3).
pub const CHAP_CHALLENGE_MAX: usize = 1024;

/// Bytes of a name, alias or address that a side declares (RFC 7143 6.1, a simple value).
pub const DECLARATION_MAX: usize = 255;

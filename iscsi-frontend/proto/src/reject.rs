//! Reject (RFC 7143 11.17).

//! Bytes to PDUs and back (RFC 7143 11.1, 11.2).

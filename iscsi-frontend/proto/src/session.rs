//! Command and status numbering (RFC 7143 4.2.2).

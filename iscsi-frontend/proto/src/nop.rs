//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19).

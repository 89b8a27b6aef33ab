//! The initiator side of the login phase (RFC 7143 6.3).

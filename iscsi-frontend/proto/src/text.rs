//! key=value text (RFC 7143 6.1): grammar, continuation, limits.

//! Task management functions (RFC 7143 11.5, 11.6).

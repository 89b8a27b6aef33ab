//! Negotiation of keys to effective parameters (RFC 7143 6.2).

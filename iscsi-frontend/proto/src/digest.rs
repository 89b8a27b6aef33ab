//! CRC32C digests (RFC 7143 13.1).

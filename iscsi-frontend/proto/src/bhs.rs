//! Basic header segments: every PDU of RFC 7143 11.2-11.19.

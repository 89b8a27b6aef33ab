//! RFC 7143 as pure machines: framing, negotiation, login, sequencing.

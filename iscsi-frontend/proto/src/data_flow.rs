//! The plan of a data transfer: immediate, unsolicited, solicited, Data-In (RFC 7143 4.2.5, 11.7, 11.8).

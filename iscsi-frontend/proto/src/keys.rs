//! Every key of RFC 7143 13 and RFC 7144 in one table.

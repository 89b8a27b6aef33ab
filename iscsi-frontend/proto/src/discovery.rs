//! SendTargets answers (RFC 7143 Appendix C).

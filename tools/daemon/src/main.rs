//! holdfastd: the Holdfast daemon.
fn main() {}

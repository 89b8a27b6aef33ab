//! Systems over loopback, with certificates of their own.

mod compression;
mod connections;
mod refusals;
mod site;
mod traffic;

//! The bytes of Syncer, defined once: docs/PROTOCOL.md is the normative text, this is the code that mirrors it.
//!
//! [`Reader`] cannot panic and copies nothing; [`writer`] appends to a `Vec`. Every length has its limit in
//! [`limits`], every way to fail its variant in [`WireError`] (I-10).

mod error;
pub mod limits;
mod reader;
pub mod writer;

pub use error::WireError;
pub use reader::Reader;

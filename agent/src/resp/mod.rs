//! RESP2 as a client speaks it: requests out, replies in.
//!
//! A codec of our own, for three reasons that the libraries' parsers don't meet together: a reply from a peer is
//! outside input, so nesting, counts and lengths must be limited before anything is allocated or recursed into (I-10);
//! bulk strings must come out as [`Bytes`](bytes::Bytes) that share the read buffer, since frames are passed on as they are; and an
//! incomplete reply must say how many bytes it still needs, so that a 64 MB value is received into one allocation.

mod outgoing;
mod reply;

pub use outgoing::{Decimal, Outgoing};
pub use reply::{Reply, RespError, decode};

//! The pure core of Syncer: no clock, socket, file or random number is read here (I-11).
#![forbid(unsafe_code)]

pub mod clock;
pub mod effect;
pub mod instance;
pub mod keyspace;
pub mod number;
pub mod origin;
pub mod replid;
pub mod timestamp;

//! The pure core of Syncer: no clock, socket, file or random number is read here (I-11).
#![forbid(unsafe_code)]

pub mod backlog;
pub mod clock;
pub mod context;
pub mod decimal;
pub mod digest;
pub mod dot;
pub mod effect;
pub mod glob;
pub mod group;
pub mod hyperloglog;
pub mod instance;
pub mod keyspace;
pub mod list;
pub mod membership;
pub mod memory;
pub mod merge;
pub mod metadata;
pub mod number;
pub mod origin;
pub mod patch;
pub mod record;
pub mod replid;
pub mod report;
pub mod shard;
pub mod slot;
pub mod snapshot;
pub mod stability;
pub mod stream;
pub mod timestamp;
pub mod token;
pub mod wire;

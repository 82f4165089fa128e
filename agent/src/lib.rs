//! The agent of Syncer: one beside each shard, it carries effects from every peer to the local primary.
#![forbid(unsafe_code)]

pub mod config;
pub mod connection;
pub mod protocol;
pub mod resp;
pub mod stream;

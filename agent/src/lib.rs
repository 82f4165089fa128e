//! The agent of Syncer: one beside each shard, it carries effects from every peer to the local primary.
#![forbid(unsafe_code)]

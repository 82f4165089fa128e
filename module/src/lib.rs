//! The Syncer server module: records local writes as effects, keeps the Active-Active backlog and the clocks,
//! merges remote effects into the native dataset, and answers the `SYNCER.*` commands.
//!
//! | module | what is in it |
//! |---|---|
//! | [`redis`] | the module API behind safe types; the only `unsafe` |
//! | [`capture`] | from a local command to effects |
//! | [`load`] | arguments, what the server must offer, registration |
//! | [`commands`] | the `SYNCER.*` commands |
//! | [`snapshot`] | full sync at the source: a forked child and the thread that hands out what it writes |
//! | [`native`] | full sync into an empty instance, at the target: a file comes in and is loaded by the server |
//! | [`durable`] | what of this instance would survive |
//! | [`persist`] | that state in the server's files and native full syncs |
//! | [`state`] | the one global: this server's shard |
//! | [`keyspace`] | the dataset of the server as the merge sees it |

pub mod capture;
pub mod commands;
pub mod durable;
pub mod info;
pub mod keyspace;
pub mod load;
pub mod native;
pub mod persist;
pub mod redis;
pub mod snapshot;
pub mod state;

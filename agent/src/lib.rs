//! The agent of Syncer: one beside each shard, it carries effects from every peer to the local primary.
//!
//! ```text
//!   peer's proxy ◄── READ ── ┌──────────────────────────┐ ── APPLY ──► local primary
//!                ── chunks ─►│ peer: handshake, flow    │◄─ applied ──
//!   peer's proxy ◄─ REPORT ──│ (one task per peer)      │
//!                            │ local: reports, states   │◄─ REPORT ─── local primary
//!                            └──────────────────────────┘
//! ```
//!
//! | module | |
//! |---|---|
//! | [`config`] | flags, file, environment: parsed into a [`config::Config`] |
//! | [`resp`], [`connection`] | RESP2 over TCP or TLS |
//! | [`protocol`] | the data plane's requests and replies, typed |
//! | [`stream`] | the protocol core: no IO, no clock |
//! | [`relay`] | who is asked for the effects of whom: no IO, no clock |
//! | [`finder`] | which server of a site is the primary |
//! | [`denied`] | warns of rights that are missing |
//! | [`outcast`] | whether any peer takes the local server for what it is |
//! | [`headroom`] | warns before a peer needs a full sync |
//! | [`peer`], [`local`], [`run`] | tasks around them |
//! | [`board`] | what the tasks tell each other |
//! | [`stop`] | ending, whatever hangs |
//! | [`status`], [`check`], [`verify`] | the other subcommands |
//!
//! The agent takes no merge decision and keeps no state but snapshots that it brings (I-11, [`spool`]): it may be killed, doubled or moved at any
//! moment. What the local module holds, a position per peer and the clock, says where to go on.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod board;
pub mod check;
pub mod config;
pub mod connection;
pub mod denied;
pub mod finder;
pub mod headroom;
pub mod local;
pub mod membership;
pub mod outcast;
pub mod peer;
pub mod protocol;
pub mod relay;
pub mod resp;
pub mod run;
pub mod spool;
pub mod status;
pub mod stop;
pub mod stream;
pub mod verify;

//! The server's module API behind small safe types: the only place with `unsafe` and raw calls.
//!
//! Everything here runs with the server's lock held, inside a call from the server, unless its documentation
//! says otherwise: on its main thread, or on one of another module's. Types that hold a context or a server object are neither `Send` nor `Sync`.

/// The function pointer of the module API, present since loading checked it (`required.rs`).
macro_rules! api {
    ($name:ident) => {
        match redis_module::raw::$name {
            Some(function) => function,
            None => unreachable!(concat!(stringify!($name), " was checked at load")),
        }
    };
}

#[cfg(not(test))]
mod alloc;
pub mod aux;
pub mod blocked;
pub mod call;
pub mod client;
pub mod command;
pub mod config;
pub mod context;
mod entry;
pub mod event_loop;
pub mod events;
pub mod expiry;
pub mod filter;
pub mod fork;
mod guard;
pub mod info;
pub mod inside;
pub mod key;
pub mod notify;
pub mod passthrough;
mod pubsub;
pub mod rdb;
pub mod reply;
mod required;
pub mod scan;
pub mod server;
pub mod server_local;
mod stream;
pub mod string;
mod text_config;
pub mod timer;

pub use blocked::Blocked;
pub use call::{Element, Reply, call};
pub use command::{Command, CommandResult, Run, entry, register};
pub use context::{Context, ContextFlags, detached, is_handing_over, log, random_bytes};
pub use events::ServerEvent;
pub use expiry::{ExpiryOff, without_expiry};
pub use guard::panics;
pub use key::{EventClass, Key, KeyType, know_encodings, notify, signal_explicitly, signal_modified};
pub use pubsub::publish;
pub use reply::{Answer, Replier};
pub use scan::{KeyScan, Scanned};
pub(crate) use server_local::server_local;
pub use string::{Args, OwnedText, Text};

/// `REDISMODULE_OK` or not.
pub(in crate::redis) fn ok(status: std::ffi::c_int) -> Option<()> {
    (status == redis_module::raw::REDISMODULE_OK as std::ffi::c_int).then_some(())
}

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: alloc::ServerAlloc = alloc::ServerAlloc;

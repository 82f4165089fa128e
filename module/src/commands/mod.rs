//! The `SYNCER.*` commands for users and agents.
//!
//! | for | commands |
//! |---|---|
//! | people | `STATUS`, `PEERS`, `CLOCK`, `AWAIT`, `WAIT`, `KEY`, `DIGEST`, `RESYNC`, `FORGET`, `JOIN`, `HELP` |
//! | agents at a source | `PSYNC`, `READ`, `REPORT`, `SNAPSHOT`, `SPONSOR` |
//! | agents at a target | `PEER`, `APPLY`, `REPORT`, `SYNC` |

mod apply;
mod arguments;
mod assembler;
mod clock;
mod digest;
mod forget;
pub mod headroom;
mod help;
mod join;
mod key;
mod peer;
mod peers;
pub mod progress;
mod psync;
mod read;
pub mod readers;
pub mod report;
mod resync;
mod slices;
mod snapshot;
mod status;
mod sync;
mod sync_file;
pub mod told;
mod turn;
mod twins;
mod wait;
mod waiters;

use crate::redis::Command;

/// Every command of this folder.
pub const COMMANDS: &[Command] = &[
    status::COMMAND,
    peers::COMMAND,
    clock::CLOCK,
    clock::AWAIT,
    wait::COMMAND,
    key::COMMAND,
    digest::COMMAND,
    help::COMMAND,
    psync::COMMAND,
    read::COMMAND,
    report::COMMAND,
    peer::COMMAND,
    apply::COMMAND,
    snapshot::COMMAND,
    sync::COMMAND,
    resync::COMMAND,
    forget::COMMAND,
    join::SPONSOR,
    join::JOIN,
];

/// A client is gone: what it waited for, and where it read, goes too.
pub fn forget(client: u64) {
    readers::forget(client);
    waiters::forget(client);
    digest::forget(client);
    progress::forget(client);
    crate::native::forget(client);
}

//! Full sync into an empty instance, at the target: an RDB file of the source comes in and is loaded by the server itself (DESIGN 5).
//!
//! The file has no name and goes with this process. It is loaded only when it is complete and what the source wrote, since a server ends
//! itself over a damaged one; until then nothing here has changed.

mod spool;
mod swap;

use std::cell::RefCell;

use syncer_shared::instance::InstanceId;

use crate::capture::published;
use crate::keyspace::functions;
use crate::redis::server::{self, Info};
use crate::redis::{Blocked, Context, OwnedText, call, log, random_bytes};
use crate::state;
use spool::Spool;
pub use spool::{Adder, Sum};

/// Why a file does not come in, or is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// It would take the place of something.
    #[error("SYNCERNATIVE this instance is not empty, or has begun to read from others; merge instead")]
    NotEmpty,
    /// No disk space, no rights, ...
    #[error("SYNCERNATIVE no file can be written in the server's folder ({0}); merge instead")]
    File(#[from] std::io::Error),
    /// It has ended, or another one has taken its place.
    #[error("SYNCERSYNC no such file is coming in here; begin anew")]
    Gone,
    /// `SWAP` before `WRITTEN`.
    #[error("SYNCERNATIVE the file is not complete; merge instead")]
    Incomplete,
    /// What the server, or the state in the file, said.
    #[error("SYNCERNATIVE the file was not loaded: {0}; merge instead")]
    NotLoaded(String),
}

/// What goes on.
enum Native {
    /// A file comes in.
    Incoming { token: u64, client: u64, source: InstanceId, spool: Spool },
    /// It is about to be loaded, or is being.
    Loading { token: u64 },
    /// How that went.
    Over { token: u64, error: Option<String> },
}

crate::redis::server_local! {
    static NATIVE: RefCell<Option<Native>> = const { RefCell::new(None) };
}

/// Which files this server reads, as a text: those of a server that says the same. `None` when functions are there that do not travel.
pub fn fingerprint(context: &Context) -> Option<String> {
    let travel = published::wants_functions();
    if !travel && !functions::list(context).is_empty() {
        return None;
    }
    let info = Info::section(context, c"server");
    let (name, version) = match info.text(c"valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", info.text(c"redis_version")?),
    };
    // RDB versions change with the minor version at most.
    let version: Vec<&str> = version.split('.').take(2).collect();
    let (databases, cluster) = (server::databases(context), context.flags().is_cluster());
    let modules = modules(context)?.join(",");
    let version = version.join(".");
    Some(format!("{name} {version}; databases {databases}; cluster {cluster}; functions {travel}; modules {modules}"))
}

/// Their types may be in the file: who lacks one cannot read it.
fn modules(context: &Context) -> Option<Vec<String>> {
    let reply = call(context, c"MODULE", &[OwnedText::new(b"LIST").text()]);
    let list = reply.root()?;
    let mut modules = Vec::new();
    for at in 0..list.len() {
        let module = list.get(at)?;
        let field = |name: &[u8]| {
            let at = (0..module.len()).step_by(2).find(|at| module.get(*at).and_then(|e| e.bytes()) == Some(name))?;
            module.get(at + 1)
        };
        let name = String::from_utf8_lossy(field(b"name")?.bytes()?).into_owned();
        modules.push(format!("{name} {}", field(b"ver")?.integer()?));
    }
    modules.sort();
    Some(modules)
}

/// Whether a file may take the place of all that is here.
fn is_empty(context: &Context) -> bool {
    let is_newcomer = state::shard().is_ok_and(|shard| shard.is_newcomer());
    is_newcomer && server::key_counts(context, server::databases(context)).0 == 0 && functions::list(context).is_empty()
}

/// Whose file can be taken; `None` when it has to be a merge.
pub fn offer(context: &Context) -> Option<String> {
    if is_empty(context) { fingerprint(context) } else { None }
}

/// A file of `source` begins to come in; one that came in before is gone. Returns its token.
///
/// # Errors
/// See [`NativeError`].
pub fn begin(context: &Context, source: InstanceId) -> Result<u64, NativeError> {
    if !is_empty(context) {
        return Err(NativeError::NotEmpty);
    }
    let token = u64::from_be_bytes(random_bytes()) >> 1;
    let spool = Spool::start()?;
    NATIVE.set(Some(Native::Incoming { token, client: context.client(), source, spool }));
    Ok(token)
}

/// The next piece of the file; the client is answered when it is written.
///
/// # Errors
/// [`NativeError::Gone`].
pub fn piece(context: &Context, token: u64, bytes: &[u8]) -> Result<(), NativeError> {
    with_spool(context, token, |spool| spool.write(bytes.to_vec(), Blocked::new(context)))
}

/// That was all; the client is answered when it is known whether it is what the source wrote.
///
/// # Errors
/// [`NativeError::Gone`].
pub fn written(context: &Context, token: u64, sum: Sum) -> Result<(), NativeError> {
    with_spool(context, token, |spool| spool.end(sum, Blocked::new(context)))
}

fn with_spool(context: &Context, token: u64, act: impl FnOnce(&Spool)) -> Result<(), NativeError> {
    NATIVE.with_borrow_mut(|native| match native {
        Some(Native::Incoming { token: known, client, spool, .. }) if *known == token => {
            *client = context.client();
            act(spool);
            Ok(())
        }
        _ => Err(NativeError::Gone),
    })
}

/// Has the file loaded, after what the event loop is doing now; asked again, tells how that went. Whether it is loaded.
///
/// # Errors
/// See [`NativeError`].
pub fn swap(context: &Context, token: u64) -> Result<bool, NativeError> {
    let is_empty = is_empty(context);
    NATIVE.with_borrow_mut(|slot| match slot {
        Some(Native::Over { token: known, error }) if *known == token => {
            error.take().map_or(Ok(true), |error| Err(NativeError::NotLoaded(error)))
        }
        Some(Native::Loading { token: known }) if *known == token => Ok(false),
        Some(Native::Incoming { token: known, source, spool, .. }) if *known == token => {
            if !is_empty {
                *slot = None;
                return Err(NativeError::NotEmpty);
            }
            let file = spool.file().ok_or(NativeError::Incomplete)?;
            swap::schedule(context, file, *source);
            *slot = Some(Native::Loading { token });
            Ok(false)
        }
        _ => Err(NativeError::Gone),
    })
}

/// Whether a file comes in or is loaded: nothing of others is applied meanwhile.
#[must_use]
pub fn is_running() -> bool {
    NATIVE.with_borrow(|native| matches!(native, Some(Native::Incoming { .. } | Native::Loading { .. })))
}

/// Whether it is being loaded.
#[must_use]
pub fn is_loading() -> bool {
    NATIVE.with_borrow(|native| matches!(native, Some(Native::Loading { .. })))
}

/// The client is gone, and with it what it brought.
pub fn forget(client: u64) {
    NATIVE.with_borrow_mut(|slot| {
        if matches!(slot, Some(Native::Incoming { client: bringer, .. }) if *bringer == client) {
            *slot = None;
        }
    });
}

fn over(error: Option<String>) {
    if let Some(error) = &error {
        log::warning(&format!("syncer: full sync: the file was not loaded: {error}; it will be a merge"));
    }
    NATIVE.with_borrow_mut(|slot| {
        if let Some(Native::Loading { token }) = slot {
            *slot = Some(Native::Over { token: *token, error });
        }
    });
}

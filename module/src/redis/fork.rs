//! A forked child: it sees the dataset as it was at one moment, whatever the server goes on to do.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::Context;
use super::ok;

/// A child process of this server. The server has at most one: `BGSAVE` and rewrites of the append-only file wait meanwhile.
#[derive(Debug)]
pub struct Child {
    pid: c_int,
}

/// The server cannot fork now.
#[derive(Debug, thiserror::Error)]
pub enum CannotFork {
    /// It has a child, and never a second one.
    #[error(
        "TRYAGAIN no snapshot can be taken now: another child process of the server runs (BGSAVE, AOF rewrite); it is waited for"
    )]
    HasChild,
    /// For want of memory or processes.
    #[error(
        "TRYAGAIN no snapshot can be taken now: the system lets the server have no child process: {0}; see to free memory, vm.overcommit_memory and the limit of processes"
    )]
    System(std::io::Error),
}

/// Forks. `body` runs in the child, which then ends; whatever it must have is to be made before.
///
/// # Errors
/// [`CannotFork`].
pub fn fork(context: &Context, body: impl FnOnce(&Context) -> Result<(), std::io::Error>) -> Result<Child, CannotFork> {
    if context.flags().has_child() {
        return Err(CannotFork::HasChild);
    }
    // SAFETY: needs no data; the callback lives as long as the module.
    match unsafe { api!(RedisModule_Fork)(Some(done), ptr::null_mut()) } {
        0 => {
            let succeeded = matches!(catch_unwind(AssertUnwindSafe(|| body(context))), Ok(Ok(())));
            // SAFETY: this is the child.
            unsafe { api!(RedisModule_ExitFromChild)(c_int::from(!succeeded)) };
            unreachable!("the child has ended")
        }
        pid if pid > 0 => Ok(Child { pid }),
        _ => Err(CannotFork::System(std::io::Error::last_os_error())),
    }
}

impl Child {
    /// Ends it, if it has not ended.
    pub fn kill(&self) {
        // SAFETY: the server checks whether that is its child.
        let _ = ok(unsafe { api!(RedisModule_KillForkChild)(self.pid) });
    }
}

unsafe extern "C" fn done(_exit_code: c_int, _by_signal: c_int, _data: *mut c_void) {}

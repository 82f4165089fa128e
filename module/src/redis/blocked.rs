//! Clients that wait for their answer while the server goes on.

use std::ptr::{self, NonNull};

use redis_module::raw::RedisModuleBlockedClient;

use super::Context;
use super::reply::Replier;

/// A client whose command is not answered yet. Must be answered or let go; may be moved to another thread for that.
#[must_use]
pub struct Blocked {
    raw: Option<NonNull<RedisModuleBlockedClient>>,
}

// SAFETY: the server allows a blocked client to be answered and unblocked from any thread.
unsafe impl Send for Blocked {}

impl Blocked {
    /// Blocks the client of the current command, which may block ([`super::ContextFlags::denies_blocking`] is
    /// false). Time limits are the caller's affair.
    pub fn new(context: &Context) -> Self {
        // SAFETY: the context is valid. No callbacks: the answer is composed by whoever unblocks; no timeout.
        let raw = unsafe { api!(RedisModule_BlockClient)(context.raw(), None, None, None, 0) };
        Self { raw: NonNull::new(raw) }
    }

    /// Answers and unblocks. On any thread, without the server's lock: the answer is kept with the blocked client
    /// and sent by the main thread. Nothing happens when the client is gone.
    pub fn answer(mut self, compose: impl FnOnce(Replier)) {
        let Some(raw) = self.raw.take() else { return };
        // SAFETY: the handle is valid until unblocked, which happens once, here. A context of a blocked client may
        // be used to reply from any thread.
        unsafe {
            let context = api!(RedisModule_GetThreadSafeContext)(raw.as_ptr());
            compose(Replier::new(context));
            api!(RedisModule_FreeThreadSafeContext)(context);
            api!(RedisModule_UnblockClient)(raw.as_ptr(), ptr::null_mut());
        }
    }
}

impl Drop for Blocked {
    /// Lets go of a client that is gone: its handle must be given back all the same.
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            // SAFETY: the handle is valid until unblocked, which happens once, here.
            unsafe { api!(RedisModule_UnblockClient)(raw.as_ptr(), ptr::null_mut()) };
        }
    }
}

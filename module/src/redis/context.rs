//! The context of a call from the server.

use std::cell::Cell;
use std::ptr::NonNull;

use redis_module::raw;
use redis_module::raw::RedisModuleCtx;

/// What the server hands to a callback; it lives as long as that call. Neither `Send` nor `Sync`: for whoever holds the server's lock.
#[repr(transparent)]
pub struct Context(NonNull<RedisModuleCtx>);

impl Context {
    /// # Safety
    /// `raw` is valid, and used with the server's lock held only, as long as the value lives.
    pub(in crate::redis) unsafe fn new(raw: *mut RedisModuleCtx) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    pub(in crate::redis) fn raw(&self) -> *mut RedisModuleCtx {
        self.0.as_ptr()
    }

    /// The selected logical database.
    #[must_use]
    pub fn db(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_GetSelectedDb)(self.raw()) }.unsigned_abs()
    }

    /// Selects a logical database for this context. False when there is no such database.
    pub fn select(&self, db: u32) -> bool {
        let Ok(db) = i32::try_from(db) else { return false };
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_SelectDb)(self.raw(), db) == raw::REDISMODULE_OK as i32 }
    }

    /// What the server is doing and for whom.
    #[must_use]
    pub fn flags(&self) -> ContextFlags {
        // SAFETY: the context is valid.
        ContextFlags(unsafe { api!(RedisModule_GetContextFlags)(self.raw()) }.cast_unsigned())
    }

    /// The id of the client that runs the command; 0 without one.
    #[must_use]
    pub fn client(&self) -> u64 {
        // SAFETY: the context is valid.
        unsafe { api!(RedisModule_GetClientId)(self.raw()) }
    }
}

crate::redis::server_local! {
    /// Made once at load and never freed.
    static DETACHED: Cell<Option<&'static Context>> = const { Cell::new(None) };
}

/// Makes the context for [`detached`]. Once, at load.
pub(in crate::redis) fn make_detached(context: &Context) {
    // SAFETY: the context is valid; the new one belongs to no client and is valid until freed, which never happens.
    let raw = unsafe { api!(RedisModule_GetDetachedThreadSafeContext)(context.raw()) };
    DETACHED.set(NonNull::new(raw).map(|raw| &*Box::leak(Box::new(Context(raw)))));
}

/// A context that belongs to no call, for entries from the server that bring none. With the server's lock held, after load.
#[must_use]
pub fn detached() -> Option<&'static Context> {
    DETACHED.get()
}

/// Random bytes of the server's generator, for names: not for secrets.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: the array outlives the call.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), N) };
    bytes
}

/// Whether nothing may be replicated now but by clients' commands: the server hands over to a replica, and what a timer added would be
/// lost, or stop it for good.
#[must_use]
pub fn is_handing_over() -> bool {
    // SAFETY: needs nothing; on the main thread.
    unsafe { api!(RedisModule_AvoidReplicaTraffic)() != 0 }
}

/// Answers of `RM_GetContextFlags`.
#[derive(Clone, Copy)]
pub struct ContextFlags(u32);

impl ContextFlags {
    /// Whether the server is a primary.
    #[must_use]
    pub fn is_primary(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_MASTER != 0
    }

    /// Whether a dataset is being loaded (start, full sync, RDB load).
    #[must_use]
    pub fn is_loading(self) -> bool {
        self.0 & (raw::REDISMODULE_CTX_FLAGS_LOADING | raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING) != 0
    }

    /// Whether the server is a node of a cluster.
    #[must_use]
    pub fn is_cluster(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_CLUSTER != 0
    }

    /// Whether the command came in the stream of a primary (or from the AOF).
    #[must_use]
    pub fn is_replicated(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_REPLICATED != 0
    }

    /// A child process of the server runs; there is at most one.
    #[must_use]
    pub fn has_child(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_ACTIVE_CHILD != 0
    }

    /// Whether commands go to an append-only file.
    #[must_use]
    pub fn has_aof(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_AOF != 0
    }

    /// Whether the command is inside MULTI.
    #[must_use]
    pub fn in_multi(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_MULTI != 0
    }

    /// Whether a script or function runs, whoever asks.
    #[must_use]
    pub fn in_script(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_LUA != 0
    }

    /// Whether the client gets RESP3.
    #[must_use]
    pub fn is_resp3(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_RESP3 != 0
    }

    /// Whether the client cannot be blocked (MULTI, script, ...).
    #[must_use]
    pub fn denies_blocking(self) -> bool {
        self.0 & raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING != 0
    }
}

/// The server's log. Needs no context.
pub mod log {
    use std::ffi::{CStr, CString};

    use redis_module::raw;

    fn write(level: &CStr, text: &str) {
        let line = CString::new(text.replace(['\0', '\r', '\n'], " ")).unwrap_or_default();
        // SAFETY: a null context is allowed; the format takes one C string, which outlives the call.
        unsafe {
            if let Some(log) = raw::RedisModule_Log {
                log(std::ptr::null_mut(), level.as_ptr(), c"%s".as_ptr(), line.as_ptr());
            }
        }
    }

    /// Something an operator should know.
    pub fn notice(text: &str) {
        write(c"notice", text);
    }

    /// Something an operator should act on.
    pub fn warning(text: &str) {
        write(c"warning", text);
    }
}

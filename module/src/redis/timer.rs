//! Timers on the main thread.

use std::ffi::c_void;
use std::ptr;

use redis_module::raw::RedisModuleCtx;

use super::Context;
use super::guard::guard;

/// What a timer runs. A type and no value: the server's callback then needs no data.
pub trait Tick {
    /// Runs once.
    fn tick(context: &Context);
}

/// Has `T` run once, in `milliseconds` (0: after what the event loop is doing now).
pub fn start<T: Tick>(context: &Context, milliseconds: u32) {
    // SAFETY: the context is valid; the callback lives as long as the module; there is no data.
    unsafe { api!(RedisModule_CreateTimer)(context.raw(), i64::from(milliseconds), Some(fire::<T>), ptr::null_mut()) };
}

unsafe extern "C" fn fire<T: Tick>(context: *mut RedisModuleCtx, _data: *mut c_void) {
    guard("a timer", (), || {
        // SAFETY: the server passes a valid context for the time of this call.
        if let Some(context) = unsafe { Context::new(context) } {
            T::tick(&context);
        }
    });
}

/// Wall clock as of the start of the current command, Unix milliseconds: what relative TTLs count from.
#[must_use]
pub fn cached_ms() -> u64 {
    // SAFETY: takes nothing.
    u64::try_from(unsafe { api!(RedisModule_CachedMicroseconds)() } / 1000).unwrap_or(0)
}

/// Wall clock now, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    // SAFETY: takes nothing.
    u64::try_from(unsafe { api!(RedisModule_Milliseconds)() }).unwrap_or(0)
}

//! A module that is called as Syncer is and does nothing: a command filter, all keyspace events of writes, one
//! post-notification job for each unit. What a server with it takes more than a stock one is what *being called* costs:
//! no module that must know every write can be below it (docs/BENCHMARKS.md). For the benchmark only.

#![allow(missing_docs, reason = "what the macro makes has none")]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use redis_module::raw::{self, RedisModuleCommandFilterCtx, RedisModuleCtx, RedisModuleString};
use redis_module::{Context, NotifyEvent, RedisString, Status, redis_module};

/// Those that Syncer subscribes to: `CLASSES` in `module/src/redis/notify.rs`.
const CLASSES: c_int = NotifyEvent::ALL.union(NotifyEvent::NEW).bits();

/// Whether the server will call [`at_unit_end`].
static WAITING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn before_command(_: *mut RedisModuleCommandFilterCtx) {}

unsafe extern "C" fn at_event(
    context: *mut RedisModuleCtx,
    _: c_int,
    _: *const c_char,
    _: *mut RedisModuleString,
) -> c_int {
    if !WAITING.swap(true, Ordering::Relaxed) {
        // SAFETY: the server passes a valid context; loaded modules have the whole API.
        unsafe {
            raw::RedisModule_AddPostNotificationJob.map(|add| add(context, Some(at_unit_end), ptr::null_mut(), None))
        };
    }
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn at_unit_end(_: *mut RedisModuleCtx, _: *mut c_void) {
    WAITING.store(false, Ordering::Relaxed);
}

fn listen(context: &Context, _: &[RedisString]) -> Status {
    // SAFETY: the context is valid, and the callbacks live as long as the module, which is never unloaded.
    let listens = unsafe {
        let filter = raw::RedisModule_RegisterCommandFilter.map(|add| add(context.ctx, Some(before_command), 0));
        let events = raw::RedisModule_SubscribeToKeyspaceEvents.map(|add| add(context.ctx, CLASSES, Some(at_event)));
        filter.is_some_and(|filter| !filter.is_null()) && events == Some(raw::REDISMODULE_OK as c_int)
    };
    if listens { Status::Ok } else { Status::Err }
}

redis_module! {
    name: "listener",
    version: 1,
    allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
    data_types: [],
    init: listen,
    commands: [],
}

//! Keyspace events and the post-notification job: what changed, and the moment to act on it.

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::ptr::{self, NonNull};

use redis_module::raw;
use redis_module::raw::{RedisModuleCtx, RedisModuleString};

use super::context::Context;
use super::guard::guard;
use super::string::{Args, Text};
use super::{expiry, ok};
use crate::capture;

/// Every class of events that a change of data can have. Not `LOADED`: its handler gets a key on the stack, which
/// must not be opened (CAPTURE 16). Not `KEY_MISS`: reads.
const CLASSES: c_int = raw::REDISMODULE_NOTIFY_GENERIC
    | raw::REDISMODULE_NOTIFY_STRING
    | raw::REDISMODULE_NOTIFY_LIST
    | raw::REDISMODULE_NOTIFY_SET
    | raw::REDISMODULE_NOTIFY_HASH
    | raw::REDISMODULE_NOTIFY_ZSET
    | raw::REDISMODULE_NOTIFY_EXPIRED
    | raw::REDISMODULE_NOTIFY_EVICTED
    | raw::REDISMODULE_NOTIFY_STREAM
    | raw::REDISMODULE_NOTIFY_MODULE
    | raw::REDISMODULE_NOTIFY_NEW
    | expiry::PRIVATE_CLASS;

/// Subscribes to all changes of data, and to the events that we send ourselves (`expiry.rs`): with one subscription, so
/// that the server tells us nothing of what is done in there.
pub fn subscribe(context: &Context) -> Option<()> {
    // SAFETY: the context is valid; the callback has the signature that the server wants.
    ok(unsafe { api!(RedisModule_SubscribeToKeyspaceEvents)(context.raw(), CLASSES, Some(notified)) })
}

unsafe extern "C" fn notified(
    context: *mut RedisModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut RedisModuleString,
) -> c_int {
    if class == expiry::PRIVATE_CLASS {
        expiry::run_body();
        return raw::REDISMODULE_OK as c_int;
    }
    guard("a keyspace event", (), || {
        // SAFETY: the server passes a valid context, a C string and a key name, which live during this call.
        let (context, event, key) = unsafe {
            let (Some(context), Some(key)) = (Context::new(context), NonNull::new(key)) else { return };
            (context, CStr::from_ptr(event), Text::new(key))
        };
        capture::on_event(&context, event.to_bytes(), key.as_bytes());
    });
    raw::REDISMODULE_OK as c_int
}

/// Has the server run the capture job at the end of the current execution unit, when its state is final and inside
/// the same propagation (CAPTURE 2). `None` when it does not take jobs now: while loading, on a replica.
pub fn add_job(context: &Context) -> Option<()> {
    // SAFETY: the context is valid; there is no data to pass or free.
    ok(unsafe { api!(RedisModule_AddPostNotificationJob)(context.raw(), Some(run_job), ptr::null_mut(), None) })
}

unsafe extern "C" fn run_job(context: *mut RedisModuleCtx, _data: *mut c_void) {
    guard("the capture job", (), || {
        // SAFETY: the server passes a valid context for the time of this call.
        if let Some(context) = unsafe { Context::new(context) } {
            capture::on_unit_end(&context);
        }
    });
}

/// Sends `SYNCER.LOG record` to replicas and the append-only file, within the current propagation unit (I-1).
pub fn replicate_log(context: &Context, record: &[u8]) {
    let (name, format) = (c"syncer.log".as_ptr(), c"b".as_ptr());
    let start: *const c_char = record.as_ptr().cast();
    // SAFETY: the context is valid; format "b" takes an address and a length, whose bytes the server copies.
    unsafe { api!(RedisModule_Replicate)(context.raw(), name, format, start, record.len()) };
}

/// Has replicas and whoever reads the append-only file go on in the database of the context.
pub fn replicate_select(context: &Context) {
    let (name, format) = (c"SELECT".as_ptr(), c"l".as_ptr());
    // SAFETY: the context is valid; format "l" takes a number.
    unsafe { api!(RedisModule_Replicate)(context.raw(), name, format, c_longlong::from(context.db())) };
}

/// Sends `DEL key` to replicas and the append-only file, in the database of the context.
pub fn replicate_del(context: &Context, key: &[u8]) {
    let (name, format) = (c"DEL".as_ptr(), c"b".as_ptr());
    let start: *const c_char = key.as_ptr().cast();
    // SAFETY: the context is valid; format "b" takes an address and a length, whose bytes the server copies.
    unsafe { api!(RedisModule_Replicate)(context.raw(), name, format, start, key.len()) };
}

/// Sends a command to replicas and the append-only file, in the database of the context.
pub fn replicate(context: &Context, args: Args<'_>) {
    let Some(name) = args.bytes(0).and_then(|name| CString::new(name).ok()) else { return };
    let rest = args.from(1);
    // SAFETY: the context and the strings are valid; format "v" takes a vector of strings and its length, of which the server keeps its own.
    unsafe { api!(RedisModule_Replicate)(context.raw(), name.as_ptr(), c"v".as_ptr(), rest.raw(), rest.len()) };
}

/// Passes the current command on to replicas and the append-only file as it came.
pub fn replicate_verbatim(context: &Context) {
    // SAFETY: the context is that of a command.
    unsafe { api!(RedisModule_ReplicateVerbatim)(context.raw()) };
}

/// Replies `OK`.
pub fn reply_ok(context: &Context) {
    // SAFETY: the context is valid.
    unsafe { api!(RedisModule_ReplyWithSimpleString)(context.raw(), c"OK".as_ptr()) };
}

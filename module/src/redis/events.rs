//! Server events: role, loading, flushes, swaps, forks, modules, clients.

use std::ffi::c_void;

use redis_module::raw;
use redis_module::raw::{
    RedisModuleClientInfoV1, RedisModuleCtx, RedisModuleEvent, RedisModuleFlushInfoV1, RedisModuleSwapDbInfoV1,
};
use syncer_shared::effect::FlushScope;

use super::guard::guard;
use super::{Context, ok};
use crate::capture;

/// What the server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// The server is a primary now, or no longer.
    Role {
        /// Primary or replica.
        primary: bool,
    },
    /// A dataset is being loaded, or it no longer is.
    Loading(Load),
    /// Databases are about to be emptied.
    Flush(FlushScope),
    /// Two databases changed places.
    Swap(u32, u32),
    /// A child was forked: a snapshot for a replica or a file may have been taken at this moment.
    Forked,
    /// Modules came or went, and their commands with them.
    Modules,
    /// A client is gone.
    Gone(u64),
}

/// See [`ServerEvent::Loading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A replica keeps its old dataset until the new one is complete; comes before the beginning.
    Swap,
    /// From a file, or what the primary sends.
    Begins {
        /// The latter.
        replication: bool,
    },
    /// It has ended.
    Ends {
        /// Not broken off.
        success: bool,
    },
}

/// Subscribes to all of [`ServerEvent`].
pub fn subscribe(context: &Context) -> Option<()> {
    // As few as will do: at every write the server looks through all of them.
    const EVENTS: [(u64, u64); 8] = [
        (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, 1),
        (raw::REDISMODULE_EVENT_LOADING, 1),
        (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, 1),
        (raw::REDISMODULE_EVENT_FLUSHDB, 1),
        (raw::REDISMODULE_EVENT_SWAPDB, 1),
        (raw::REDISMODULE_EVENT_FORK_CHILD, 1),
        (raw::REDISMODULE_EVENT_MODULE_CHANGE, 1),
        (raw::REDISMODULE_EVENT_CLIENT_CHANGE, 1),
    ];
    EVENTS.iter().try_for_each(|&(id, dataver)| {
        let event = RedisModuleEvent { id, dataver };
        // SAFETY: the context is valid; the callback has the signature that the server wants.
        ok(unsafe { api!(RedisModule_SubscribeToServerEvent)(context.raw(), event, Some(happened)) })
    })
}

unsafe extern "C" fn happened(context: *mut RedisModuleCtx, event: RedisModuleEvent, sub: u64, data: *mut c_void) {
    guard("a server event", (), || {
        // SAFETY: the server passes a valid context, and the data that belongs to the event, during this call.
        unsafe {
            if let (Some(context), Some(event)) = (Context::new(context), decode(event.id, sub, data)) {
                capture::on_server_event(&context, event);
            }
        }
    });
}

/// # Safety
/// `data` is what the server passes with the event.
unsafe fn decode(id: u64, sub: u64, data: *mut c_void) -> Option<ServerEvent> {
    match (id, sub) {
        (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, _) => {
            Some(ServerEvent::Role { primary: sub == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER })
        }
        (raw::REDISMODULE_EVENT_LOADING, _) => Some(ServerEvent::Loading(match sub {
            raw::REDISMODULE_SUBEVENT_LOADING_ENDED => Load::Ends { success: true },
            raw::REDISMODULE_SUBEVENT_LOADING_FAILED => Load::Ends { success: false },
            _ => Load::Begins { replication: sub == raw::REDISMODULE_SUBEVENT_LOADING_REPL_START },
        })),
        (raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD, raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_STARTED) => {
            Some(ServerEvent::Loading(Load::Swap))
        }
        (raw::REDISMODULE_EVENT_FLUSHDB, raw::REDISMODULE_SUBEVENT_FLUSHDB_START) => {
            // SAFETY: the caller's contract: a flush comes with this structure.
            let info = unsafe { data.cast::<RedisModuleFlushInfoV1>().as_ref() }?;
            Some(ServerEvent::Flush(u32::try_from(info.dbnum).map_or(FlushScope::All, FlushScope::Db)))
        }
        (raw::REDISMODULE_EVENT_SWAPDB, _) => {
            // SAFETY: the caller's contract: a swap comes with this structure.
            let info = unsafe { data.cast::<RedisModuleSwapDbInfoV1>().as_ref() }?;
            Some(ServerEvent::Swap(info.dbnum_first.cast_unsigned(), info.dbnum_second.cast_unsigned()))
        }
        (raw::REDISMODULE_EVENT_FORK_CHILD, raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN) => Some(ServerEvent::Forked),
        (raw::REDISMODULE_EVENT_MODULE_CHANGE, _) => Some(ServerEvent::Modules),
        (raw::REDISMODULE_EVENT_CLIENT_CHANGE, raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED) => {
            // SAFETY: the caller's contract: a client comes with this structure.
            let info = unsafe { data.cast::<RedisModuleClientInfoV1>().as_ref() }?;
            Some(ServerEvent::Gone(info.id))
        }
        _ => None,
    }
}

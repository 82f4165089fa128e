//! The end of each turn of the server's event loop: all commands of the turn have run, nothing was sent yet.

use std::cell::Cell;
use std::ffi::c_void;

use redis_module::raw;
use redis_module::raw::{RedisModuleCtx, RedisModuleEvent};

use super::guard::guard;
use super::{Context, ok};

crate::redis::server_local! {
    static SUBSCRIBED: Cell<bool> = const { Cell::new(false) };
}

/// What runs at the end of each turn.
pub trait Turn {
    /// Runs once a turn. Must be quick when there is nothing to do.
    fn turn(context: &Context);
}

/// Has `T` run at the end of each turn, from now on. Only one `T` in the whole module.
pub fn subscribe<T: Turn>(context: &Context) {
    if SUBSCRIBED.replace(true) {
        return;
    }
    let event = RedisModuleEvent { id: raw::REDISMODULE_EVENT_EVENTLOOP, dataver: 1 };
    // SAFETY: the context is valid; the callback has the signature that the server wants.
    let taken = ok(unsafe { api!(RedisModule_SubscribeToServerEvent)(context.raw(), event, Some(turned::<T>)) });
    SUBSCRIBED.set(taken.is_some());
}

unsafe extern "C" fn turned<T: Turn>(context: *mut RedisModuleCtx, _: RedisModuleEvent, sub: u64, _: *mut c_void) {
    if sub != raw::REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP {
        return;
    }
    guard("the event loop", (), || {
        // SAFETY: the server passes a valid context for the time of this call.
        if let Some(context) = unsafe { Context::new(context) } {
            T::turn(&context);
        }
    });
}

//! `RedisModule_OnLoad`: the one symbol that the server looks for.

use std::ffi::c_int;

use redis_module::raw;
use redis_module::raw::{RedisModuleCtx, RedisModuleString};

use super::context::{Context, log, make_detached};
use super::guard::guard;
use super::required::missing_functions;
use super::string::Args;
use crate::load::{LoadError, load};

/// `major * 10000 + minor * 100 + patch` of the module, for `MODULE LIST`.
const VERSION: c_int = 100;

/// Entry from the server.
///
/// # Safety
/// Called by the server with a valid context and arguments, once, on the main thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn RedisModule_OnLoad(
    context: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    const ERR: c_int = raw::REDISMODULE_ERR as c_int;
    // SAFETY: the caller's contract. Nothing is allocated before, since the allocator is the server's.
    let status = unsafe { raw::Export_RedisModule_Init(context, c"syncer".as_ptr(), VERSION, 1) };
    if status == ERR {
        return ERR;
    }
    guard("OnLoad", ERR, || {
        // SAFETY: the caller's contract.
        let (Some(context), args) = (unsafe { (Context::new(context), Args::new(argv, argc)) }) else { return ERR };
        let missing = missing_functions();
        let result = if missing.is_empty() {
            make_detached(&context);
            load(&context, args)
        } else {
            Err(LoadError::Missing(missing))
        };
        match result {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(error) => {
                log::warning(&format!("syncer: not loaded: {error}"));
                ERR
            }
        }
    })
}

//! What the module has in the server's RDB files beside the keys: the *aux* data of a module type.
//!
//! It is written behind the keys, by whoever writes the file (a forked child, `SAVE`, a diskless full sync, the head of an append-only
//! file), and read wherever such a file is read.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::slice;

use redis_module::raw;
use redis_module::raw::{RedisModuleDigest, RedisModuleIO, RedisModuleString, RedisModuleTypeMethods};

use super::Context;
use super::guard::guard;

/// What goes into the files; a type, since the server's callbacks carry no data.
pub trait Aux {
    /// Gives everything to `sink`, in pieces. Nothing at all if there is nothing: such a file can be read without the module.
    fn save(sink: &mut dyn FnMut(&[u8]));
    /// The data of a file begins.
    fn load_begins();
    /// The next piece.
    fn load(piece: &[u8]);
    /// The data is complete, or the file broke off.
    fn load_ends(complete: bool);
}

/// Nine characters, for ever: the server finds by it who reads the data.
const TYPE_NAME: &std::ffi::CStr = c"syncer-aa";
/// What a piece has its own version for (`shared/src/shard/saved`), so this one stays.
const ENCODING: c_int = 0;
const ERR: c_int = raw::REDISMODULE_ERR as c_int;
const OK: c_int = raw::REDISMODULE_OK as c_int;

/// Has `T` in every file from now on. Once, while loading.
pub fn register<T: Aux>(context: &Context) -> Option<()> {
    let mut methods = RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(no_value),
        rdb_save: Some(save_no_value),
        aof_rewrite: Some(rewrite_no_value),
        mem_usage: None,
        digest: Some(digest_no_value),
        free: Some(free_no_value),
        aux_load: Some(load::<T>),
        aux_save: None,
        aux_save_triggers: raw::REDISMODULE_AUX_AFTER_RDB as c_int,
        free_effort: None,
        unlink: None,
        copy: None,
        defrag: None,
        mem_usage2: None,
        free_effort2: None,
        unlink2: None,
        copy2: None,
        aux_save2: Some(save::<T>),
    };
    // SAFETY: the context is valid; the server copies the methods; the callbacks live as long as the module.
    let made =
        unsafe { api!(RedisModule_CreateDataType)(context.raw(), TYPE_NAME.as_ptr(), ENCODING, &raw mut methods) };
    (!made.is_null()).then_some(())
}

unsafe extern "C" fn save<T: Aux>(io: *mut RedisModuleIO, _when: c_int) {
    guard("saving the state", (), || {
        let mut any = false;
        T::save(&mut |piece| {
            any = true;
            // SAFETY: the server passes a valid `io` for this call; it copies the bytes.
            unsafe {
                api!(RedisModule_SaveUnsigned)(io, 1);
                api!(RedisModule_SaveStringBuffer)(io, piece.as_ptr().cast::<c_char>(), piece.len());
            }
        });
        if any {
            // SAFETY: as above.
            unsafe { api!(RedisModule_SaveUnsigned)(io, 0) };
        }
    });
}

unsafe extern "C" fn load<T: Aux>(io: *mut RedisModuleIO, _encoding: c_int, _when: c_int) -> c_int {
    guard("loading the state", ERR, || {
        T::load_begins();
        // SAFETY: the server passes a valid `io` for this call.
        let complete = unsafe { pieces(io, &mut T::load) };
        T::load_ends(complete);
        if complete { OK } else { ERR }
    })
}

/// Whether all pieces came.
///
/// # Safety
/// `io` is valid.
unsafe fn pieces(io: *mut RedisModuleIO, take: &mut dyn FnMut(&[u8])) -> bool {
    // SAFETY: the caller's contract. The string is ours, and freed once.
    unsafe {
        loop {
            let more = api!(RedisModule_LoadUnsigned)(io);
            if api!(RedisModule_IsIOError)(io) != 0 {
                return false;
            }
            if more == 0 {
                return true;
            }
            let mut len = 0;
            let bytes = api!(RedisModule_LoadStringBuffer)(io, &raw mut len);
            if bytes.is_null() || api!(RedisModule_IsIOError)(io) != 0 {
                return false;
            }
            take(slice::from_raw_parts(bytes.cast::<u8>(), len));
            api!(RedisModule_Free)(bytes.cast::<c_void>());
        }
    }
}

// No key ever has this type; the server wants the callbacks all the same.

unsafe extern "C" fn no_value(_: *mut RedisModuleIO, _: c_int) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn save_no_value(_: *mut RedisModuleIO, _: *mut c_void) {}

unsafe extern "C" fn rewrite_no_value(_: *mut RedisModuleIO, _: *mut RedisModuleString, _: *mut c_void) {}

unsafe extern "C" fn digest_no_value(_: *mut RedisModuleDigest, _: *mut c_void) {}

unsafe extern "C" fn free_no_value(_: *mut c_void) {}

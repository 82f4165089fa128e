//! A data type that only this module knows: a set of byte strings. It sends no keyspace events, like many.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use redis_module::native_types::RedisType;
use redis_module::raw::{self, RedisModuleDigest, RedisModuleIO, RedisModuleString};
use redis_module::{Context, NextArg, RedisResult, RedisString, RedisValue};

/// Nine characters, the module's name first.
pub static BAG: RedisType = RedisType::new(
    "other-bag",
    0,
    raw::RedisModuleTypeMethods {
        version: raw::REDISMODULE_TYPE_METHOD_VERSION as u64,
        rdb_load: Some(load),
        rdb_save: Some(save),
        aof_rewrite: Some(rewrite),
        free: Some(free),
        mem_usage: None,
        digest: Some(digest),
        aux_load: None,
        aux_save: None,
        aux_save2: None,
        aux_save_triggers: 0,
        free_effort: None,
        unlink: None,
        copy: Some(copy),
        defrag: None,
        copy2: None,
        free_effort2: None,
        mem_usage2: None,
        unlink2: None,
    },
);

#[derive(Clone, Default)]
struct Bag(BTreeSet<Vec<u8>>);

/// `OTHER.PUT key item`: 1 if it was not in there.
pub fn put(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let (key, item) = key_and_item(args)?;
    let key = context.open_key_writable(&key);
    let changed = match key.get_value::<Bag>(&BAG)? {
        Some(bag) => bag.0.insert(item),
        None => key.set_value(&BAG, Bag(BTreeSet::from([item]))).map(|()| true)?,
    };
    context.replicate_verbatim();
    Ok(i64::from(changed).into())
}

/// `OTHER.TAKE key item`: 1 if it was in there. The last one takes the key with it.
pub fn take(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let (key, item) = key_and_item(args)?;
    let key = context.open_key_writable(&key);
    let Some(bag) = key.get_value::<Bag>(&BAG)? else { return Ok(0_i64.into()) };
    let changed = bag.0.remove(&item);
    if bag.0.is_empty() {
        key.delete()?;
    }
    context.replicate_verbatim();
    Ok(i64::from(changed).into())
}

/// `OTHER.SHOW key`: the items, in order.
pub fn show(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let key = args.into_iter().skip(1).next_arg()?;
    let key = context.open_key(&key);
    let items = key.get_value::<Bag>(&BAG)?.into_iter().flat_map(|bag| &bag.0);
    Ok(RedisValue::Array(items.map(|item| RedisValue::StringBuffer(item.clone())).collect()))
}

fn key_and_item(args: Vec<RedisString>) -> Result<(RedisString, Vec<u8>), redis_module::RedisError> {
    let mut args = args.into_iter().skip(1);
    let (key, item) = (args.next_arg()?, args.next_arg()?);
    args.done()?;
    Ok((key, item.as_slice().to_vec()))
}

unsafe extern "C" fn load(io: *mut RedisModuleIO, version: c_int) -> *mut c_void {
    let read = || -> Result<Bag, redis_module::error::Error> {
        let count = raw::load_unsigned(io)?;
        let items = (0..count).map(|_| raw::load_string_buffer(io).map(|item| item.as_ref().to_vec()));
        items.collect::<Result<_, _>>().map(Bag)
    };
    match read() {
        Ok(bag) if version == 0 => Box::into_raw(Box::new(bag)).cast(),
        _ => ptr::null_mut(),
    }
}

/// # Safety
/// `value` is one that this type has given to the server.
unsafe fn bag<'a>(value: *const c_void) -> &'a Bag {
    // SAFETY: the caller's contract.
    unsafe { &*value.cast::<Bag>() }
}

unsafe extern "C" fn save(io: *mut RedisModuleIO, value: *mut c_void) {
    // SAFETY: the server passes a value of this type.
    let bag = unsafe { bag(value) };
    raw::save_unsigned(io, bag.0.len() as u64);
    bag.0.iter().for_each(|item| raw::save_slice(io, item));
}

unsafe extern "C" fn rewrite(io: *mut RedisModuleIO, key: *mut RedisModuleString, value: *mut c_void) {
    // SAFETY: the server passes a value of this type.
    for item in &unsafe { bag(value) }.0 {
        let start: *const c_char = item.as_ptr().cast();
        // SAFETY: the arguments are those that the format names: a module string, bytes and their length.
        unsafe {
            if let Some(emit) = raw::RedisModule_EmitAOF {
                emit(io, c"OTHER.PUT".as_ptr(), c"sb".as_ptr(), key, start, item.len());
            }
        }
    }
}

unsafe extern "C" fn digest(digest: *mut RedisModuleDigest, value: *mut c_void) {
    // SAFETY: the server passes a value of this type; the bytes live during the call.
    unsafe {
        let (Some(add), Some(end)) = (raw::RedisModule_DigestAddStringBuffer, raw::RedisModule_DigestEndSequence)
        else {
            return;
        };
        for item in &bag(value).0 {
            add(digest, item.as_ptr().cast(), item.len());
            end(digest);
        }
    }
}

unsafe extern "C" fn copy(_: *mut RedisModuleString, _: *mut RedisModuleString, value: *const c_void) -> *mut c_void {
    // SAFETY: the server passes a value of this type.
    Box::into_raw(Box::new(unsafe { bag(value) }.clone())).cast()
}

unsafe extern "C" fn free(value: *mut c_void) {
    // SAFETY: the server gives a value of this type back, once.
    drop(unsafe { Box::from_raw(value.cast::<Bag>()) });
}

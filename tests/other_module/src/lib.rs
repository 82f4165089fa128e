//! A module as others write them: what Syncer has to capture of it. For tests only (`tests/tests/other_module.rs`).
//!
//! | command | writes |
//! |---|---|
//! | `OTHER.CALL command ...` | by `RM_Call` with `!` |
//! | `OTHER.QUIET command ...` | by `RM_Call` without `!`, and replicates itself verbatim |
//! | `OTHER.LATER command ...` | by `RM_Call` with `!`, from a timer |
//! | `OTHER.THREAD command ...` | by `RM_Call` with `!`, from a thread that holds the lock |
//! | `OTHER.RAW key value` | a string through the key API, and replicates itself verbatim |
//! | `OTHER.RAWLATER key value` | the same from a timer, replicated as `SET`, with an event |
//! | `OTHER.FIELDLATER key field value` | a field of a hash from a timer, replicated as `HSET`, with an event |
//! | `OTHER.SILENTLATER key field value` | the same without an event |
//! | `OTHER.DROPLATER key` | deletes it from a timer, without an event, and does not replicate that |
//! | `OTHER.EXPIRELATER key ms` | sets its TTL from a timer, without an event, and does not replicate that |
//! | `OTHER.PUT key item`, `OTHER.TAKE key item`, `OTHER.SHOW key` | a type of its own (`bag.rs`) |

#![allow(missing_docs, reason = "what the macro makes has none")]

mod bag;

use std::thread;
use std::time::Duration;

use redis_module::{
    CallOptionsBuilder, CallResult, Context, MODULE_CONTEXT, NextArg, NotifyEvent, RedisError, RedisResult,
    RedisString, RedisValue, redis_module,
};

/// Long enough to be after the command, short enough for a test.
const LATER: Duration = Duration::from_millis(1);

const OK: RedisResult = Ok(RedisValue::SimpleStringStatic("OK"));

fn call(context: &Context, args: Vec<RedisString>) -> RedisResult {
    run(context, &words(args)?)
}

fn quiet(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let words = words(args)?;
    let (name, rest) = named(&words)?;
    let reply = context.call(name, rest.as_slice())?;
    context.replicate_verbatim();
    Ok(reply)
}

fn later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    context.create_timer(LATER, |context: &Context, words| tell(context, run(context, &words)), words(args)?);
    OK
}

fn in_thread(_: &Context, args: Vec<RedisString>) -> RedisResult {
    let words = words(args)?;
    thread::spawn(move || {
        let context = MODULE_CONTEXT.lock();
        tell(&context, run(&context, &words));
    });
    OK
}

fn raw(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let mut args = args.into_iter().skip(1);
    let (key, value) = (args.next_arg()?, args.next_string()?);
    context.open_key_writable(&key).write(&value)?;
    context.replicate_verbatim();
    OK
}

fn raw_later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let mut args = args.into_iter().skip(1);
    let pair = (args.next_string()?, args.next_string()?);
    let write = |context: &Context, (key, value): (String, String)| {
        let name = context.create_string(key);
        tell(context, context.open_key_writable(&name).write(&value));
        context.replicate("SET", &[name.as_slice(), value.as_bytes()]);
        context.notify_keyspace_event(NotifyEvent::MODULE, "other.raw", &name);
    };
    context.create_timer(LATER, write, pair);
    OK
}

fn field_later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    put_later(context, args, true)
}

fn silent_later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    put_later(context, args, false)
}

fn put_later(context: &Context, args: Vec<RedisString>, tells: bool) -> RedisResult {
    let mut args = args.into_iter().skip(1);
    let triple = (args.next_string()?, args.next_string()?, args.next_string()?);
    let write = move |context: &Context, (key, field, value): (String, String, String)| {
        let name = context.create_string(key);
        context.open_key_writable(&name).hash_set(&field, context.create_string(value.as_str()));
        context.replicate("HSET", &[name.as_slice(), field.as_bytes(), value.as_bytes()]);
        if tells {
            context.notify_keyspace_event(NotifyEvent::MODULE, "other.field", &name);
        }
    };
    context.create_timer(LATER, write, triple);
    OK
}

fn drop_later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let key = args.into_iter().skip(1).next_string()?;
    let delete = |context: &Context, key: String| {
        tell(context, context.open_key_writable(&context.create_string(key)).delete());
    };
    context.create_timer(LATER, delete, key);
    OK
}

fn expire_later(context: &Context, args: Vec<RedisString>) -> RedisResult {
    let mut args = args.into_iter().skip(1);
    let pair = (args.next_string()?, args.next_u64()?);
    let expire = |context: &Context, (key, ttl): (String, u64)| {
        let name = context.create_string(key);
        tell(context, context.open_key_writable(&name).set_expire(Duration::from_millis(ttl)));
    };
    context.create_timer(LATER, expire, pair);
    OK
}

/// A command and its arguments, as bytes that may go to another thread.
fn words(args: Vec<RedisString>) -> Result<Vec<Vec<u8>>, RedisError> {
    let words: Vec<Vec<u8>> = args.iter().skip(1).map(|arg| arg.as_slice().to_vec()).collect();
    if words.is_empty() { Err(RedisError::WrongArity) } else { Ok(words) }
}

fn named(words: &[Vec<u8>]) -> Result<(&str, Vec<&[u8]>), RedisError> {
    let (name, rest) = words.split_first().ok_or(RedisError::WrongArity)?;
    let name = std::str::from_utf8(name).map_err(|_| RedisError::Str("ERR the name of a command is text"))?;
    Ok((name, rest.iter().map(Vec::as_slice).collect()))
}

/// Runs a command with `!`.
fn run(context: &Context, words: &[Vec<u8>]) -> RedisResult {
    let (name, rest) = named(words)?;
    let options = CallOptionsBuilder::new().replicate().errors_as_replies().build();
    let reply: CallResult<'_> = context.call_ext(name, &options, rest.as_slice());
    Ok(RedisValue::from(&reply?))
}

/// Nobody waits for what a timer or a thread does.
fn tell(context: &Context, result: RedisResult) {
    if let Err(error) = result {
        context.log_warning(&format!("other: {error}"));
    }
}

use bag::{BAG, put, show, take};

redis_module! {
    name: "other",
    version: 1,
    allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
    data_types: [BAG],
    commands: [
        ["other.call", call, "write", 0, 0, 0, ""],
        ["other.quiet", quiet, "write", 0, 0, 0, ""],
        ["other.later", later, "", 0, 0, 0, ""],
        ["other.thread", in_thread, "", 0, 0, 0, ""],
        ["other.raw", raw, "write deny-oom", 1, 1, 1, ""],
        ["other.rawlater", raw_later, "", 0, 0, 0, ""],
        ["other.fieldlater", field_later, "", 0, 0, 0, ""],
        ["other.silentlater", silent_later, "", 0, 0, 0, ""],
        ["other.droplater", drop_later, "", 0, 0, 0, ""],
        ["other.expirelater", expire_later, "", 0, 0, 0, ""],
        ["other.put", put, "write deny-oom", 1, 1, 1, ""],
        ["other.take", take, "write", 1, 1, 1, ""],
        ["other.show", show, "readonly", 1, 1, 1, ""],
    ],
}

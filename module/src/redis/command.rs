//! Registering commands: handler, flags, ACL categories, keys and `COMMAND DOCS`, in one record each.

use std::cell::Cell;
use std::error::Error;
use std::ffi::{CStr, CString, c_int};
use std::ptr;

use redis_module::raw;
use redis_module::raw::{RedisModuleCtx, RedisModuleString};

use super::context::Context;
use super::guard::guard;
use super::ok;
use super::string::Args;

/// What a handler gives back. `Ok`: it has replied itself (or blocked the client). `Err`: the text is the error
/// reply; its first word is the code (`ERR`, `SYNCERROLE`, ...).
pub type CommandResult = Result<(), Box<dyn Error>>;

/// Runs one command.
pub type Handler = fn(&Context, Args<'_>) -> CommandResult;

/// The server's raw callback for one command, made by [`entry`] for a handler type.
type RawHandler = unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

/// A command's code. A type and no value, since the server's callback carries no data to tell commands apart.
pub trait Run {
    /// Answers the command.
    ///
    /// # Errors
    /// Becomes the error reply.
    fn run(context: &Context, args: Args<'_>) -> CommandResult;
}

/// One command as the server and its users see it.
pub struct Command {
    /// In lower case: `syncer.status`.
    pub name: &'static CStr,
    /// The callback, `entry::<T>()` of the type that runs it.
    pub entry: Entry,
    /// Flags of `RM_CreateCommand`, space-separated.
    pub flags: &'static CStr,
    /// ACL categories, space-separated, may be empty.
    pub categories: &'static CStr,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i32,
    /// First key, last key, step as in `COMMAND INFO`; zeros without keys.
    pub keys: (i32, i32, i32),
    /// One sentence for `COMMAND DOCS` and `SYNCER.HELP`.
    pub summary: &'static CStr,
    /// Arguments for people, e.g. `token timeout-ms`; for `SYNCER.HELP`.
    pub usage: &'static str,
    /// Big O, for `COMMAND DOCS`.
    pub complexity: &'static CStr,
}

/// See [`entry`].
#[derive(Clone, Copy)]
pub struct Entry(RawHandler);

/// The server's callback for the command that `T` runs.
#[must_use]
pub const fn entry<T: Run>() -> Entry {
    Entry(enter::<T>)
}

crate::redis::server_local! {
    /// Whether a command of ours runs.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the server runs one of our commands: for a client, a primary, or from a file. Not so for timers and events.
#[must_use]
pub fn is_running() -> bool {
    RUNNING.get()
}

unsafe extern "C" fn enter<T: Run>(
    context: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server passes a valid context and arguments, on the main thread, for the time of this call.
    let (Some(context), args) = (unsafe { (Context::new(context), Args::new(argv, argc)) }) else {
        return raw::REDISMODULE_ERR as c_int;
    };
    let bug = Err("ERR syncer: internal error, see the server log".into());
    let outer = RUNNING.replace(true);
    let result = guard("command", bug, || T::run(&context, args));
    RUNNING.set(outer);
    if let Err(error) = result {
        reply_error(&context, &error.to_string());
    }
    raw::REDISMODULE_OK as c_int
}

fn reply_error(context: &Context, text: &str) {
    let text = CString::new(text.replace(['\0', '\r', '\n'], " ")).unwrap_or_default();
    // SAFETY: the context is valid; the server copies the text.
    unsafe { api!(RedisModule_ReplyWithError)(context.raw(), text.as_ptr()) };
}

/// The server did not take a command.
#[derive(Debug, thiserror::Error)]
#[error("the server refused to register the command {0}; is another module using that name?")]
pub struct NotRegistered(String);

/// Registers `command`. Only while loading.
///
/// # Errors
/// When the server does not take it.
pub fn register(context: &Context, command: &Command) -> Result<(), NotRegistered> {
    try_register(context, command).ok_or_else(|| NotRegistered(command.name.to_string_lossy().into_owned()))
}

fn try_register(context: &Context, command: &Command) -> Option<()> {
    let (first, last, step) = command.keys;
    let (name, flags) = (command.name.as_ptr(), command.flags.as_ptr());
    // SAFETY: the context is valid, the strings are static, the server copies what it keeps.
    unsafe {
        ok(api!(RedisModule_CreateCommand)(context.raw(), name, Some(command.entry.0), flags, first, last, step))?;
        let handle = api!(RedisModule_GetCommand)(context.raw(), name);
        if !command.categories.is_empty() {
            ok(api!(RedisModule_SetCommandACLCategories)(handle, command.categories.as_ptr()))?;
        }
        let mut keys = read_keys(command.keys);
        let info = raw::RedisModuleCommandInfo {
            version: &VERSION.0,
            summary: command.summary.as_ptr(),
            complexity: command.complexity.as_ptr(),
            since: c"0.1.0".as_ptr(),
            history: ptr::null_mut(),
            tips: ptr::null(),
            arity: command.arity,
            key_specs: if first > 0 { keys.as_mut_ptr() } else { ptr::null_mut() },
            args: ptr::null_mut(),
        };
        ok(api!(RedisModule_SetCommandInfo)(handle, &info))
    }
}

/// Keys that a command only looks at, so that who may read them may run it. The list ends with an empty entry.
fn read_keys((first, last, step): (i32, i32, i32)) -> [raw::RedisModuleCommandKeySpec; 2] {
    // SAFETY: an all-zero value of this plain C structure is valid, and ends the list.
    let mut specs: [raw::RedisModuleCommandKeySpec; 2] = unsafe { std::mem::zeroed() };
    specs[0].flags = u64::from(raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS);
    specs[0].begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    specs[0].bs.index.pos = first;
    specs[0].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    specs[0].fk.range =
        raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: last - first, keystep: step, limit: 0 };
    specs
}

/// The layout of the info structures, as the header's macro `REDISMODULE_COMMAND_INFO_VERSION`.
static VERSION: Version = Version(raw::RedisModuleCommandInfoVersion {
    version: 1,
    sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
    sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
    sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
});

struct Version(raw::RedisModuleCommandInfoVersion);
// SAFETY: plain numbers, never written.
unsafe impl Sync for Version {}

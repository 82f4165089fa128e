//! Clients and users: who runs a command, and may they.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use redis_module::raw;
use redis_module::raw::{RedisModuleClientInfoV1, RedisModuleUser};

use super::string::{OwnedText, Text};
use super::{Context, filter, ok};

/// What the server tells about a connected client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Selected logical database.
    pub db: u32,
    /// Whether it is between MULTI and EXEC.
    pub in_multi: bool,
    /// Whether it waits in a blocking command.
    pub is_blocked: bool,
}

/// The id of no client.
pub const NOBODY: u64 = 0;

/// A connection that may be the one whose command runs now. Not one that waits: the server's own clients, which run what scripts and
/// modules call, keep the id of a connection that they once answered.
#[must_use]
pub fn running(id: u64) -> Option<ClientInfo> {
    info(id).filter(|info| !info.is_blocked)
}

/// Address and port of a connection, which must not be one that may run scripts: see [`info`].
#[must_use]
pub fn address(id: u64) -> Option<String> {
    let raw = raw_info(id)?;
    // SAFETY: the server ends the text with a zero, within the array; ours was all zeros before.
    let host = unsafe { CStr::from_ptr(raw.addr.as_ptr()) };
    Some(format!("{}:{}", host.to_string_lossy(), raw.port))
}

/// `None` for ids of no connection: scripts, other modules, clients gone.
///
/// Do not ask for one who runs a script or what a module calls: Valkey 9.1 finds the client that it is executing for first, by its id,
/// and crashes when that has no connection.
#[must_use]
pub fn info(id: u64) -> Option<ClientInfo> {
    let raw = raw_info(id)?;
    let has = |flag: u32| raw.flags & u64::from(flag) != 0;
    Some(ClientInfo {
        db: u32::from(raw.db),
        in_multi: has(raw::REDISMODULE_CLIENTINFO_FLAG_MULTI),
        is_blocked: has(raw::REDISMODULE_CLIENTINFO_FLAG_BLOCKED),
    })
}

fn raw_info(id: u64) -> Option<RedisModuleClientInfoV1> {
    if id == NOBODY {
        return None;
    }
    // SAFETY: an all-zero value of this plain C structure is valid.
    let mut raw: RedisModuleClientInfoV1 = unsafe { std::mem::zeroed() };
    raw.version = 1;
    // SAFETY: the structure's version is set and it outlives the call.
    ok(unsafe { api!(RedisModule_GetClientInfoById)((&raw mut raw).cast(), id) })?;
    Some(raw)
}

/// The name of the user that a connected client is authenticated as.
#[must_use]
pub fn user_name(id: u64) -> Option<OwnedText> {
    let context = super::context::detached()?;
    // SAFETY: the context is valid and without automatic memory, so the string is ours to free.
    unsafe {
        let name = api!(RedisModule_GetClientUserNameById)(context.raw(), id);
        NonNull::new(name).map(|name| OwnedText::adopt(name))
    }
}

/// The name of the user that runs the current command; none for calls of modules.
#[must_use]
pub fn current_user(context: &Context) -> Option<OwnedText> {
    // SAFETY: the context is valid; the string is ours to free, since the context has no automatic memory.
    unsafe {
        let name = api!(RedisModule_GetCurrentUserName)(context.raw());
        NonNull::new(name).map(|name| OwnedText::adopt(name))
    }
}

/// A user of the ACL.
pub struct User {
    raw: NonNull<RedisModuleUser>,
}

impl User {
    /// The user of that name, if there is one.
    #[must_use]
    pub fn find(name: Text<'_>) -> Option<Self> {
        // SAFETY: the name is valid; null means no such user.
        let raw = unsafe { api!(RedisModule_GetModuleUserFromUserName)(name.raw()) };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    /// Whether the user may run the command with these arguments, keys included.
    #[must_use]
    pub fn may_run(&self, args: &[Text<'_>]) -> bool {
        let mut argv = filter::vector(args);
        let Ok(argc) = c_int::try_from(argv.len()) else { return false };
        // SAFETY: user and strings are valid during the call.
        ok(unsafe { api!(RedisModule_ACLCheckCommandPermissions)(self.raw.as_ptr(), argv.as_mut_ptr(), argc) })
            .is_some()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: a user looked up by name is a handle of our own.
        unsafe { api!(RedisModule_FreeModuleUser)(self.raw.as_ptr()) };
    }
}

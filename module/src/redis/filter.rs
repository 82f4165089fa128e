//! The command filter: sees every command before it runs, also those of scripts and other modules.

use std::cell::Cell;
use std::ptr::NonNull;

use redis_module::raw;
use redis_module::raw::{RedisModuleCommandFilterCtx, RedisModuleString};
use smallvec::SmallVec;

use super::call::is_ours;
use super::guard::guard;
use super::string::{OwnedText, Text};
use super::{Context, ok};
use crate::capture;

crate::redis::server_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// How many commands there were so far that this module did not call itself, in transactions as one.
#[must_use]
pub fn seen() -> u64 {
    SEEN.get()
}

/// A command about to run. Its arguments must not be kept: holding on to one changes how the server encodes it.
pub struct Call {
    raw: *mut RedisModuleCommandFilterCtx,
}

impl Call {
    /// How many arguments, the name included.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: `raw` is valid during the filter call.
        usize::try_from(unsafe { api!(RedisModule_CommandFilterArgsCount)(self.raw) }).unwrap_or(0)
    }

    /// Whether there are no arguments at all. There never are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The argument at `index`.
    #[must_use]
    pub fn arg(&self, index: usize) -> Option<Text<'_>> {
        let index = i32::try_from(index).ok()?;
        // SAFETY: `raw` is valid during the filter call; out of range gives null. The string lives as long.
        unsafe {
            let arg = api!(RedisModule_CommandFilterArgGet)(self.raw, index);
            NonNull::new(arg).map(|arg| Text::new(arg))
        }
    }

    /// The bytes of the argument at `index`.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        self.arg(index).map(Text::as_bytes)
    }

    /// All arguments, for calls that want a vector.
    #[must_use]
    pub fn args(&self) -> SmallVec<[Text<'_>; 8]> {
        (0..self.len()).filter_map(|index| self.arg(index)).collect()
    }

    /// The client: clients of scripts and of other modules have ids that [`super::client::info`] does not know.
    #[must_use]
    pub fn client(&self) -> u64 {
        // SAFETY: `raw` is valid during the filter call.
        unsafe { api!(RedisModule_CommandFilterGetClientId)(self.raw) }
    }

    /// Puts a name in front, so that another command runs and gets this one as its arguments.
    pub fn prefix(&mut self, name: &[u8]) {
        let name = OwnedText::new(name).into_raw();
        // SAFETY: `raw` is valid during the filter call; the reference to `name` goes to the server.
        unsafe { api!(RedisModule_CommandFilterArgInsert)(self.raw, 0, name) };
    }
}

/// Registers the filter. It passes over our own calls (see [`mod@super::call`]).
pub fn register(context: &Context) -> Option<()> {
    // SAFETY: the context is valid and the callback lives as long as the module, which is never unloaded.
    let filter = unsafe { api!(RedisModule_RegisterCommandFilter)(context.raw(), Some(filtered), 0) };
    ok(if filter.is_null() { raw::REDISMODULE_ERR as i32 } else { raw::REDISMODULE_OK as i32 })
}

unsafe extern "C" fn filtered(raw: *mut RedisModuleCommandFilterCtx) {
    if !is_ours() {
        SEEN.set(SEEN.get().wrapping_add(1));
        guard("the command filter", (), || capture::on_command(&mut Call { raw }));
    }
}

/// The strings as the server wants a vector of them.
pub(in crate::redis) fn vector(args: &[Text<'_>]) -> SmallVec<[*mut RedisModuleString; 8]> {
    args.iter().map(|arg| arg.raw()).collect()
}

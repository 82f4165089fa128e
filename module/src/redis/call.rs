//! Commands of the server called from here (`RM_Call`): not replicated, and passed over by our own filter.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_longlong};
use std::ptr::NonNull;
use std::slice;

use redis_module::raw;
use redis_module::raw::RedisModuleCallReply;

use super::{Context, Text};

crate::redis::server_local! {
    /// Whether the next command that the filter sees is one that we call.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call that the filter passes over; not so what the called command calls in turn: a command of another module.
///
/// The server would do it for us (`CMDFILTER_NOSELF`), but then it passes over those, too.
pub(in crate::redis) fn unfiltered<R>(call: impl FnOnce() -> R) -> R {
    OURS.set(true);
    let result = call();
    // An unknown command comes to no filter.
    OURS.set(false);
    result
}

/// The filter asks, once for each command, whether it is one that we call.
pub(in crate::redis) fn is_ours() -> bool {
    OURS.replace(false)
}

/// Runs `command` with `args` in the selected database, as the server itself: no ACL, no replication.
pub fn call(context: &Context, command: &CStr, args: &[Text<'_>]) -> Reply {
    let (context, command) = (context.raw(), command.as_ptr());
    // SAFETY: the context is valid; "s" wants a module string; `Text` is a transparent pointer to one, so the slice is the vector
    // that "v" wants, followed by its length. The server takes its own references to what it keeps.
    let raw = unfiltered(|| unsafe {
        match args {
            // The server makes room by the letters of the format: with "v" it makes it twice.
            [first, second] => api!(RedisModule_Call)(context, command, c"ss".as_ptr(), first.raw(), second.raw()),
            [first, second, third] => {
                let format = c"sss".as_ptr();
                api!(RedisModule_Call)(context, command, format, first.raw(), second.raw(), third.raw())
            }
            _ => api!(RedisModule_Call)(context, command, c"v".as_ptr(), args.as_ptr(), args.len()),
        }
    });
    Reply { raw: NonNull::new(raw) }
}

/// `INCRBY name delta` or `HINCRBY name field delta`. The number needs no module string.
pub fn call_increment(context: &Context, name: Text<'_>, field: Option<Text<'_>>, delta: i64) -> Reply {
    let (context, delta): (_, c_longlong) = (context.raw(), delta);
    // SAFETY: the context is valid; the arguments are those that the format names: module strings and a `long long`.
    let raw = unfiltered(|| unsafe {
        match field {
            None => api!(RedisModule_Call)(context, c"INCRBY".as_ptr(), c"sl".as_ptr(), name.raw(), delta),
            Some(field) => {
                let (command, format) = (c"HINCRBY".as_ptr(), c"ssl".as_ptr());
                api!(RedisModule_Call)(context, command, format, name.raw(), field.raw(), delta)
            }
        }
    });
    Reply { raw: NonNull::new(raw) }
}

/// `SET name value [KEEPTTL]`, for values that the server shall store as integers. It does so only when it holds
/// the only reference to the value, so this passes bytes and no module string.
pub fn call_set(context: &Context, name: Text<'_>, value: &[u8], keep_ttl: bool) -> Reply {
    let format = if keep_ttl { c"sbc" } else { c"sb" };
    // SAFETY: context and name are valid; the arguments are those that the format names (a surplus one is ignored):
    // a module string, bytes and their length, a C string. The server copies the bytes.
    let raw = unfiltered(|| unsafe {
        let (start, len) = (value.as_ptr().cast::<c_char>(), value.len());
        let (command, format, option) = (c"SET".as_ptr(), format.as_ptr(), c"KEEPTTL".as_ptr());
        api!(RedisModule_Call)(context.raw(), command, format, name.raw(), start, len, option)
    });
    Reply { raw: NonNull::new(raw) }
}

/// What a called command answered. Freed on drop.
pub struct Reply {
    /// Null when the command could not be run at all (unknown, wrong number of arguments).
    raw: Option<NonNull<RedisModuleCallReply>>,
}

impl Reply {
    /// Takes a reply over, to be freed on drop.
    pub(in crate::redis) fn adopt(raw: Option<NonNull<RedisModuleCallReply>>) -> Self {
        Self { raw }
    }

    pub(in crate::redis) fn raw(&self) -> Option<NonNull<RedisModuleCallReply>> {
        self.raw
    }

    fn code(&self) -> isize {
        // SAFETY: the reply is valid until dropped.
        self.raw.map_or(raw::REDISMODULE_REPLY_ERROR, |raw| unsafe {
            api!(RedisModule_CallReplyType)(raw.as_ptr()) as isize
        })
    }

    /// Whether it is an error, or the command could not be run.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.code() == raw::REDISMODULE_REPLY_ERROR
    }

    /// An integer reply.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        let raw = self.raw.filter(|_| self.code() == raw::REDISMODULE_REPLY_INTEGER)?;
        // SAFETY: the reply is valid and an integer.
        Some(unsafe { api!(RedisModule_CallReplyInteger)(raw.as_ptr()) })
    }

    /// A string reply, status or bulk.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        let raw = self.raw.filter(|_| self.code() == raw::REDISMODULE_REPLY_STRING)?;
        // SAFETY: the reply is valid and a string.
        unsafe { string(raw) }
    }

    /// The text of an error reply; of a command that could not be run, a text that says so.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        if !self.is_error() {
            return None;
        }
        // SAFETY: the reply is valid and an error, which reads like a string.
        let text = self.raw.and_then(|raw| unsafe { string(raw) }).unwrap_or(b"ERR the command could not be run");
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Visits the elements of an array reply.
    pub fn each<'a>(&'a self, mut visit: impl FnMut(Element<'a>)) {
        if let Some(root) = self.root() {
            root.each(&mut visit);
        }
    }

    /// The reply as an element.
    #[must_use]
    pub fn root(&self) -> Option<Element<'_>> {
        self.raw.map(|raw| Element { raw, reply: self })
    }
}

/// A part of a reply.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    raw: NonNull<RedisModuleCallReply>,
    reply: &'a Reply,
}

impl<'a> Element<'a> {
    fn code(self) -> isize {
        // SAFETY: valid as long as the whole reply.
        unsafe { api!(RedisModule_CallReplyType)(self.raw.as_ptr()) as isize }
    }

    /// A string, status or bulk.
    #[must_use]
    pub fn bytes(self) -> Option<&'a [u8]> {
        // SAFETY: valid as long as the whole reply, and a string.
        if self.code() == raw::REDISMODULE_REPLY_STRING { unsafe { string(self.raw) } } else { None }
    }

    /// An integer.
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        // SAFETY: valid as long as the whole reply, and an integer.
        (self.code() == raw::REDISMODULE_REPLY_INTEGER)
            .then(|| unsafe { api!(RedisModule_CallReplyInteger)(self.raw.as_ptr()) })
    }

    /// The element at `index` of an array.
    #[must_use]
    pub fn get(self, index: usize) -> Option<Element<'a>> {
        if self.code() != raw::REDISMODULE_REPLY_ARRAY {
            return None;
        }
        // SAFETY: valid as long as the whole reply, and an array; null beyond its end.
        let raw = unsafe { api!(RedisModule_CallReplyArrayElement)(self.raw.as_ptr(), index) };
        NonNull::new(raw).map(|raw| Element { raw, reply: self.reply })
    }

    /// How many elements an array has; 0 for anything else.
    #[must_use]
    pub fn len(self) -> usize {
        if self.code() != raw::REDISMODULE_REPLY_ARRAY {
            return 0;
        }
        // SAFETY: valid as long as the whole reply, and an array.
        unsafe { api!(RedisModule_CallReplyLength)(self.raw.as_ptr()) }
    }

    /// Whether it is no array, or an empty one.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Visits the elements of an array.
    pub fn each(self, visit: &mut dyn FnMut(Element<'a>)) {
        (0..self.len()).filter_map(|index| self.get(index)).for_each(visit);
    }
}

/// # Safety
/// `raw` is a valid reply that lives for `'a`.
unsafe fn string<'a>(raw: NonNull<RedisModuleCallReply>) -> Option<&'a [u8]> {
    let mut len = 0;
    // SAFETY: the caller's contract; null when the reply is no string.
    unsafe {
        let start: *const c_char = api!(RedisModule_CallReplyStringPtr)(raw.as_ptr(), &mut len);
        (!start.is_null()).then(|| slice::from_raw_parts(start.cast(), len))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: the reply is ours and freed once.
            unsafe { api!(RedisModule_FreeCallReply)(raw.as_ptr()) };
        }
    }
}

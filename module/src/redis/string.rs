//! Module strings: arguments of a command, keys, and owned ones.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use redis_module::raw;
use redis_module::raw::RedisModuleString;

/// A module string that somebody else owns for `'a`: an argument, a key name.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text<'a> {
    raw: NonNull<RedisModuleString>,
    owner: PhantomData<&'a RedisModuleString>,
}

impl<'a> Text<'a> {
    /// # Safety
    /// `raw` is a valid module string that lives, unchanged, for `'a`.
    pub(in crate::redis) unsafe fn new(raw: NonNull<RedisModuleString>) -> Self {
        Self { raw, owner: PhantomData }
    }

    pub(in crate::redis) fn raw(self) -> *mut RedisModuleString {
        self.raw.as_ptr()
    }

    /// The bytes, any bytes.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string is valid for 'a (see `new`); the server gives the address and length of its bytes,
        // and never null.
        unsafe { slice::from_raw_parts(api!(RedisModule_StringPtrLen)(self.raw(), &mut len).cast(), len) }
    }

    /// The text, when it is UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The integer, when the text is one as servers parse it.
    #[must_use]
    pub fn as_integer(self) -> Option<i64> {
        let mut value = 0;
        // SAFETY: as for `as_bytes`; `value` outlives the call.
        let status = unsafe { api!(RedisModule_StringToLongLong)(self.raw(), &mut value) };
        (status == raw::REDISMODULE_OK as i32).then_some(value)
    }
}

/// A module string of our own, freed on drop.
pub struct OwnedText {
    raw: NonNull<RedisModuleString>,
}

impl OwnedText {
    /// A copy of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: a null context is allowed and means that we free the string ourselves; the server never
        // returns null.
        unsafe {
            let raw = api!(RedisModule_CreateString)(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len());
            Self { raw: NonNull::new_unchecked(raw) }
        }
    }

    /// # Safety
    /// `raw` is a valid module string whose reference the caller gives away.
    pub(in crate::redis) unsafe fn adopt(raw: NonNull<RedisModuleString>) -> Self {
        Self { raw }
    }

    /// Gives the reference away.
    pub(in crate::redis) fn into_raw(self) -> *mut RedisModuleString {
        std::mem::ManuallyDrop::new(self).raw.as_ptr()
    }

    /// A borrow.
    #[must_use]
    pub fn text(&self) -> Text<'_> {
        // SAFETY: valid as long as `self`.
        unsafe { Text::new(self.raw) }
    }
}

impl Drop for OwnedText {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), self.raw.as_ptr()) }
    }
}

/// The arguments of a command, its name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    raw: &'a [NonNull<RedisModuleString>],
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` and `argc` are what the server handed to a callback, and live for `'a`.
    pub(in crate::redis) unsafe fn new(argv: *mut *mut RedisModuleString, argc: i32) -> Self {
        let len = usize::try_from(argc).unwrap_or(0);
        if argv.is_null() || len == 0 {
            return Self { raw: &[] };
        }
        // SAFETY: the caller's contract; the server's argument pointers are never null.
        Self { raw: unsafe { slice::from_raw_parts(argv.cast(), len) } }
    }

    /// Other arguments for a command.
    #[must_use]
    pub fn of(texts: &'a [Text<'a>]) -> Self {
        // SAFETY: `Text` is a transparent pointer to a module string, and the strings live for 'a.
        Self { raw: unsafe { slice::from_raw_parts(texts.as_ptr().cast(), texts.len()) } }
    }

    pub(in crate::redis) fn raw(self) -> *mut *mut RedisModuleString {
        self.raw.as_ptr().cast_mut().cast()
    }

    /// How many, the name included.
    #[must_use]
    pub fn len(self) -> usize {
        self.raw.len()
    }

    /// Whether there is nothing, not even a name.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The argument at `index`; 0 is the command's name.
    #[must_use]
    pub fn get(self, index: usize) -> Option<Text<'a>> {
        // SAFETY: see `new`.
        self.raw.get(index).map(|raw| unsafe { Text::new(*raw) })
    }

    /// The bytes of the argument at `index`.
    #[must_use]
    pub fn bytes(self, index: usize) -> Option<&'a [u8]> {
        self.get(index).map(Text::as_bytes)
    }

    /// All from `first` on.
    #[must_use]
    pub fn from(self, first: usize) -> Self {
        Self { raw: self.raw.get(first..).unwrap_or(&[]) }
    }

    /// All, the name first.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Text<'a>> + Clone {
        // SAFETY: see `new`.
        self.raw.iter().map(|raw| unsafe { Text::new(*raw) })
    }
}

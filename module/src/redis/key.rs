//! Keys through the server's raw key API: a fraction of what the same command through `RM_Call` costs, with the
//! same encodings, and no lazy expiry (see [`ExpiryOff`]).
//!
//! The raw API fires no keyspace event and, as the module asks at load, signals no modification: whoever writes
//! through a [`Key`] calls [`signal_modified`] and [`notify`] afterwards, in this order, as commands do.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};

use redis_module::raw;
use redis_module::raw::{RedisModuleKey, RedisModuleString};

use super::expiry::ExpiryOff;
use super::server::valkey_version;
use super::{Context, OwnedText, Text, ok};

/// The type of the value that a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// No value: no such key.
    Empty,
    /// A string.
    String,
    /// A list.
    List,
    /// A hash.
    Hash,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A stream.
    Stream,
    /// A value of a module, or of a type that this module does not know.
    Other,
}

/// The class of a keyspace event: which letter of `notify-keyspace-events` turns it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// `g`: `del`, `expire`, `persist`, ...
    Generic,
    /// `$`
    String,
    /// `l`
    List,
    /// `s`
    Set,
    /// `h`
    Hash,
    /// `z`
    SortedSet,
    /// `x`
    Expired,
    /// `e`
    Evicted,
    /// `t`
    Stream,
}

impl EventClass {
    const fn bits(self) -> c_int {
        match self {
            Self::Generic => raw::REDISMODULE_NOTIFY_GENERIC,
            Self::String => raw::REDISMODULE_NOTIFY_STRING,
            Self::List => raw::REDISMODULE_NOTIFY_LIST,
            Self::Set => raw::REDISMODULE_NOTIFY_SET,
            Self::Hash => raw::REDISMODULE_NOTIFY_HASH,
            Self::SortedSet => raw::REDISMODULE_NOTIFY_ZSET,
            Self::Expired => raw::REDISMODULE_NOTIFY_EXPIRED,
            Self::Evicted => raw::REDISMODULE_NOTIFY_EVICTED,
            Self::Stream => raw::REDISMODULE_NOTIFY_STREAM,
        }
    }
}

crate::redis::server_local! {
    /// Strings from this length on are always raw-encoded, so that their bytes can be looked at in place. Shorter ones may be
    /// integers or embedded, which `RM_StringDMA` converts for good. Redis embeds up to 44 bytes; Valkey up to 64 with header and key, since 9.1 up
    /// to 128 (`object.c`).
    static RAW_FROM: Cell<usize> = const { Cell::new(129) };
}

/// What eviction goes by: idle time (LRU) or frequency (LFU) of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    idle_ms: i64,
    frequency: i64,
}

/// Idle times are kept in seconds.
const IDLE_ERROR_MS: u64 = 2000;

crate::redis::server_local! {
    static IDLE_IS_BROKEN: Cell<bool> = const { Cell::new(false) };
}

/// What a scan calls with a field, member or scored member, and its value or score text.
pub type Visit<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// One key of the selected database, open for reading and writing. Closed on drop.
///
/// Invariant: nothing else changes the key while it is open: close it before running a command.
pub struct Key {
    raw: NonNull<RedisModuleKey>,
}

impl Key {
    /// Opens a key of the selected database, whether or not it exists. An expired key that is not yet deleted exists.
    #[must_use]
    pub fn open(context: &Context, name: Text<'_>, _: ExpiryOff) -> Self {
        const MODE: c_int = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;
        // SAFETY: context and name are valid; a key opened for writing is never null.
        unsafe { Self { raw: NonNull::new_unchecked(api!(RedisModule_OpenKey)(context.raw(), name.raw(), MODE)) } }
    }

    /// The same without counting as an access, for looks that clients know nothing of.
    #[must_use]
    pub fn open_quietly(context: &Context, name: Text<'_>, _: ExpiryOff) -> Self {
        const MODE: c_int = (raw::REDISMODULE_READ
            | raw::REDISMODULE_WRITE
            | raw::REDISMODULE_OPEN_KEY_NOTOUCH
            | raw::REDISMODULE_OPEN_KEY_NOSTATS) as c_int;
        // SAFETY: as for `open`.
        unsafe { Self { raw: NonNull::new_unchecked(api!(RedisModule_OpenKey)(context.raw(), name.raw(), MODE)) } }
    }

    /// How lately or often the key was used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage { idle_ms: -1, frequency: -1 };
        // SAFETY: the key is open; both values outlive the calls. -1 where eviction does not go by it.
        unsafe {
            api!(RedisModule_GetLRU)(self.raw(), &mut usage.idle_ms);
            api!(RedisModule_GetLFU)(self.raw(), &mut usage.frequency);
        }
        usage
    }

    /// Undoes what a look did to it. Where the server cannot, the key counts as just used.
    pub fn set_usage(&mut self, usage: Usage) {
        if usage.idle_ms >= 0 && !IDLE_IS_BROKEN.get() {
            self.set_idle_ms(usage.idle_ms);
            // Valkey 9.1 takes seconds where it gives milliseconds.
            if self.usage().idle_ms.abs_diff(usage.idle_ms) > IDLE_ERROR_MS {
                IDLE_IS_BROKEN.set(true);
                self.set_idle_ms(0);
            }
        }
        if usage.frequency >= 0 {
            // SAFETY: the key is open. Ignored where eviction does not go by it.
            unsafe { api!(RedisModule_SetLFU)(self.raw(), usage.frequency) };
        }
    }

    fn set_idle_ms(&mut self, idle_ms: i64) {
        // SAFETY: the key is open. Ignored where eviction does not go by it.
        unsafe { api!(RedisModule_SetLRU)(self.raw(), idle_ms) };
    }

    pub(in crate::redis) const fn adopt(raw: NonNull<RedisModuleKey>) -> Self {
        Self { raw }
    }

    pub(in crate::redis) fn raw(&self) -> *mut RedisModuleKey {
        self.raw.as_ptr()
    }

    /// The type of its value.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        // SAFETY: the key is open.
        let code = unsafe { api!(RedisModule_KeyType)(self.raw()) } as isize;
        match code {
            raw::REDISMODULE_KEYTYPE_EMPTY => KeyType::Empty,
            raw::REDISMODULE_KEYTYPE_STRING => KeyType::String,
            raw::REDISMODULE_KEYTYPE_LIST => KeyType::List,
            raw::REDISMODULE_KEYTYPE_HASH => KeyType::Hash,
            raw::REDISMODULE_KEYTYPE_SET => KeyType::Set,
            raw::REDISMODULE_KEYTYPE_ZSET => KeyType::SortedSet,
            raw::REDISMODULE_KEYTYPE_STREAM => KeyType::Stream,
            _ => KeyType::Other,
        }
    }

    /// Absolute expiry in Unix milliseconds.
    #[must_use]
    pub fn expire_at(&self) -> Option<i64> {
        if self.key_type() == KeyType::Empty {
            return None;
        }
        // SAFETY: the key is open and holds a value; without one Redis 8.2 crashes.
        let at = unsafe { api!(RedisModule_GetAbsExpire)(self.raw()) };
        (at != raw::REDISMODULE_NO_EXPIRE as i64).then_some(at)
    }

    /// Sets or removes the expiry. A time in the past is kept, times before 1970 count as 1970.
    pub fn set_expire_at(&mut self, at: Option<i64>) {
        if self.key_type() == KeyType::Empty {
            return;
        }
        let at = at.map_or(raw::REDISMODULE_NO_EXPIRE as i64, |at| at.max(0));
        // SAFETY: the key is open and holds a value.
        unsafe { api!(RedisModule_SetAbsExpire)(self.raw(), at) };
    }

    /// Deletes the value; the key stays open and empty.
    pub fn delete(&mut self) {
        // SAFETY: the key is open for writing.
        unsafe { api!(RedisModule_UnlinkKey)(self.raw()) };
    }

    /// Replaces whatever the key holds by a string, without TTL. Never integer-encoded, see `CAPTURE` fact 13.
    pub fn set_string(&mut self, value: Text<'_>) {
        // SAFETY: the key is open for writing; the server takes its own reference to the value.
        unsafe { api!(RedisModule_StringSet)(self.raw(), value.raw()) };
    }

    /// The bytes of a long string in place; `None` for a short one (use `GET`) or another type.
    #[must_use]
    pub fn long_string(&self) -> Option<&[u8]> {
        // SAFETY: the key is open.
        if self.key_type() != KeyType::String || unsafe { api!(RedisModule_ValueLength)(self.raw()) } < RAW_FROM.get() {
            return None;
        }
        self.raw_string()
    }

    /// The bytes of a string that is stored raw; any other is so from now on.
    #[must_use]
    pub fn raw_string(&self) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: the key is open and holds a string; the bytes stay where they are until the key is changed,
        // which needs `&mut self`.
        unsafe {
            let start = api!(RedisModule_StringDMA)(self.raw(), &mut len, raw::REDISMODULE_READ as c_int);
            (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast(), len))
        }
    }

    /// Bytes of a string; 0 for another type, or none.
    #[must_use]
    pub fn string_len(&self) -> usize {
        // SAFETY: the key is open.
        if self.key_type() == KeyType::String { unsafe { api!(RedisModule_ValueLength)(self.raw()) } } else { 0 }
    }

    /// Writes over a part of a string in place, with zeros before it where the string is shorter; creates the key. As commands
    /// do, it leaves the string raw-encoded. False when the server refuses the length, or the type is another.
    pub fn write_string(&mut self, start: usize, bytes: &[u8]) -> bool {
        let Some(end) = start.checked_add(bytes.len()) else { return false };
        // SAFETY: the key is open for writing.
        if end > self.string_len() && ok(unsafe { api!(RedisModule_StringTruncate)(self.raw(), end) }).is_none() {
            return false;
        }
        let mut len = 0;
        // SAFETY: the key is open for writing and, if it holds a string, its bytes are ours to change until the key is used
        // again, which needs `&mut self`.
        let place = unsafe {
            let first = api!(RedisModule_StringDMA)(self.raw(), &mut len, raw::REDISMODULE_WRITE as c_int);
            if first.is_null() {
                return false;
            }
            std::slice::from_raw_parts_mut(first.cast::<u8>(), len)
        };
        place.get_mut(start..end).map(|place| place.copy_from_slice(bytes)).is_some()
    }

    /// The value of a hash field; `None` also when the key is of another type.
    #[must_use]
    pub fn field(&self, field: Text<'_>) -> Option<OwnedText> {
        let mut value: *mut RedisModuleString = ptr::null_mut();
        let none = ptr::null_mut::<c_void>();
        const FLAGS: c_int = raw::REDISMODULE_HASH_NONE as c_int;
        // SAFETY: the key is open; one field and one place for its value, then null, as the function wants.
        unsafe {
            api!(RedisModule_HashGet)(self.raw(), FLAGS, field.raw(), &raw mut value, none);
            NonNull::new(value).map(|value| OwnedText::adopt(value))
        }
    }

    /// Writes a hash field; creates the hash.
    pub fn set_field(&mut self, field: Text<'_>, value: Text<'_>) {
        let none = ptr::null_mut::<c_void>();
        const FLAGS: c_int = raw::REDISMODULE_HASH_NONE as c_int;
        // SAFETY: the key is open for writing; pairs of field and value end with null. The server copies both.
        unsafe { api!(RedisModule_HashSet)(self.raw(), FLAGS, field.raw(), value.raw(), none) };
    }

    /// Removes a hash field, and the key with its last one. Whether it was there.
    pub fn remove_field(&mut self, field: Text<'_>) -> bool {
        let none = ptr::null_mut::<c_void>();
        const FLAGS: c_int = raw::REDISMODULE_HASH_NONE as c_int;
        // SAFETY: as for `set_field`; the marker for "delete" is never dereferenced.
        unsafe {
            let delete = raw::REDISMODULE_HASH_DELETE;
            api!(RedisModule_HashSet)(self.raw(), FLAGS, field.raw(), delete, none) == 1
        }
    }

    /// The score of a sorted-set member.
    #[must_use]
    pub fn score(&self, member: Text<'_>) -> Option<f64> {
        let mut score = 0.0;
        // SAFETY: the key is open; `score` outlives the call.
        ok(unsafe { api!(RedisModule_ZsetScore)(self.raw(), member.raw(), &mut score) })?;
        Some(score)
    }

    /// Writes a sorted-set member; creates the sorted set. False when the score is NaN or the type another.
    pub fn set_score(&mut self, member: Text<'_>, score: f64) -> bool {
        // SAFETY: the key is open for writing; no flags are wanted. The server copies the member.
        ok(unsafe { api!(RedisModule_ZsetAdd)(self.raw(), score, member.raw(), ptr::null_mut()) }).is_some()
    }

    /// Removes a sorted-set member, and the key with its last one. Whether it was there.
    pub fn remove_member(&mut self, member: Text<'_>) -> bool {
        let mut deleted = 0;
        // SAFETY: the key is open for writing; `deleted` outlives the call.
        unsafe { api!(RedisModule_ZsetRem)(self.raw(), member.raw(), &mut deleted) };
        deleted == 1
    }

    /// How many elements the value has; bytes of a string.
    #[must_use]
    pub fn value_len(&self) -> usize {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ValueLength)(self.raw()) }
    }

    /// An element of a list. Going on to the next one is quick: the server remembers where it was.
    #[must_use]
    pub fn element(&self, index: usize) -> Option<OwnedText> {
        let index = index.try_into().ok()?;
        // SAFETY: the key is open for reading and writing; the server makes a string for us.
        let element = unsafe { api!(RedisModule_ListGet)(self.raw(), index) };
        // SAFETY: as above: ours to free.
        NonNull::new(element).map(|element| unsafe { OwnedText::adopt(element) })
    }

    /// Puts an element in front of that at `index`, or at the end; creates the list. False when the key is of another type.
    pub fn insert_element(&mut self, index: usize, element: Text<'_>) -> bool {
        let Ok(index) = index.try_into() else { return false };
        // SAFETY: the key is open for writing; the server copies the element.
        ok(unsafe { api!(RedisModule_ListInsert)(self.raw(), index, element.raw()) }).is_some()
    }

    /// Removes an element of a list, and the key with its last one. Whether it was there.
    pub fn remove_element(&mut self, index: usize) -> bool {
        let Ok(index) = index.try_into() else { return false };
        // SAFETY: the key is open for writing.
        ok(unsafe { api!(RedisModule_ListDelete)(self.raw(), index) }).is_some()
    }

    /// Removes the first or the last element of a list, and the key with its last one. Whether there was one. The server has nowhere to be
    /// afterwards, so the key may stay open.
    pub fn pop_element(&mut self, is_first: bool) -> bool {
        let end = if is_first { raw::REDISMODULE_LIST_HEAD } else { raw::REDISMODULE_LIST_TAIL };
        // SAFETY: the key is open for writing; the server makes a string for us.
        let element = unsafe { api!(RedisModule_ListPop)(self.raw(), end as i32) };
        // SAFETY: as above: ours to free.
        NonNull::new(element).map(|element| unsafe { OwnedText::adopt(element) }).is_some()
    }

    /// Replaces an element of a list. Whether it was there.
    pub fn set_element(&mut self, index: usize, element: Text<'_>) -> bool {
        let Ok(index) = index.try_into() else { return false };
        // SAFETY: the key is open for writing; the server copies the element.
        ok(unsafe { api!(RedisModule_ListSet)(self.raw(), index, element.raw()) }).is_some()
    }

    /// Visits every field, member or scored member with its value or score text. Hashes, sets and sorted sets.
    pub fn scan(&self, visit: &mut Visit<'_>) {
        let mut scan = Scan { visit, panic: None };
        // SAFETY: the cursor lives until it is destroyed; the callback gets back the pointer to `scan`, which
        // outlives the loop. Nothing changes the key meanwhile, so nothing is visited twice.
        unsafe {
            let cursor = api!(RedisModule_ScanCursorCreate)();
            let data = (&raw mut scan).cast::<c_void>();
            while api!(RedisModule_ScanKey)(self.raw(), cursor, Some(visited), data) == 1 {}
            api!(RedisModule_ScanCursorDestroy)(cursor);
        }
        if let Some(panic) = scan.panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once.
        unsafe { api!(RedisModule_CloseKey)(self.raw()) };
    }
}

/// What a scan in progress calls, and what came of it.
struct Scan<'a> {
    visit: &'a mut Visit<'a>,
    /// A panic must not cross the server's frames; it goes on once the scan has ended.
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn visited(
    _: *mut RedisModuleKey,
    name: *mut RedisModuleString,
    value: *mut RedisModuleString,
    data: *mut c_void,
) {
    // SAFETY: `data` is what `scan` passed; the strings live as long as this call.
    let (scan, name, value) = unsafe {
        let bytes = |text| NonNull::new(text).map(|text| Text::new(text).as_bytes());
        (&mut *data.cast::<Scan<'_>>(), bytes(name), bytes(value))
    };
    if let (Some(name), None) = (name, &scan.panic) {
        scan.panic = catch_unwind(AssertUnwindSafe(|| (scan.visit)(name, value))).err();
    }
}

/// Asks the server not to take every key opened for writing as changed: [`signal_modified`] says what was. Once, while
/// loading.
///
/// Also: the module notices when a file or a full sync breaks off, and a replica may serve its old dataset until the new one is complete.
pub fn signal_explicitly(context: &Context) {
    const OPTIONS: c_int = (raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED
        | raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
        | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD) as c_int;
    // SAFETY: the context is valid.
    unsafe { api!(RedisModule_SetModuleOptions)(context.raw(), OPTIONS) };
}

/// Finds out how this server stores strings. Once, while loading.
pub fn know_encodings(context: &Context) {
    if valkey_version(context).is_none() {
        RAW_FROM.set(64);
    }
}

/// Tells clients that WATCH the key or cache it (tracking) that it changed.
pub fn signal_modified(context: &Context, name: Text<'_>) {
    // SAFETY: context and name are valid.
    unsafe { api!(RedisModule_SignalModifiedKey)(context.raw(), name.raw()) };
}

/// Publishes a keyspace event for a key of the selected database.
pub fn notify(context: &Context, class: EventClass, event: &CStr, name: Text<'_>) {
    // SAFETY: context and name are valid, the server copies the event's name.
    unsafe { api!(RedisModule_NotifyKeyspaceEvent)(context.raw(), class.bits(), event.as_ptr(), name.raw()) };
}

//! Walking over the keys of a database in steps.

use std::any::Any;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use redis_module::raw::{RedisModuleCtx, RedisModuleKey, RedisModuleScanCursor, RedisModuleString};

use super::{Context, Key, Text};

/// A place in the keyspace, with the guarantees of `SCAN`: a key that is there all the time is visited.
pub struct KeyScan {
    cursor: NonNull<RedisModuleScanCursor>,
}

/// A key that a scan has come to: open for reading, and neither looked up nor counted as used.
pub struct Scanned<'a> {
    key: ManuallyDrop<Key>,
    call: PhantomData<&'a ()>,
}

impl Scanned<'_> {
    /// # Safety
    /// The key is open for the lifetime, and somebody else closes it.
    unsafe fn new(raw: NonNull<RedisModuleKey>) -> Self {
        Self { key: ManuallyDrop::new(Key::adopt(raw)), call: PhantomData }
    }
}

impl Deref for Scanned<'_> {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

/// What a step calls, and what came of it.
struct Step<'a> {
    visit: &'a mut dyn FnMut(&[u8], Option<Scanned<'_>>),
    /// A panic must not cross the server's frames; it goes on once the step has ended.
    panic: Option<Box<dyn Any + Send>>,
}

impl KeyScan {
    /// From the beginning.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: needs nothing; the server never returns null.
        Self { cursor: unsafe { NonNull::new_unchecked(api!(RedisModule_ScanCursorCreate)()) } }
    }

    /// Visits the names of some more keys (usually a few) of the selected database. False at the end. `visit` must not
    /// add or delete keys.
    pub fn step(&mut self, context: &Context, visit: &mut dyn FnMut(&[u8])) -> bool {
        self.step_open(context, &mut |name, _| visit(name))
    }

    /// The same with the keys themselves, where the server has them at hand.
    pub fn step_open(&mut self, context: &Context, visit: &mut dyn FnMut(&[u8], Option<Scanned<'_>>)) -> bool {
        let mut step = Step { visit, panic: None };
        // SAFETY: context and cursor are valid; the callback gets back the pointer to `step`, which outlives the call.
        let more = unsafe {
            let data = (&raw mut step).cast::<c_void>();
            api!(RedisModule_Scan)(context.raw(), self.cursor.as_ptr(), Some(visited), data)
        };
        if let Some(panic) = step.panic {
            resume_unwind(panic);
        }
        more == 1
    }
}

impl Default for KeyScan {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for KeyScan {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once.
        unsafe { api!(RedisModule_ScanCursorDestroy)(self.cursor.as_ptr()) };
    }
}

unsafe extern "C" fn visited(
    _: *mut RedisModuleCtx,
    name: *mut RedisModuleString,
    key: *mut RedisModuleKey,
    data: *mut c_void,
) {
    // SAFETY: `data` is what `step_open` passed; name and key live as long as this call, and the server closes the key.
    let (step, name, key) = unsafe {
        let name = NonNull::new(name).map(|name| Text::new(name).as_bytes());
        (&mut *data.cast::<Step<'_>>(), name, NonNull::new(key).map(|key| Scanned::new(key)))
    };
    if let (Some(name), None) = (name, &step.panic) {
        step.panic = catch_unwind(AssertUnwindSafe(|| (step.visit)(name, key))).err();
    }
}

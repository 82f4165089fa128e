//! A section of the server's `INFO`.

use std::ffi::{CStr, CString, c_int};

use redis_module::raw::RedisModuleInfoCtx;

use super::guard::guard;
use super::{Context, ok};

/// What fills the section; a type, since the server's callback carries no data.
pub trait Source {
    /// Adds the fields.
    fn fill(section: &mut Section);
}

/// The section being filled.
pub struct Section {
    raw: *mut RedisModuleInfoCtx,
}

impl Section {
    /// A field with a number.
    pub fn number(&mut self, name: &CStr, value: u64) {
        // SAFETY: `raw` is valid while the section is filled; the server copies the name.
        unsafe { api!(RedisModule_InfoAddFieldULongLong)(self.raw, name.as_ptr(), value) };
    }

    /// The same, by a name that is no C string.
    pub fn named(&mut self, name: &str, value: u64) {
        if let Ok(name) = CString::new(name) {
            self.number(&name, value);
        }
    }

    /// A field with a text.
    pub fn text(&mut self, name: &CStr, value: &str) {
        let value = CString::new(value.replace(['\0', '\r', '\n'], " ")).unwrap_or_default();
        // SAFETY: `raw` is valid while the section is filled; the server copies name and text.
        unsafe { api!(RedisModule_InfoAddFieldCString)(self.raw, name.as_ptr(), value.as_ptr()) };
    }
}

/// Has `T` fill the module's section, named after the module. Once, while loading.
pub fn register<T: Source>(context: &Context) -> Option<()> {
    // SAFETY: the context is valid; the callback has the signature that the server wants.
    ok(unsafe { api!(RedisModule_RegisterInfoFunc)(context.raw(), Some(fill::<T>)) })
}

unsafe extern "C" fn fill<T: Source>(raw: *mut RedisModuleInfoCtx, for_crash_report: c_int) {
    if for_crash_report != 0 {
        // In a signal handler: what `fill` looks at may be half changed, and it allocates.
        return;
    }
    guard("INFO", (), || {
        // SAFETY: the server passes a valid context during this call. An empty name: the section is the module's.
        // It says no when this section was not asked for.
        if ok(unsafe { api!(RedisModule_InfoAddSection)(raw, c"".as_ptr()) }).is_some() {
            T::fill(&mut Section { raw });
        }
    });
}

//! Settings that are texts: `syncer.publish`, `syncer.functions`.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use redis_module::raw;
use redis_module::raw::RedisModuleString;

use super::config::ConfigError;
use super::string::{OwnedText, Text};
use super::{Context, ok};

/// One setting: a text that something understands.
pub struct TextSetting {
    name: &'static CStr,
    default: &'static CStr,
    /// Takes a new value, or says what is wrong with it.
    take: fn(&str) -> Result<(), String>,
    /// Its place in [`VALUES`].
    place: usize,
}

/// Which messages of this site reach subscribers at the others.
static PUBLISH: TextSetting =
    TextSetting { name: c"publish", default: c"off", take: crate::capture::set_published, place: 0 };
/// Whether libraries of functions that are loaded here are loaded at the others.
static FUNCTIONS: TextSetting =
    TextSetting { name: c"functions", default: c"off", take: crate::capture::set_functions, place: 1 };

static SETTINGS: [&TextSetting; 2] = [&PUBLISH, &FUNCTIONS];

crate::redis::server_local! {
    /// What `CONFIG GET` says; the server borrows it.
    static VALUES: RefCell<[Option<OwnedText>; 2]> = const { RefCell::new([None, None]) };
}

impl TextSetting {
    fn set(&self, text: Text<'_>) -> Result<(), ConfigError> {
        let name = self.name.to_string_lossy().into_owned();
        let Some(value) = text.as_str() else {
            return Err(ConfigError::Text { name, why: "must be UTF-8".into() });
        };
        (self.take)(value).map_err(|why| ConfigError::Text { name, why })?;
        VALUES.with_borrow_mut(|values| {
            if let Some(place) = values.get_mut(self.place) {
                *place = Some(OwnedText::new(text.as_bytes()));
            }
        });
        Ok(())
    }

    fn register(&'static self, context: &Context) -> Option<()> {
        let data = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let (name, default) = (self.name.as_ptr(), self.default.as_ptr());
        // SAFETY: the context is valid; name, default and data are static, the callbacks live as long as the module.
        ok(unsafe {
            api!(RedisModule_RegisterStringConfig)(context.raw(), name, default, 0, Some(get), Some(set), None, data)
        })
    }
}

/// Registers them all.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn register(context: &Context) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        let refused = || ConfigError::Refused(setting.name.to_string_lossy().into_owned());
        setting.register(context).ok_or_else(refused)?;
    }
    Ok(())
}

fn find(name: &[u8]) -> Option<&'static TextSetting> {
    SETTINGS.into_iter().find(|setting| name.eq_ignore_ascii_case(setting.name.to_bytes()))
}

/// Whether there is a setting of that name.
pub(super) fn is_name(name: &[u8]) -> bool {
    find(name).is_some()
}

/// Takes an argument of `loadmodule`.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn take(name: &[u8], value: Option<Text<'_>>) -> Result<(), ConfigError> {
    let unknown = || String::from_utf8_lossy(name).into_owned();
    let setting = find(name).ok_or_else(|| ConfigError::Unknown(unknown()))?;
    setting.set(value.ok_or_else(|| ConfigError::NoValue(unknown()))?)
}

unsafe extern "C" fn get(_name: *const c_char, data: *mut c_void) -> *mut RedisModuleString {
    super::guard::guard("CONFIG GET", ptr::null_mut(), || {
        // SAFETY: `data` is the static setting that was registered.
        let Some(setting) = (unsafe { data.cast::<TextSetting>().as_ref() }) else { return ptr::null_mut() };
        // The string stays ours until the setting is set again.
        VALUES.with_borrow_mut(|values| {
            let default = || OwnedText::new(setting.default.to_bytes());
            values
                .get_mut(setting.place)
                .map_or(ptr::null_mut(), |value| value.get_or_insert_with(default).text().raw())
        })
    })
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: *mut RedisModuleString,
    data: *mut c_void,
    error: *mut *mut RedisModuleString,
) -> c_int {
    super::guard::guard("CONFIG SET", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as for `get`; the value is valid during this call.
        let (setting, value) = unsafe { (data.cast::<TextSetting>().as_ref(), NonNull::new(value)) };
        let (Some(setting), Some(value)) = (setting, value) else { return raw::REDISMODULE_ERR as c_int };
        // SAFETY: as above.
        match setting.set(unsafe { Text::new(value) }) {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(why) => {
                if !error.is_null() {
                    // SAFETY: the server passes a place for an error, which it frees.
                    unsafe { *error = OwnedText::new(why.to_string().as_bytes()).into_raw() };
                }
                raw::REDISMODULE_ERR as c_int
            }
        }
    })
}

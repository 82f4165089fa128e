//! Settings: `loadmodule` arguments, `CONFIG GET/SET syncer.*`, configuration file.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};

use redis_module::raw;
use redis_module::raw::RedisModuleString;

use super::string::{Args, Text};
use super::{Context, ok, text_config};

/// One setting: a number within a range.
pub struct Setting {
    name: &'static CStr,
    default: i64,
    min: i64,
    max: i64,
    flags: u32,
    value: AtomicI64,
}

/// Which instance this is; 0 = not said.
pub static INSTANCE_ID: Setting = Setting::new(c"instance-id", 0, 0, 63, raw::REDISMODULE_CONFIG_IMMUTABLE);
/// Size of the Active-Active backlog, bytes.
pub static BACKLOG_SIZE: Setting =
    Setting::new(c"backlog-size", 256 << 20, 1 << 20, 1 << 40, raw::REDISMODULE_CONFIG_MEMORY);
/// How far ahead of the local clock an effect may be, milliseconds.
pub static MAX_DRIFT_MS: Setting = Setting::new(c"max-drift-ms", 60_000, 100, 86_400_000, 0);
/// How long one `SYNCER.APPLY` may hold the main thread, microseconds.
pub static APPLY_SLICE_US: Setting = Setting::new(c"apply-slice-us", 300, 50, 1_000_000, 0);
/// How many past replication IDs are remembered.
pub static PAST_REPLIDS: Setting = Setting::new(c"past-replication-ids", 64, 1, 1024, 0);
/// Whether the state goes into the server's files. 0 only to leave: a file without it can be read without the module.
pub static SAVE_STATE: Setting = Setting::new(c"save-state", 1, 0, 1, 0);
/// Whether reports carry what is applied, be it durable or not.
pub static REPORT_APPLIED: Setting = Setting::new(c"report-applied", 0, 0, 1, 0);

/// Whether clients may write to an instance that its group has forgotten: nobody else will see it.
pub static FORGOTTEN_WRITES: Setting = Setting::new(c"forgotten-writes", 0, 0, 1, 0);
/// How long the next capture of a large value waits that is captured whole, milliseconds; 0: not at all.
pub static WHOLE_COALESCE_MS: Setting = Setting::new(c"whole-coalesce-ms", 100, 0, 60_000, 0);
/// From which size on, bytes.
pub static WHOLE_COALESCE_SIZE: Setting =
    Setting::new(c"whole-coalesce-size", 16 << 10, 0, 1 << 30, raw::REDISMODULE_CONFIG_MEMORY);

static SETTINGS: [&Setting; 10] = [
    &INSTANCE_ID,
    &BACKLOG_SIZE,
    &MAX_DRIFT_MS,
    &APPLY_SLICE_US,
    &PAST_REPLIDS,
    &SAVE_STATE,
    &FORGOTTEN_WRITES,
    &REPORT_APPLIED,
    &WHOLE_COALESCE_MS,
    &WHOLE_COALESCE_SIZE,
];

/// A setting is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The server did not take it.
    #[error("the server refused the setting syncer.{0}; is it in the configuration file with a value out of range?")]
    Refused(String),
    /// Not a name we know.
    #[error(
        "unknown argument '{0}'; known are instance-id, backlog-size, max-drift-ms, apply-slice-us, past-replication-ids, save-state, forgotten-writes, report-applied, whole-coalesce-ms and whole-coalesce-size, each followed by a value"
    )]
    Unknown(String),
    /// Not what the setting takes.
    #[error("{name} {why}")]
    Text {
        /// Of the setting.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A name without value.
    #[error("argument '{0}' has no value")]
    NoValue(String),
    /// Not a number, or out of range.
    #[error("{name} is '{value}', but must be a number from {min} to {max}")]
    Range {
        /// Of the setting.
        name: String,
        /// What was said.
        value: String,
        /// Lowest.
        min: i64,
        /// Highest.
        max: i64,
    },
}

impl Setting {
    const fn new(name: &'static CStr, default: i64, min: i64, max: i64, flags: u32) -> Self {
        Self { name, default, min, max, flags, value: AtomicI64::new(default) }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    fn parse(&self, text: Text<'_>) -> Result<i64, ConfigError> {
        let is_memory = self.flags & raw::REDISMODULE_CONFIG_MEMORY != 0;
        let number = if is_memory { memory(text.as_bytes()) } else { text.as_integer() };
        // 0 is what an instance id is before it is said.
        let min = if ptr::eq(self, &INSTANCE_ID) { 1 } else { self.min };
        number.filter(|number| (min..=self.max).contains(number)).ok_or_else(|| ConfigError::Range {
            name: self.name(),
            value: String::from_utf8_lossy(text.as_bytes()).into_owned(),
            min,
            max: self.max,
        })
    }

    fn register(&'static self, context: &Context) -> Option<()> {
        let data = ptr::from_ref(self).cast_mut().cast::<c_void>();
        let name = self.name.as_ptr();
        // SAFETY: the context is valid; name and data are static, the callbacks live as long as the module.
        ok(unsafe {
            api!(RedisModule_RegisterNumericConfig)(
                context.raw(),
                name,
                self.default,
                self.flags,
                self.min,
                self.max,
                Some(get),
                Some(set),
                None,
                data,
            )
        })
    }
}

/// Bytes as servers write them: `1k` = 1000, `1kb` = 1024, `1m`, `1mb`, `1g`, `1gb`.
fn memory(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: i64 = match unit {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// Registers every setting and takes the values of the configuration file, then those of `loadmodule`, which win.
///
/// # Errors
/// [`ConfigError`].
pub fn load(context: &Context, args: Args<'_>) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        setting.register(context).ok_or_else(|| ConfigError::Refused(setting.name()))?;
    }
    text_config::register(context)?;
    // SAFETY: the context is valid; all settings are registered.
    ok(unsafe { api!(RedisModule_LoadConfigs)(context.raw()) }).ok_or_else(|| ConfigError::Refused("*".into()))?;
    let mut args = args.iter();
    while let Some(name) = args.next() {
        if text_config::is_name(name.as_bytes()) {
            text_config::take(name.as_bytes(), args.next())?;
            continue;
        }
        let text = String::from_utf8_lossy(name.as_bytes()).into_owned();
        let known = |setting: &&&Setting| name.as_bytes().eq_ignore_ascii_case(setting.name.to_bytes());
        let Some(setting) = SETTINGS.iter().find(known) else { return Err(ConfigError::Unknown(text)) };
        let value = setting.parse(args.next().ok_or(ConfigError::NoValue(text))?)?;
        setting.value.store(value, Ordering::Relaxed);
    }
    Ok(())
}

unsafe extern "C" fn get(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: `data` is the static setting that was registered.
    unsafe { data.cast::<Setting>().as_ref() }.map_or(0, Setting::get)
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    super::guard::guard("CONFIG SET", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as for `get`. The server has checked the range.
        if let Some(setting) = unsafe { data.cast::<Setting>().as_ref() } {
            setting.value.store(value, Ordering::Relaxed);
            crate::load::settings_changed();
        }
        raw::REDISMODULE_OK as c_int
    })
}

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn memory_is_read_as_servers_read_it() {
        assert_eq!(memory(b"256mb"), Some(256 << 20));
        assert_eq!(memory(b"1G"), Some(1_000_000_000));
        assert_eq!(memory(b"4096"), Some(4096));
        for bad in ["", "mb", "1tb", "-1", "1.5gb", "99999999999gb"] {
            assert_eq!(memory(bad.as_bytes()), None, "{bad}");
        }
    }
}

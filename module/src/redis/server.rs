//! What the server says about itself: its `INFO` fields and its table of commands.

use std::ffi::CStr;

use redis_module::raw;

use super::{Context, OwnedText, call};

/// A section of `INFO`, read once.
pub struct Info {
    raw: *mut raw::RedisModuleServerInfoData,
}

impl Info {
    /// Reads a section.
    #[must_use]
    pub fn section(context: &Context, section: &CStr) -> Self {
        // SAFETY: the context is valid, the name a C string; the server never returns null.
        Self { raw: unsafe { api!(RedisModule_GetServerInfo)(context.raw(), section.as_ptr()) } }
    }

    /// The text of a field.
    #[must_use]
    pub fn text(&self, field: &CStr) -> Option<String> {
        // SAFETY: `raw` is valid until dropped, and so is the text; null means no such field.
        unsafe {
            let text = api!(RedisModule_ServerInfoGetFieldC)(self.raw, field.as_ptr());
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// The text of a field whose name ends in a number.
    #[must_use]
    pub fn indexed(&self, field: &CStr, index: u64) -> Option<String> {
        let name = format!("{}{index}\0", field.to_string_lossy());
        self.text(CStr::from_bytes_with_nul(name.as_bytes()).ok()?)
    }

    /// The number of a field.
    #[must_use]
    pub fn number(&self, field: &CStr) -> Option<u64> {
        self.text(field)?.parse().ok()
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: read by us and freed once; it has no context of automatic memory.
        unsafe { api!(RedisModule_FreeServerInfo)(std::ptr::null_mut(), self.raw) };
    }
}

/// How many logical databases the server has.
#[must_use]
pub fn databases(context: &Context) -> u32 {
    let selected = context.db();
    let count = (0..).find(|db| !context.select(*db)).unwrap_or(1);
    context.select(selected);
    count
}

/// Keys, and keys with a TTL, in all databases.
#[must_use]
pub fn key_counts(context: &Context, databases: u32) -> (u64, u64) {
    let keyspace = Info::section(context, c"keyspace");
    let mut field = Vec::new();
    let (mut keys, mut volatile) = (0, 0);
    for db in 0..databases {
        field.clear();
        field.extend_from_slice(format!("db{db}\0").as_bytes());
        let text = CStr::from_bytes_with_nul(&field).ok().and_then(|field| keyspace.text(field));
        for (name, value) in text.iter().flat_map(|text| text.split(',')).filter_map(|part| part.split_once('=')) {
            match name {
                "keys" => keys += value.parse().unwrap_or(0),
                "expires" => volatile += value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    (keys, volatile)
}

/// The version of the server if it is Valkey.
#[must_use]
pub fn valkey_version(context: &Context) -> Option<String> {
    Info::section(context, c"server").text(c"valkey_version")
}

/// The name and version of a server that is older than what the module needs.
#[must_use]
pub fn too_old(context: &Context) -> Option<String> {
    let info = Info::section(context, c"server");
    judged(info.text(c"valkey_version").as_deref(), info.text(c"redis_version").as_deref())
}

/// Valkey has both: the second is that of the Redis that it is compatible with.
fn judged(valkey: Option<&str>, redis: Option<&str>) -> Option<String> {
    let (name, version, needed) = match valkey {
        Some(version) => ("Valkey", version, (8, 0)),
        None => ("Redis", redis?, (7, 2)),
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (found < needed).then(|| format!("{name} {version}"))
}

/// What the server's own setting of this name is now; nothing if it has none.
#[must_use]
pub fn setting(context: &Context, name: &[u8]) -> Option<Vec<u8>> {
    let words = [b"GET", name].map(OwnedText::new);
    let reply = call(context, c"CONFIG", &words.each_ref().map(OwnedText::text));
    Some(reply.root()?.get(1)?.bytes()?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_are_named() {
        for (valkey, redis, expected) in [
            (None, Some("7.0.15"), Some("Redis 7.0.15")),
            (None, Some("6.2.0"), Some("Redis 6.2.0")),
            (None, Some("7.2.0"), None),
            (None, Some("8.2.3"), None),
            (Some("7.2.5"), Some("7.2.4"), Some("Valkey 7.2.5")),
            (Some("8.0.0"), Some("7.2.4"), None),
            (Some("9.1.2"), Some("7.2.4"), None),
            (None, None, None),
        ] {
            assert_eq!(judged(valkey, redis).as_deref(), expected, "{valkey:?} {redis:?}");
        }
    }
}

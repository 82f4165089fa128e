//! Loading: arguments, what the server must offer, registration.

use syncer_shared::instance::InstanceId;

use crate::redis::command::NotRegistered;
use crate::redis::config::{self, BACKLOG_SIZE, ConfigError, INSTANCE_ID, MAX_DRIFT_MS, PAST_REPLIDS};
use crate::redis::{Args, Context, register, server};
use crate::{capture, state};

/// Why the module did not load. The text goes to the server's log.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server lacks API functions.
    #[error(
        "this server lacks {}; Redis 7.2 or later, or Valkey 8.0 or later is needed",
        .0.join(", ")
    )]
    Missing(Vec<&'static str>),
    /// A server with the functions, but never tested.
    #[error("this server is {0}; Redis 7.2 or later, or Valkey 8.0 or later is needed")]
    TooOld(String),
    /// The server does not take a callback.
    #[error("the server refused {0}; is it a version that Syncer is tested with?")]
    Callback(&'static str),
    /// A command name is taken.
    #[error(transparent)]
    Command(#[from] NotRegistered),
    /// A setting has a wrong value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither `loadmodule` nor the configuration file says which instance this is.
    #[error(
        "instance-id is missing: say `loadmodule .../libsyncer.so instance-id N` with N from 1 to 63, unique among all sites"
    )]
    NoInstance,
}

/// Everything that happens in `OnLoad`.
///
/// # Errors
/// [`LoadError`]; the server then unloads the module and, when it was told to load it at start, exits.
pub fn load(context: &Context, args: Args<'_>) -> Result<(), LoadError> {
    if let Some(version) = server::too_old(context) {
        return Err(LoadError::TooOld(version));
    }
    config::load(context, args)?;
    let instance = u8::try_from(INSTANCE_ID.get()).ok().and_then(InstanceId::new).ok_or(LoadError::NoInstance)?;
    state::init(instance);
    state::configure(|config| config.databases = server::databases(context));
    settings_changed();

    crate::redis::signal_explicitly(context);
    crate::redis::know_encodings(context);
    for command in capture::COMMANDS.iter().chain(crate::commands::COMMANDS) {
        register(context, command)?;
    }
    let taken = |what, result: Option<()>| result.ok_or(LoadError::Callback(what));
    taken("a subscription to keyspace events", crate::redis::notify::subscribe(context))?;
    taken("a subscription to server events", crate::redis::events::subscribe(context))?;
    taken("a command filter", crate::redis::filter::register(context))?;
    taken("a data type", crate::redis::aux::register::<crate::persist::SavedState>(context))?;
    taken("a section of INFO", crate::redis::info::register::<crate::info::Syncer>(context))?;
    capture::init(context);
    capture::aof::require(context);
    Ok(())
}

/// Passes the settings on.
pub fn settings_changed() {
    state::configure(|config| {
        config.backlog_bytes = BACKLOG_SIZE.get().unsigned_abs();
        config.drift_ms_max = MAX_DRIFT_MS.get().unsigned_abs();
        config.past_replids_max = PAST_REPLIDS.get().unsigned_abs() as usize;
    });
}

#[cfg(test)]
mod tests {
    use super::LoadError;

    #[test]
    fn a_refusal_says_which_server_is_needed() {
        let needed = "Redis 7.2 or later, or Valkey 8.0 or later is needed";
        let text = LoadError::TooOld("Redis 7.0.15".into()).to_string();
        assert_eq!(text, format!("this server is Redis 7.0.15; {needed}"));
        let text = LoadError::Missing(vec!["one function", "another"]).to_string();
        assert_eq!(text, format!("this server lacks one function, another; {needed}"));
    }
}

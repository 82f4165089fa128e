//! Loading: arguments, what the server must offer, registration.

use crate::redis::command::NotRegistered;
use crate::redis::{Args, Context, register};

/// Why the module did not load. The text goes to the server's log.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server lacks API functions.
    #[error(
        "this server lacks {}; Redis 7.2 or later, or Valkey 8.0 or later is needed",
        .0.join(", ")
    )]
    Missing(Vec<&'static str>),
    /// The server does not take our private class of keyspace events.
    #[error("the server refused a subscription to keyspace events; is it a version that Syncer is tested with?")]
    Subscription,
    /// A command name is taken.
    #[error(transparent)]
    Command(#[from] NotRegistered),
}

/// Everything that happens in `OnLoad`.
///
/// # Errors
/// [`LoadError`]; the server then unloads the module and, when it was told to load it at start, exits.
pub fn load(context: &Context, _args: Args<'_>) -> Result<(), LoadError> {
    crate::redis::signal_explicitly(context);
    crate::redis::expiry::subscribe(context).ok_or(LoadError::Subscription)?;
    for command in crate::capture::COMMANDS.iter().chain(crate::commands::COMMANDS) {
        register(context, command)?;
    }
    Ok(())
}

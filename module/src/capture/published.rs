//! Which messages and which libraries of functions travel: `syncer.publish`, `syncer.functions`.

use std::cell::{Cell, RefCell};

use syncer_shared::glob;

crate::redis::server_local! {
    /// Patterns of channels; usually none.
    static CHANNELS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static FUNCTIONS: Cell<bool> = const { Cell::new(false) };
}

/// Takes `off`, `all`, or patterns of channels.
///
/// # Errors
/// None; the signature is that of every setting.
#[allow(clippy::unnecessary_wraps)]
pub fn set_channels(text: &str) -> Result<(), String> {
    let patterns: Vec<Box<[u8]>> = match text.trim() {
        "" | "off" => Vec::new(),
        "all" => vec![b"*".as_slice().into()],
        patterns => patterns.split_ascii_whitespace().map(|pattern| pattern.as_bytes().into()).collect(),
    };
    CHANNELS.set(patterns);
    Ok(())
}

/// Takes `on` or `off`.
///
/// # Errors
/// On anything else, with what to say instead.
pub fn set_functions(text: &str) -> Result<(), String> {
    let on = match text {
        "on" | "yes" => true,
        "off" | "no" => false,
        other => return Err(format!("is '{other}', but must be on or off")),
    };
    FUNCTIONS.set(on);
    Ok(())
}

/// Whether messages on this channel travel.
#[must_use]
pub fn wants(channel: Option<&[u8]>) -> bool {
    let matches = |channel| CHANNELS.with_borrow(|all| all.iter().any(|pattern| glob::matches(pattern, channel)));
    channel.is_some_and(matches)
}

/// Whether this subcommand of `FUNCTION` changes libraries.
#[must_use]
pub fn changes_functions(subcommand: Option<&[u8]>) -> bool {
    const CHANGES: [&[u8]; 4] = [b"load", b"delete", b"flush", b"restore"];
    subcommand.is_some_and(|word| CHANGES.iter().any(|change| word.eq_ignore_ascii_case(change)))
}

/// Whether libraries of functions travel.
#[must_use]
pub fn wants_functions() -> bool {
    FUNCTIONS.get()
}

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
/// On what is a pattern by its form, but surely not meant as one: then nothing would travel, and nobody be told.
pub fn set_channels(text: &str) -> Result<(), String> {
    const SWITCHES: [&str; 5] = ["on", "yes", "true", "no", "false"];
    let text = text.trim();
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    let patterns: Vec<Box<[u8]>> = if text.is_empty() || is("off") {
        Vec::new()
    } else if is("all") {
        vec![b"*".as_slice().into()]
    } else if SWITCHES.into_iter().any(is) {
        return Err(format!("is '{text}', but must be off, all, or patterns of channels"));
    } else {
        text.split_ascii_whitespace().map(|pattern| pattern.as_bytes().into()).collect()
    };
    CHANNELS.set(patterns);
    Ok(())
}

/// Takes `on` or `off`.
///
/// # Errors
/// On anything else, with what to say instead.
pub fn set_functions(text: &str) -> Result<(), String> {
    let on = match text.to_ascii_lowercase().as_str() {
        "on" | "yes" => true,
        "off" | "no" => false,
        _ => return Err(format!("is '{text}', but must be on or off")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_channels_are_taken_as_they_are_meant() {
        let (news, all) = (Some(b"news.1".as_slice()), Some(b"ALL".as_slice()));
        for (text, travels) in [("ALL", true), ("OFF", false), ("news.*", true), ("-5 [mn]ews.?", true), ("-5", false)]
        {
            set_channels(text).unwrap();
            assert_eq!(wants(news), travels, "{text}");
        }
        set_channels("news.*").unwrap();
        for switch in ["on", "yes", "No", " true ", "FALSE"] {
            let error = set_channels(switch).unwrap_err();
            assert!(error.contains("must be off, all, or patterns of channels"), "{error}");
        }
        assert!(wants(news) && !wants(all), "what is refused changes nothing");
        set_functions("ON").unwrap();
        assert!(wants_functions() && set_functions("-5").is_err());
    }
}

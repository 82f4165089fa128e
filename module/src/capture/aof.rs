//! The append-only file can hold the state only in an RDB head (CAPTURE 10).

use crate::redis::server::setting;
use crate::redis::{Context, OwnedText, call, log};

const OPTION: &[u8] = b"aof-use-rdb-preamble";

/// Whether the server writes its append-only file with such a head.
fn has_head(context: &Context) -> bool {
    setting(context, OPTION).as_deref() != Some(b"no")
}

/// Turns the option on if need be: when the module is loaded, since a replica soon makes a file of what its primary sends it; also where there is no such
/// file yet, since the server forks at once when there is to be one. And when a reign begins.
pub fn require(context: &Context) {
    if has_head(context) {
        return;
    }
    let words = [&b"SET"[..], OPTION, b"yes"].map(OwnedText::new);
    let failed = call(context, c"CONFIG", &words.each_ref().map(OwnedText::text)).is_error();
    log::warning(&format!(
        "syncer: aof-use-rdb-preamble is no: an append-only file without an RDB head cannot hold the Active-Active state{}",
        if failed { "; set it to yes" } else { ". It was set to yes; change your configuration" }
    ));
}

/// A child was forked, which may rewrite the file.
pub fn look(context: &Context) {
    if context.flags().has_aof() && !has_head(context) {
        log::warning(
            "syncer: aof-use-rdb-preamble is no: after a restart from a rewritten append-only file the other instances will need a full sync; CONFIG SET aof-use-rdb-preamble yes, then BGREWRITEAOF",
        );
    }
}

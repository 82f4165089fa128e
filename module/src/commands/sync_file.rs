//! `SYNCER.SYNC` into an empty instance: an RDB file of the source instead of a merge.

use super::arguments::{Arguments, CommandError, may_block};
use super::progress::{self, Phase};
use crate::native::{self, Sum};
use crate::redis::{CommandResult, Context, log};

/// What files this instance can take; empty: none.
pub fn offer(context: &Context) -> CommandResult {
    context.reply().text(&native::offer(context).unwrap_or_default());
    Ok(())
}

/// `LOAD instance total-keys reason`.
pub fn begin(context: &Context, args: Arguments<'_>) -> CommandResult {
    let (source, total, reason) = (args.instance(2, "instance")?, args.offset(3, "total-keys")?, args.text(4)?);
    if let Some(other) = progress::rival(context.client()) {
        return Err(CommandError::Rival(other).into());
    }
    let token = native::begin(context, source)?;
    progress::begin(context.client(), source, total, Phase::File);
    log::notice(&format!(
        "syncer: full sync from instance {source} begins, about {total} keys as a file, since this instance is empty: {reason}"
    ));
    context.reply().number(token);
    Ok(())
}

/// `PIECE token bytes`.
pub fn piece(context: &Context, args: Arguments<'_>) -> CommandResult {
    let (token, bytes) = (blocking(context, args)?, args.bytes(3)?);
    native::piece(context, token, bytes)?;
    progress::advance(0, bytes.len() as u64);
    Ok(())
}

/// `WRITTEN token bytes hash`.
pub fn written(context: &Context, args: Arguments<'_>) -> CommandResult {
    let token = blocking(context, args)?;
    let hash = u64::from_str_radix(args.text(4)?, 16);
    let hash = hash.map_err(|_| CommandError::Hash)?;
    Ok(native::written(context, token, Sum { bytes: args.offset(3, "bytes")?, hash })?)
}

/// `SWAP token`: `LOADING` or `DONE`.
pub fn swap(context: &Context, args: Arguments<'_>) -> CommandResult {
    let done = native::swap(context, args.offset(2, "token")?)?;
    context.reply().text(if done { "DONE" } else { "LOADING" });
    Ok(())
}

fn blocking(context: &Context, args: Arguments<'_>) -> Result<u64, CommandError> {
    if !may_block(context) {
        return Err(CommandError::CannotBlock("SYNCER.SYNC"));
    }
    progress::touch(context.client());
    args.offset(2, "token")
}

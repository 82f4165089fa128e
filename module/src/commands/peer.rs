//! `SYNCER.PEER`: what an agent asks and tells about one peer, or of another server of its own site.

use std::time::Instant;

use syncer_shared::instance::InstanceId;
use syncer_shared::shard::PeerState;

use super::arguments::{Arguments, CommandError};
use super::told;
use crate::capture::replication;
use crate::redis::timer::now_ms;
use crate::redis::{Args, Command, CommandResult, Context, Run, entry, log};
use crate::state;

/// `SYNCER.PEER instance INFO|POSITION|STATE|REPLACED ...`.
pub const COMMAND: Command = Command {
    name: c"syncer.peer",
    entry: entry::<Peer>(),
    flags: c"readonly may-replicate deny-script",
    categories: c"admin dangerous",
    arity: -3,
    keys: (0, 0, 0),
    summary: c"Agents: where to read a peer on, and what goes on with it.",
    usage: "instance INFO | POSITION replid offset | STATE word [error] | REPLACED replid",
    complexity: c"O(1)",
};

struct Peer;

impl Run for Peer {
    fn run(context: &Context, args: Args<'_>) -> CommandResult {
        let args = Arguments(args);
        let peer = args.instance(1, "instance")?;
        let word = args.text(2)?;
        match (word.to_ascii_uppercase().as_str(), args.0.len()) {
            ("INFO", 3) => info(context, peer)?,
            ("POSITION", 5) => set_position(context, peer, args)?,
            ("STATE", 4 | 5) => set_state(context, peer, args)?,
            ("REPLACED", 4) => set_replaced(context, peer, args)?,
            ("INFO" | "POSITION" | "STATE" | "REPLACED", _) => return Err(CommandError::Arity.into()),
            _ => {
                let known = "INFO, POSITION, STATE, REPLACED";
                return Err(CommandError::Word { name: "subcommand", word: word.into(), known }.into());
            }
        }
        Ok(())
    }
}

fn info(context: &Context, peer: InstanceId) -> Result<(), CommandError> {
    let shard = state::shard()?;
    let position = shard.peer(peer).and_then(|peer| peer.position);
    let reply = context.reply();
    reply.array(6);
    reply.integer(i64::from(shard.instance().get()));
    reply.text(&shard.replid().to_string());
    match position {
        Some((replid, offset)) => {
            reply.text(&replid.to_string());
            reply.number(offset);
        }
        None => {
            reply.text("?");
            reply.integer(-1);
        }
    }
    reply.text(&shard.clock_token().to_string());
    reply.text(shard.standing().name());
    Ok(())
}

fn set_position(context: &Context, peer: InstanceId, args: Arguments<'_>) -> CommandResult {
    let (replid, offset) = (args.replid(3, "replid")?, args.offset(4, "offset")?);
    let mut shard = state::shard()?;
    if !shard.is_primary() {
        return Err(CommandError::Replica.into());
    }
    shard.set_position(peer, replid, offset)?;
    replication::drain(context, &mut shard);
    context.reply().ok();
    Ok(())
}

fn set_state(context: &Context, peer: InstanceId, args: Arguments<'_>) -> CommandResult {
    let known = "connecting, handshake, streaming, waiting, syncing, down, refused";
    let word = args.text(3)?;
    let unknown = || CommandError::Word { name: "state", word: word.into(), known };
    let state = PeerState::from_name(word).ok_or_else(unknown)?;
    let error = if args.0.len() > 4 { args.text(4)? } else { "" };
    state::shard()?.set_peer_state(peer, state, error);
    if told::note(peer, state, Instant::now()) {
        log::warning(&format!("syncer: instance {peer} is refused, says the agent, until somebody mends it: {error}"));
    }
    context.reply().ok();
    Ok(())
}

/// The agent goes on with another server of this site.
fn set_replaced(context: &Context, instance: InstanceId, args: Arguments<'_>) -> CommandResult {
    let by = args.replid(3, "replid")?;
    let mut shard = state::shard()?;
    if !shard.is_primary() {
        return Err(CommandError::Replica.into());
    }
    if instance != shard.instance() {
        return Err(CommandError::OtherInstance { own: shard.instance(), named: instance }.into());
    }
    shard.tell_replaced(by, now_ms());
    context.reply().ok();
    Ok(())
}

//! `SYNCER.PEERS`: what this instance knows of the others.

use syncer_shared::instance::InstanceId;
use syncer_shared::shard::Peer;

use crate::redis::{Answer, Args, Command, CommandResult, Context, Run, entry};
use crate::state;

/// `SYNCER.PEERS`.
pub const COMMAND: Command = Command {
    name: c"syncer.peers",
    entry: entry::<Peers>(),
    flags: c"readonly fast allow-loading allow-stale",
    categories: c"read fast",
    arity: 1,
    keys: (0, 0, 0),
    summary: c"Shows each peer: state, position in its backlog, lag, last error.",
    usage: "",
    complexity: c"O(N) with N peers",
};

struct Peers;

impl Run for Peers {
    fn run(context: &Context, _: Args<'_>) -> CommandResult {
        let peers = state::shard()?.peers().map(|(id, peer)| answer(id, peer)).collect();
        context.reply().answer(&Answer::Array(peers));
        Ok(())
    }
}

fn answer(id: InstanceId, peer: &Peer) -> Answer {
    let (replid, offset) = match peer.position {
        Some((replid, offset)) => (replid.to_string().into(), offset.into()),
        None => (Answer::Null, Answer::Null),
    };
    Answer::Map(vec![
        ("instance", u64::from(id.get()).into()),
        ("state", peer.state.name().into()),
        ("replid", replid),
        ("applied_offset", offset),
        ("end_offset", peer.end.into()),
        ("lag_bytes", peer.lag_bytes().into()),
        ("lag_ms", peer.lag_ms().into()),
        ("applied_groups", peer.groups.into()),
        ("last_report_ms", peer.report_ms.into()),
        ("last_error", peer.error.as_str().into()),
    ])
}

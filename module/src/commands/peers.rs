//! `SYNCER.PEERS`: what this instance knows of the others.

use std::time::Instant;

use syncer_shared::instance::InstanceId;
use syncer_shared::shard::{Peer, PeerState};

use super::headroom::{self, Headroom};
use super::told;
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
        let shard = state::shard()?;
        let (now, backlog, members) = (Instant::now(), shard.backlog(), shard.membership());
        let peer = |(id, peer): (InstanceId, &Peer)| {
            let headroom = headroom::of(id, backlog);
            let mut told =
                told::shown(id, peer, headroom.is_some() || (members.contains(id) && id != shard.instance()), now)?;
            if !shard.is_primary() {
                told = (PeerState::Unknown.name(), "this server is a replica: ask its primary".into());
            }
            Some(answer(id, peer, told, headroom, backlog.capacity()))
        };
        let peers = shard.peers().filter_map(peer).collect();
        context.reply().answer(&Answer::Array(peers));
        Ok(())
    }
}

fn answer(
    id: InstanceId,
    peer: &Peer,
    (state, cause): (&'static str, String),
    headroom: Option<Headroom>,
    backlog_bytes: u64,
) -> Answer {
    let (replid, offset) = match peer.position {
        Some((replid, offset)) => (replid.to_string().into(), offset.into()),
        None => (Answer::Null, Answer::Null),
    };
    let left = headroom.and_then(|headroom| headroom.bytes);
    let number = |number: Option<u64>| number.map_or(Answer::Null, Answer::from);
    Answer::Map(vec![
        ("instance", u64::from(id.get()).into()),
        ("state", state.into()),
        ("replid", replid),
        ("applied_offset", offset),
        ("end_offset", peer.end.into()),
        ("lag_bytes", peer.lag_bytes().into()),
        ("lag_effects", number(peer.lag_effects())),
        ("lag_ms", peer.lag_ms().into()),
        ("applied_groups", peer.groups.into()),
        ("last_report_ms", peer.report_ms.into()),
        ("reads_offset", number(headroom.map(|headroom| headroom.offset))),
        ("reading", u64::from(headroom.is_some_and(|headroom| headroom.is_reading)).into()),
        ("headroom_bytes", number(left)),
        ("headroom_percent", number(left.and_then(|left| (left * 100).checked_div(backlog_bytes)))),
        ("headroom_seconds", number(left.and_then(headroom::seconds))),
        ("last_error", cause.into()),
    ])
}

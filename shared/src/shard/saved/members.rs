//! Members, what they have reported, and what is known of peers.

use std::collections::{BTreeMap, VecDeque};

use super::super::join::Joining;
use super::super::{Heard, Peer, Shard};
use super::pieces::{Pieces, Tag};
use super::{SavedError, clocks};
use crate::group;
use crate::instance::InstanceId;
use crate::membership::Membership;
use crate::origin::Origin;
use crate::replid::ReplId;
use crate::report;
use crate::snapshot::{SnapshotForgotten, encode_forgotten, read_dot, read_forgotten, write_dot};
use crate::stability::Stability;
use crate::token::ClockToken;
use crate::wire::{Reader, WireError, limits, writer};

pub(super) fn save(pieces: &mut Pieces<'_>, membership: &Membership, stability: &Stability, heard: &Heard) {
    pieces.item(Tag::Members, |out| {
        let joins = |instance| membership.joins(instance).iter().map(move |dot| (instance, dot));
        let joins: Vec<_> = membership.members().iter().flat_map(joins).collect();
        writer::varint(out, joins.len() as u64);
        for (instance, dot) in joins {
            writer::instance(out, instance);
            write_dot(out, dot);
        }
    });
    // Last in a release: written only if there is something, so that older ones read what has none.
    if membership.all_forgotten().next().is_some() || !membership.frozen().is_empty() {
        let all: Vec<SnapshotForgotten> =
            membership.all_forgotten().map(|(instance, f)| (instance, f.clone()).into()).collect();
        pieces.item(Tag::Forgotten, |out| encode_forgotten(&all, membership.frozen(), out));
    }
    stability.each_report(&mut |encode| pieces.item(Tag::Reports, encode));
    let Heard { members } = heard;
    let members: Vec<_> = members.values().cloned().collect();
    pieces.item(Tag::Heard, |out| report::encode(&members, out));
}

pub(super) fn decode_joins(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    for _ in 0..reader.varint("joins")? {
        let (instance, dot) = (reader.instance("member")?, read_dot(reader)?);
        clocks::check_dots([dot].into_iter(), &shard.origins)?;
        shard.membership.restore(instance, dot);
    }
    Ok(())
}

pub(super) fn decode_forgotten(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let (all, frozen) = read_forgotten(reader)?;
    let known: Vec<Origin> = shard.origins.iter().map(|(origin, ..)| origin).collect();
    for forgotten in &all {
        let named = forgotten.named(&known).ok_or(SavedError::Unfitting("a forgotten instance"))?;
        shard.membership.meet_forgotten(named.0, &named.1, true);
    }
    if frozen.iter().any(|origin| origin.index() >= known.len()) {
        return Err(SavedError::Unfitting("a frozen reign"));
    }
    shard.membership.freeze(frozen.into_iter());
    Ok(())
}

pub(super) fn encode_joining(joining: &Joining, out: &mut Vec<u8>) {
    let Joining { via, mine_wins, renewals } = joining;
    writer::flag(out, *mine_wins);
    via.encode(out);
    writer::varint(out, renewals.len() as u64);
    renewals.iter().for_each(|body| writer::prefixed(out, body));
}

pub(super) fn decode_joining(reader: &mut Reader<'_>) -> Result<Joining, SavedError> {
    let mine_wins = reader.flag("policy")?;
    let via = ClockToken::decode(reader)?;
    let mut renewals = VecDeque::new();
    for _ in 0..reader.varint("renewals")? {
        let body = reader.prefixed(limits::FRAME_BYTES_MAX, "renewal")?;
        group::check(body)?;
        renewals.push_back(body.to_vec());
    }
    Ok(Joining { via, mine_wins, renewals })
}

pub(super) fn decode_reports(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    Ok(shard.stability.restore_report(reader, &shard.origins)?)
}

pub(super) fn decode_heard(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), SavedError> {
    let members = report::decode(reader.rest())?;
    *reader = Reader::new(&[]);
    shard.heard.members = members.into_iter().map(|member| (member.instance, member)).collect();
    Ok(())
}

pub(super) fn save_peers(
    pieces: &mut Pieces<'_>,
    peers: &BTreeMap<InstanceId, Peer>,
    introduced: &BTreeMap<InstanceId, Vec<ReplId>>,
) {
    for (id, peer) in peers {
        // What an agent says is of its session.
        let Peer { position, end, newest, source_ms, groups, state: _, error: _, report_ms: _, density: _ } = peer;
        pieces.item(Tag::Peer, |out| {
            writer::instance(out, *id);
            writer::flag(out, position.is_some());
            if let Some((replid, offset)) = position {
                writer::replid(out, replid);
                writer::u64(out, *offset);
            }
            writer::u64(out, *end);
            writer::timestamp(out, *newest);
            writer::u64(out, *source_ms);
            writer::u64(out, *groups);
        });
    }
    let names = introduced.iter().flat_map(|(id, replids)| replids.iter().map(move |replid| (id, replid)));
    for (id, replid) in names {
        pieces.item(Tag::Introduced, |out| {
            writer::instance(out, *id);
            writer::replid(out, replid);
        });
    }
}

pub(super) fn decode_peer(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), WireError> {
    let id = reader.instance("peer")?;
    let has_position = reader.flag("position")?;
    let position = has_position.then(|| Ok::<_, WireError>((reader.replid("position")?, reader.u64("position")?)));
    let peer = Peer {
        position: position.transpose()?,
        end: reader.u64("end")?,
        newest: reader.timestamp("newest")?,
        source_ms: reader.u64("time")?,
        groups: reader.u64("groups")?,
        ..Peer::default()
    };
    shard.peers.insert(id, peer);
    Ok(())
}

pub(super) fn decode_introduced(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<(), WireError> {
    let (id, replid) = (reader.instance("peer")?, reader.replid("replication ID")?);
    shard.introduced.entry(id).or_default().push(replid);
    Ok(())
}

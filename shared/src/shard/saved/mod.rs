//! The state of a shard as bytes: what goes into the server's files and, at a native full sync, to its replicas (DESIGN 4,
//! docs/PROTOCOL.md 10).
//!
//! Everything that a primary must still know after a restart, and a replica to take over. Counters, errors of agents and reused
//! buffers are not in it. The whole is taken, or nothing.

pub(crate) mod clocks;
mod members;
mod pieces;
mod reigns;
mod syncing;
mod taken;

pub(crate) use pieces::BodySink;
use pieces::{Items, Pieces, Tag};

use super::{Aside, Shard, ShardConfig, Start};
use crate::instance::{InstanceId, InstanceSet};
use crate::merge::{Element, OwnedPath, Revival};
use crate::metadata::{Base, KeyMeta, PathMeta};
use crate::origin::OriginError;
use crate::snapshot::key::{decode_time, encode_time};
use crate::snapshot::{SnapshotKey, key, read_dot, write_dot};
use crate::timestamp::Hlc;
use crate::wire::{Reader, WireError, writer};

/// Of [`Tag::Head`]. A later one is refused; older ones are read for ever.
const VERSION: u8 = 1;

/// Why a saved state was refused. Nothing of it is used then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Damaged, or of another release.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A replication ID has two owners.
    #[error("{0}")]
    Identity(#[from] OriginError),
    /// Cut off.
    #[error("it ends before its end mark")]
    Incomplete,
    /// Parts of it do not fit each other.
    #[error("{0} does not fit the rest")]
    Unfitting(&'static str),
}

impl Shard {
    /// Writes the state, in pieces of about 1 MiB.
    pub fn save(&self, sink: &mut dyn FnMut(&[u8])) {
        // No `..`: what is added to a shard is either saved, or named here as what needs not be.
        let Self {
            config,
            start,
            replid,
            me: _,
            past,
            hlc,
            origins,
            clock,
            streams,
            dirty,
            backlog,
            metadata,
            membership,
            stability,
            peers,
            heard,
            introduced,
            gap,
            aside,
            syncing,
            has_pruned,
            changed,
            compared: _,
            dropped,
            has_written: _,
            joining,
            told_out: _,
            told_replaced: _,
            lacking: _,
            counters: _,
            groups_unpruned: _,
            durable: _,
            records: _,
            frame: _,
            change: _,
            own_group: _,
            edited: _,
            ranges: _,
            ends: _,
            taken,
        } = self;
        let mut pieces = Pieces::new(sink);
        pieces.item(Tag::Head, |out| {
            out.push(VERSION);
            writer::instance(out, config.instance);
            out.push(start_code(*start));
            writer::replid(out, replid);
            writer::timestamp(out, hlc.last());
            writer::flag(out, *has_pruned);
            // What the first release kept of late comers.
            writer::u64(out, 0);
            writer::flag(out, gap.is_some());
            writer::u64(out, gap.unwrap_or_default());
        });
        reigns::save(&mut pieces, origins, streams, stability);
        pieces.item(Tag::Clocks, |out| {
            clocks::encode(clock, out);
            clocks::encode(stability.stable(), out);
            clocks::encode_origins(dirty, out);
        });
        for (origin, had) in stability.all_had() {
            pieces.item(Tag::Had, |out| {
                writer::varint(out, origin.index() as u64);
                clocks::encode(had, out);
            });
        }
        pieces.item(Tag::Past, |out| reigns::encode_past(past, out));
        members::save(&mut pieces, membership, stability, heard);
        if let Some(joining) = joining {
            pieces.item(Tag::Joining, |out| members::encode_joining(joining, out));
        }
        members::save_peers(&mut pieces, peers, introduced);
        for (db, name, meta) in metadata.before_tail().iter() {
            pieces.item(Tag::Key, |out| key::encode(out, db, name, meta));
        }
        for (db, key) in changed {
            pieces.item(Tag::Changed, |out| {
                writer::u32(out, *db);
                out.extend_from_slice(key);
            });
        }
        for aside in aside {
            pieces.item(Tag::Aside, |out| encode_aside(aside, out));
        }
        for own in taken.iter() {
            pieces.item(Tag::Taken, |out| own.encode(out));
        }
        if let Some(dropped) = dropped {
            pieces.item(Tag::Dropped, |out| writer::u64(out, dropped.at_ms()));
        }
        if let Some(syncing) = syncing {
            syncing::save(&mut pieces, syncing);
        }
        backlog.save(&mut |kind, write| {
            let tag = match kind {
                crate::backlog::SavedItem::Head => Tag::Backlog,
                crate::backlog::SavedItem::Mark => Tag::Mark,
                crate::backlog::SavedItem::Frames => Tag::Frames,
            };
            pieces.item(tag, write);
        });
        if let Some(from) = metadata.tail_from() {
            pieces.item(Tag::Tail, |out| writer::u64(out, from));
        }
        pieces.end();
    }
}

/// Puts a shard together from the pieces of its saved state.
pub struct Restorer {
    items: Items,
    shard: Shard,
    /// Whose state it is.
    saved_by: Option<InstanceId>,
    /// Where its tail begins.
    tail: Option<u64>,
    backlog: crate::backlog::Restorer,
}

impl Restorer {
    /// For a server of this configuration.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let replid = crate::replid::ReplId::from_bytes([0; crate::replid::ReplId::LEN]);
        let backlog = crate::backlog::Restorer::new(u64::MAX);
        let shard = Shard::new(config, replid, Start::Replica, 0);
        Self { items: Items::new(), shard, saved_by: None, tail: None, backlog }
    }

    /// The next piece.
    ///
    /// # Errors
    /// See [`SavedError`]; then the rest is of no use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), SavedError> {
        let Self { items, shard, saved_by, tail, backlog } = self;
        items.push(piece, &mut |tag, mut reader| {
            if saved_by.is_none() != (tag == Tag::Head) {
                return Err(SavedError::Unfitting("the head"));
            }
            if tag == Tag::Tail {
                *tail = Some(reader.u64("tail")?);
            } else {
                take(tag, &mut reader, shard, saved_by, backlog)?;
            }
            Ok(reader.finish()?)
        })
    }

    /// The shard, as a replica: a primary begins a reign next. A state that another instance saved becomes this one's.
    ///
    /// # Errors
    /// See [`SavedError`].
    pub fn finish(self) -> Result<Shard, SavedError> {
        let Self { items, mut shard, saved_by, tail, backlog } = self;
        let saved_by = saved_by.filter(|_| items.have_ended()).ok_or(SavedError::Incomplete)?;
        shard.backlog = backlog.finish()?;
        shard.metadata.restoring().sort_queues();
        shard.has_written = shard.has_gone_on();
        if tail.is_some_and(|from| !shard.restore_tail(from)) {
            return Err(SavedError::Unfitting("the tail of the backlog"));
        }
        if saved_by != shard.config.instance {
            shard.adopt(saved_by);
        }
        shard.resize_backlog(shard.config.backlog_bytes);
        Ok(shard)
    }
}

fn take(
    tag: Tag,
    reader: &mut Reader<'_>,
    shard: &mut Shard,
    saved_by: &mut Option<InstanceId>,
    backlog: &mut crate::backlog::Restorer,
) -> Result<(), SavedError> {
    match tag {
        Tag::Head => *saved_by = Some(decode_head(reader, shard)?),
        Tag::Reign => reigns::decode(reader, shard)?,
        Tag::Clocks => {
            shard.clock = clocks::decode(reader, &shard.origins)?;
            shard.stability.set_stable(&clocks::decode(reader, &shard.origins)?);
            shard.dirty = clocks::decode_origins(reader, &shard.origins)?;
        }
        Tag::Had => {
            let origin = clocks::decode_origin(reader, &shard.origins)?;
            let had = clocks::decode(reader, &shard.origins)?;
            if !shard.stability.restore_had(origin, had) {
                return Err(SavedError::Unfitting("the beginning of a reign"));
            }
        }
        Tag::Past => shard.past = reigns::decode_past(reader)?,
        Tag::Members => members::decode_joins(reader, shard)?,
        Tag::Forgotten => members::decode_forgotten(reader, shard)?,
        Tag::Joining => shard.joining = Some(Box::new(members::decode_joining(reader)?)),
        Tag::Reports => members::decode_reports(reader, shard)?,
        Tag::Heard => members::decode_heard(reader, shard)?,
        Tag::Peer => members::decode_peer(reader, shard)?,
        Tag::Introduced => members::decode_introduced(reader, shard)?,
        Tag::Key => {
            let SnapshotKey { db, name, mut state } = SnapshotKey::decode(reader)?;
            clocks::check_dots(state.dots(), &shard.origins)?;
            state.gather_list(&shard.origins);
            if state.is_empty() || !shard.metadata.restoring().restore(db, name, state) {
                return Err(SavedError::Unfitting("a key"));
            }
        }
        Tag::Aside => {
            let aside = decode_aside(reader)?;
            clocks::check_dots([aside.expired].into_iter(), &shard.origins)?;
            shard.aside.push(aside);
        }
        Tag::Changed => {
            let db = reader.u32("database")?;
            shard.changed.push((db, reader.take(reader.rest().len(), "key")?.into()));
        }
        Tag::Taken => taken::decode(reader, shard)?,
        Tag::Dropped => shard.has_dropped(reader.u64("when keys were dropped")?),
        Tag::SyncHead => syncing::decode_head(reader, shard)?,
        Tag::SyncRound => syncing::decode_round(reader, shard)?,
        Tag::SyncMerged => syncing::decode_merged(reader, shard)?,
        Tag::Backlog => backlog.head(reader, &shard.origins)?,
        Tag::Mark => backlog.mark(reader, &shard.origins)?,
        Tag::Frames => backlog.frames(reader, &shard.origins)?,
        Tag::Tail | Tag::End => {}
    }
    Ok(())
}

fn decode_head(reader: &mut Reader<'_>, shard: &mut Shard) -> Result<InstanceId, SavedError> {
    let version = reader.u8("version of a saved state")?;
    if version != VERSION {
        return Err(WireError::Version(version).into());
    }
    let instance = reader.instance("instance of a saved state")?;
    shard.start = match reader.u8("start")? {
        0 => Start::Empty,
        1 => Start::Seeded,
        2 => Start::Replica,
        code => return Err(WireError::Code { what: "start", code }.into()),
    };
    shard.replid = reader.replid("replication ID")?;
    shard.hlc = Hlc::new(reader.timestamp("clock")?);
    shard.has_pruned = reader.flag("pruned")?;
    let _of_late_comers = reader.u64("gates")?;
    let (is_gap, gap) = (reader.flag("gap")?, reader.u64("gap")?);
    shard.gap = is_gap.then_some(gap);
    Ok(instance)
}

const fn start_code(start: Start) -> u8 {
    match start {
        Start::Empty => 0,
        Start::Seeded => 1,
        Start::Replica => 2,
    }
}

fn encode_aside(aside: &Aside, out: &mut Vec<u8>) {
    let Aside { revival: Revival { db, name, elements, expire_at, authors }, expired } = aside;
    write_dot(out, expired);
    encode_time(out, *expire_at);
    writer::u64(out, authors.bits());
    // Elements are written as those of a key that has no dots.
    let mut state = KeyMeta::default();
    for Element { path, payload } in elements {
        let path = path.get();
        *state.kind_or_insert(path.kind()).paths.get_or_insert(path) = PathMeta::stable(Some(payload.clone()));
    }
    key::encode(out, *db, name, &state);
}

fn decode_aside(reader: &mut Reader<'_>) -> Result<Aside, SavedError> {
    let expired = read_dot(reader)?;
    let expire_at = decode_time(reader)?;
    let authors = InstanceSet::from_bits(reader.u64("authors")?);
    let SnapshotKey { db, name, state } = SnapshotKey::decode(reader)?;
    let mut elements = Vec::new();
    for kind in state.kinds {
        for (element, path) in kind.paths.iter() {
            let Some(Base::Stable(Some(payload))) = path.sum.as_ref().map(|sum| &sum.base) else {
                return Err(SavedError::Unfitting("an element set aside"));
            };
            let path = OwnedPath::new(crate::metadata::path_of(kind.kind, element));
            elements.push(Element { path, payload: payload.clone() });
        }
    }
    let revival = Revival { db, name: name.into(), elements, expire_at, authors };
    Ok(Aside { revival, expired })
}

impl Shard {
    /// Whether this instance has logged anything but the beginning of reigns: then a client may have written.
    fn has_gone_on(&self) -> bool {
        let went_on = |(origin, start)| self.clock.get(origin) > start;
        self.stability.reigns(self.config.instance, &self.origins).any(went_on)
    }

    /// The dataset and state of another instance, moved here: what is applied is, and no position or name is this instance's yet.
    fn adopt(&mut self, from: InstanceId) {
        let me = self.config.instance;
        self.past.clear();
        self.peers.remove(&me);
        self.introduced.remove(&me);
        self.stability.forget_reports(me);
        if self.origins.find(&self.replid).is_some() {
            // Everything in its backlog is here.
            self.peers.entry(from).or_default().position = Some((self.replid, self.backlog.end_offset()));
        }
    }
}

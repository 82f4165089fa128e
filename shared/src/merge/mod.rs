//! The merge: what an effect does to the live dots, and what the live dots show in the dataset (DESIGN 2).

mod flush;
mod hidden;
mod list;
mod list_whole;
mod local;
mod meet;
mod news;
mod patch;
mod reassert;
pub(crate) mod registers;
mod regressed;
mod remote;
pub(crate) mod sequel;
mod stream;
mod sync;
mod unseen;
pub mod view;
mod whole;

pub use list::Author;
pub use local::write_list_base;
pub use meet::{Meeting, Side};
pub use reassert::{Aside, Revival};
pub use regressed::{AtRisk, StableTtl};
pub(crate) use whole::{is_there, winner};

use crate::clock::VectorClock;
use crate::dot::{Dot, Seen};
use crate::effect::{Path, Value};
use crate::hyperloglog::is_claimed;
use crate::keyspace::Keyspace;
use crate::metadata::{PathMeta, Payload, Table, Top};
use crate::origin::Origins;
use crate::stream::{Part, StreamId, entry_id};

/// Switches for the controls of the simulation: each rule has a counterexample without it. All on, always,
/// outside tests.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// 2.1, I-3: a group waits for what its author had seen.
    pub groups_wait: bool,
    /// 2.2 rule 1: a member reports what is durable.
    pub reports_are_durable: bool,
    /// 2.2 rule 2: S is the lowest of each replication ID, not one time for all.
    pub stable_is_a_vector: bool,
    /// 2.2 rule 3: a report counts only when its receiver covers it.
    pub reports_are_covered: bool,
    /// 2.2 rule 3: and when it covers the start of every known reign, and every Join.
    pub reports_cover_starts: bool,
    /// 2.2 rule 3: who knows a later reign of an instance takes nothing from the server of an earlier one.
    pub old_reigns_are_fenced: bool,
    /// 2.2 rule 4: a path is pruned only with all its dots.
    pub prune_whole_paths: bool,
    /// 2.2 rule 4: while several types are live, only all of a key is pruned.
    pub prune_whole_keys: bool,
    /// 2.2 rule 5: what has no metadata is not seen by a regressed effect.
    pub regressed_reassert: bool,
    /// 2.2 rule 5: who lacks what it has reported catches up before it takes writes.
    pub catches_up_first: bool,
    /// MERGE_CASES A4: a type is a conflict domain.
    pub types_conflict: bool,
    /// 2.2 rule 6: S rises by entries of the replication stream.
    pub stable_is_logged: bool,
    /// T1: a TTL that was set is stronger than one that a write has only seen.
    pub strong_ttl: bool,
    /// T2, T3: weak TTL dots.
    pub weak_ttl: bool,
    /// T9: stable TTL dots wait until everyone has what they may still meet (`metadata/grace.rs`).
    pub ttl_grace: bool,
    /// 2.2 rule 4: what lost against another type waits, too, until everyone has what was removed beside it.
    pub losers_grace: bool,
    /// T5: an expiry takes the TTL along that its author had seen.
    pub expiry_takes_ttl: bool,
    /// T6: an expiry is re-asserted against a longer TTL.
    pub expiry_reassert: bool,
    /// T8: what nobody is left to re-assert is re-asserted by who kept it.
    pub orphans_are_revived: bool,
    /// T7: re-asserted dots rank below all others.
    pub reassert_flag: bool,
    /// MERGE_CASES A5, rule 7: an entry without a dot stands for the stable dots that its side no longer has.
    pub entries_stand_for_stable: bool,
    /// DESIGN 5: of two entries without a dot that one is taken which the other side's dots are part of, not always the source's.
    pub either_entry_is_taken: bool,
    /// DESIGN 5: an entry without a dot and without a counterpart goes if the other side has seen all that it may be made of.
    pub lone_entries_go: bool,
    /// DESIGN 5: S is the higher of both after a full sync.
    pub sync_raises_stable: bool,
    /// DESIGN 5: after a full sync the stream context of each origin is that of the higher clock entry.
    pub sync_takes_contexts: bool,
    /// DESIGN 5: nothing of a snapshot is merged before all of it is in a file at the target's agent. The simulation plays that part.
    pub snapshots_are_whole: bool,
    /// M3, M4: a forgotten instance's last report holds S until every member is known to have the `Forget`.
    pub forget_settles: bool,
    /// M5: several Forgets settle together, when every member is known to have all of them.
    pub forgets_settle_together: bool,
    /// M7: who knows that it was forgotten takes no writes.
    pub forgotten_takes_no_writes: bool,
    /// M2: what a forgotten instance sends itself is not taken.
    pub forgotten_is_not_read: bool,
    /// M6: what only a member restored from before a settled Forget can bring is refused.
    pub from_before_is_refused: bool,
    /// M8: an instance joins again only when its Forget is settled.
    pub rejoin_when_settled: bool,
    /// M8: the sponsor knows every change of membership that the joining instance knows.
    pub sponsor_knows_all: bool,
    /// M9: a `Join` is durable before who joins is told of it. The simulation plays that part.
    pub joins_are_durable: bool,
    /// M10: who joins again keeps what the group has not seen of its own writes.
    pub joins_set_aside: bool,
    /// M10: who joins takes nothing of whom its sponsor's group may have forgotten.
    pub joins_by_sponsor: bool,
    /// M11: no writes until every member has the Join.
    pub joining_takes_no_writes: bool,
    /// L6: an `LSET` brings an element back to its place.
    pub lset_brings_back: bool,
    /// L7: nothing is kept of a removed element, nor of a run that has no more.
    pub removed_elements_go: bool,
    /// L8: the dot of a list element that wins is never pruned.
    pub list_winner_stays: bool,
    /// L4: who pushes beside what it pushed before continues that run.
    pub runs_continue: bool,
    /// DESIGN 2.3: what the author of a read had not seen is not delivered by it.
    pub late_entries: bool,
    /// DESIGN 2.3: a trim spares entries that its author had not seen.
    pub trims_spare_unseen: bool,
    /// DESIGN 2.3: an entry that is asserted again does not set the last id of its stream back.
    pub last_ids_stay: bool,
    /// G2: an effect has seen the earlier ones of its group.
    pub group_sees_itself: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            groups_wait: true,
            reports_are_durable: true,
            stable_is_a_vector: true,
            reports_are_covered: true,
            reports_cover_starts: true,
            old_reigns_are_fenced: true,
            prune_whole_paths: true,
            prune_whole_keys: true,
            regressed_reassert: true,
            catches_up_first: true,
            types_conflict: true,
            stable_is_logged: true,
            strong_ttl: true,
            weak_ttl: true,
            ttl_grace: true,
            losers_grace: true,
            expiry_takes_ttl: true,
            expiry_reassert: true,
            orphans_are_revived: true,
            reassert_flag: true,
            entries_stand_for_stable: true,
            either_entry_is_taken: true,
            lone_entries_go: true,
            sync_raises_stable: true,
            sync_takes_contexts: true,
            snapshots_are_whole: true,
            forget_settles: true,
            forgets_settle_together: true,
            forgotten_takes_no_writes: true,
            forgotten_is_not_read: true,
            from_before_is_refused: true,
            rejoin_when_settled: true,
            sponsor_knows_all: true,
            joins_are_durable: true,
            joins_set_aside: true,
            joins_by_sponsor: true,
            joining_takes_no_writes: true,
            lset_brings_back: true,
            removed_elements_go: true,
            list_winner_stays: true,
            runs_continue: true,
            late_entries: true,
            trims_spare_unseen: true,
            last_ids_stay: true,
            group_sees_itself: true,
        }
    }
}

/// One merge step: the metadata and the dataset it keeps equal to the view (I-4).
pub struct Merge<'a, K> {
    /// Conflict metadata.
    pub table: &'a mut Table,
    /// Names of origins, for effect order.
    pub origins: &'a Origins,
    /// The dataset.
    pub keyspace: &'a mut K,
    /// Controls.
    pub rules: &'a Rules,
    /// While a full sync goes on, the clock of this shard: what the snapshot brought above it stays explicit.
    pub syncing: Option<&'a VectorClock>,
    /// S: what has a dot in it may be pruned or not, and must not make a difference.
    pub stable: &'a VectorClock,
    /// How often an effect met a concurrent one (`conflicts` in INFO).
    pub conflicts: &'a mut u64,
}

/// A key in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// Logical database.
    pub db: u32,
    /// Name.
    pub name: &'a [u8],
}

impl<K: Keyspace> Merge<'_, K> {
    /// The element in the dataset.
    pub(crate) fn native(&mut self, key: KeyRef<'_>, path: Path<'_>) -> Option<Payload> {
        let keyspace = &mut *self.keyspace;
        match path {
            Path::String => keyspace.string(key.db, key.name).map(|v| Payload::Bytes(v.into())),
            Path::Field(field) => keyspace
                .field(key.db, key.name, field)
                .map(|v| Payload::text_until(v.into(), keyspace.field_expire_at(key.db, key.name, field))),
            Path::Member(member) => keyspace.has_member(key.db, key.name, member).then_some(Payload::Present),
            Path::Scored(member) => keyspace.score(key.db, key.name, member).map(Payload::Score),
            Path::Opaque => keyspace.payload(key.db, key.name).map(|v| Payload::Bytes(v.into())),
            Path::Stream(name) => keyspace.stream_part(key.db, key.name, Part::parse(name)?),
            // What goes by position is in `list.rs`.
            Path::Element(_) => None,
        }
    }

    /// Makes the payload of the top explicit, before something changes that it is implied by. The dataset shows
    /// this path.
    fn explain(&mut self, key: KeyRef<'_>, path: Path<'_>, meta: &mut PathMeta) {
        let top = meta.top(self.origins);
        if meta.payload(top).is_some() {
            return;
        }
        if top != Top::Nothing {
            let own = self.native(key, path).map(|native| unfolded(native, meta));
            if let Some(slot) = meta.payload_mut(top) {
                *slot = own;
            }
        }
    }

    /// Lets the dataset hold the payload of the top again, after the path was written.
    fn imply(&self, meta: &mut PathMeta) {
        let top = meta.top(self.origins);
        let is_unseen = |clock, at: usize| meta.assigns.get(at).is_some_and(|a| !a.dot.is_in(clock));
        if let (Some(clock), Top::Assign(at)) = (self.syncing, top)
            && is_unseen(clock, at)
        {
            return;
        }
        // Servers hide it once its time has passed, long before they delete it; some cannot keep the time.
        let hides = |payload: &Payload| payload.expire_at().is_some();
        // Or cannot be there at all.
        if matches!(meta.payload(top), Some(Payload::Unknown(_))) {
            return;
        }
        if view::may_imply(meta, top)
            && !meta.payload(top).is_some_and(hides)
            && let Some(slot) = meta.payload_mut(top)
        {
            *slot = None;
        }
    }

    /// Writes one element to the dataset. Whether the dataset holds it now.
    fn put(&mut self, key: KeyRef<'_>, path: Path<'_>, payload: &Payload) -> bool {
        self.keyspace.put(key.db, key.name, path, payload.value(path))
    }

    /// Writes what a path shows to the dataset, and lets the dataset hold what it can.
    fn put_view(&mut self, key: KeyRef<'_>, path: Path<'_>, shown: &Payload, meta: &mut PathMeta) {
        let is_held = self.put(key, path, shown);
        if let Path::Stream(name) = path
            && let Some(id) = entry_id(name)
        {
            self.show_deliveries(key, id);
        }
        if !is_held && matches!(path, Path::Stream(_)) {
            return;
        }
        if path == Path::Opaque {
            meta.held(is_held, self.origins);
            if !is_held {
                self.table.saw_unknown();
            }
        }
        self.imply(meta);
    }

    /// Notes a conflict if a dot of the path is unknown to the author.
    fn count_conflict(&mut self, meta: &PathMeta, seen: &Seen<'_>) {
        if meta.dots().any(|dot| !seen.has(dot)) {
            *self.conflicts += 1;
        }
    }

    /// Registers a new dot for pruning.
    fn queue(&mut self, key: KeyRef<'_>, dot: &Dot) {
        let id = self.table.entry(key.db, key.name);
        self.table.queue(id, dot);
    }
}

/// The payload of an implied top, from what the dataset shows: see the invariants of [`PathMeta`] and [`crate::metadata::Patches`].
fn unfolded(native: Payload, meta: &PathMeta) -> Payload {
    match (native.less(meta.added()), meta.patches()) {
        (Payload::Bytes(text), Some(patches)) if patches.has_text() && !is_claimed(&text) => {
            let len = (patches.len as usize).min(text.len());
            Payload::Bytes(text.get(..len).unwrap_or_default().into())
        }
        (own, _) => own,
    }
}

/// An owned path and value, for what is collected before it is written or authored.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// The path.
    pub path: OwnedPath,
    /// Its value.
    pub payload: Payload,
}

/// An owned [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPath {
    kind: crate::effect::Kind,
    name: Box<[u8]>,
}

impl OwnedPath {
    /// Keeps a copy.
    #[must_use]
    pub fn new(path: Path<'_>) -> Self {
        Self { kind: path.kind(), name: crate::metadata::element(path).into() }
    }

    /// Borrows it.
    #[must_use]
    pub fn get(&self) -> Path<'_> {
        crate::metadata::path_of(self.kind, &self.name)
    }
}

impl Element {
    /// Keeps a copy.
    #[must_use]
    pub fn new(path: Path<'_>, value: Value<'_>) -> Self {
        Self { path: OwnedPath::new(path), payload: Payload::from_value(value) }
    }

    /// The consumer group, if it is one with its position.
    #[must_use]
    pub fn group(&self) -> Option<&[u8]> {
        match self.part()? {
            Part::Group(group) => Some(group),
            _ => None,
        }
    }

    /// The group and the entry that is late for it, if it says that.
    #[must_use]
    pub fn late(&self) -> Option<(&[u8], StreamId)> {
        match (&self.payload, self.part()?) {
            (Payload::Late, Part::Delivery { group, id }) => Some((group, id)),
            _ => None,
        }
    }

    fn part(&self) -> Option<Part<'_>> {
        if self.path.kind == crate::effect::Kind::Stream { Part::parse(&self.path.name) } else { None }
    }
}

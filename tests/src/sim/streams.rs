//! Streams in the simulation: commands as a server runs them, and what an instance must show.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use syncer_shared::effect::{Kind, Op, Path, StreamOp, TtlNote, Value};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::memory::{Entry, MemoryKeyspace};
use syncer_shared::metadata::Payload;
use syncer_shared::stream::{Ids, LAST_NAME, Part, StreamId, entry_id, entry_name, push_field};

use super::client::Client;

/// A stream's key, a group, an entry.
type Given = (u32, Vec<u8>, Vec<u8>, StreamId);

thread_local! {
    /// What readers were given, or groups were told to skip, in this run.
    static GIVEN: RefCell<HashSet<Given>> = RefCell::default();
}

/// A run begins.
pub fn begin() {
    GIVEN.take();
}

/// No entry is skipped for a group because it came late: what lies at or below its position was given to somebody, or skipped on
/// purpose, or waits somewhere to be handed out. When all is converged, of the group's `instances`: who is out need not have what removed an entry, though it has
/// the groups that were moved on behind that.
///
/// # Errors
/// The one that was.
pub fn check_none_skipped<'a>(instances: impl Iterator<Item = &'a MemoryKeyspace> + Clone) -> Result<(), String> {
    let mut accounted = GIVEN.with_borrow(HashSet::clone);
    let streams =
        || instances.clone().flat_map(MemoryKeyspace::entries).filter(|(_, entry)| entry.kind == Kind::Stream);
    for ((db, key), entry) in streams() {
        let delivery = |name: &Vec<u8>| match Part::parse(name) {
            Some(Part::Delivery { group, id }) => Some((*db, key.clone(), group.to_vec(), id)),
            _ => None,
        };
        accounted.extend(entry.elements.keys().filter_map(delivery));
    }
    for ((db, key), entry) in streams() {
        for (name, payload) in &entry.elements {
            let (Some(Part::Group(group)), Payload::Id(position)) = (Part::parse(name), payload) else { continue };
            for id in entry.elements.keys().filter_map(|name| entry_id(name)).filter(|id| id <= position) {
                if !accounted.contains(&(*db, key.clone(), group.to_vec(), id)) {
                    let (key, group) = (key.escape_ascii(), group.escape_ascii());
                    return Err(format!("entry {id} of {key} was skipped for group {group}, which is at {position}"));
                }
            }
        }
    }
    Ok(())
}

/// A command on a stream. Group names are short, so that they meet.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamCommand {
    /// `XADD key *`, or with an id of these milliseconds if that is above the last one.
    Add(Option<u64>, String),
    /// `XDEL` of the n-th entry.
    Delete(usize),
    /// `XTRIM MAXLEN`
    Trim(usize),
    /// `XGROUP CREATE`, `XGROUP SETID`: at the end, or at 0.
    Group(String, bool),
    /// `XGROUP DESTROY`
    Destroy(String),
    /// `XREADGROUP COUNT`: late entries first; without a consumer: `NOACK`.
    Read(String, Option<String>, usize),
    /// `XACK` of the n-th pending entry.
    Ack(String, usize),
}

impl StreamCommand {
    /// One by chance.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let group = random.choice(&["g", "g", "h"]).unwrap_or(&"g").to_string();
        let consumer = random.choice(&["c", "d"]).unwrap_or(&"c").to_string();
        match random.u8(0..16) {
            0..6 => Self::Add((random.u8(0..5) == 0).then(|| random.u64(1..50)), format!("v{}", random.u8(..))),
            6 | 7 => Self::Delete(random.usize(0..4)),
            8 => Self::Trim(random.usize(0..6)),
            9 => Self::Group(group, random.bool()),
            10 if random.u8(0..3) == 0 => Self::Destroy(group),
            10..13 => Self::Read(group, (random.u8(0..3) > 0).then_some(consumer), random.usize(1..4)),
            _ => Self::Ack(group, random.usize(0..3)),
        }
    }
}

/// A stream that a command works on.
struct Stream<'a, 'b> {
    client: &'a mut Client<'b>,
    db: u32,
    key: &'a [u8],
    ttl: TtlNote,
}

/// Runs a command on a key that holds a stream or nothing.
pub fn run(client: &mut Client<'_>, db: u32, key: &[u8], command: &StreamCommand) {
    let ttl = client.note(db, key);
    let mut stream = Stream { client, db, key, ttl };
    match command {
        StreamCommand::Add(ms, value) => stream.add(*ms, value),
        StreamCommand::Delete(n) => {
            if let Some(id) = stream.ids(StreamId::MIN).get(*n) {
                stream.remove(Part::Entry(*id));
            }
        }
        StreamCommand::Trim(keep) => stream.trim(*keep),
        StreamCommand::Group(group, at_end) => stream.set_group(group, *at_end),
        StreamCommand::Destroy(group) => {
            if stream.part(Part::Group(group.as_bytes())).is_some() {
                stream.client.keyspace.take_group(db, key, group.as_bytes());
                stream.log(Op::Stream(StreamOp::Ungroup { group: group.as_bytes() }));
            }
        }
        StreamCommand::Read(group, consumer, count) => {
            stream.read(group.as_bytes(), consumer.as_deref().map(str::as_bytes), *count);
        }
        StreamCommand::Ack(group, n) => {
            let is_pending = |payload: &Payload| matches!(payload, Payload::Owner(_));
            if let Some(id) = stream.deliveries(group.as_bytes(), is_pending).get(*n) {
                stream.acknowledge(group.as_bytes(), *id);
            }
        }
    }
}

impl Stream<'_, '_> {
    fn part(&mut self, part: Part<'_>) -> Option<Payload> {
        self.client.keyspace.stream_part(self.db, self.key, part)
    }

    fn id(&mut self, part: Part<'_>) -> Option<StreamId> {
        if let Payload::Id(id) = self.part(part)? { Some(id) } else { None }
    }

    fn ids(&mut self, from: StreamId) -> Vec<StreamId> {
        let mut ids = Vec::new();
        self.client.keyspace.stream_entries(self.db, self.key, from, StreamId::MAX, &mut |id| ids.push(id));
        ids
    }

    fn deliveries(&mut self, group: &[u8], wanted: impl Fn(&Payload) -> bool) -> Vec<StreamId> {
        let mut ids = Vec::new();
        for id in self.ids(StreamId::MIN) {
            if self.part(Part::Delivery { group, id }).is_some_and(|payload| wanted(&payload)) {
                ids.push(id);
            }
        }
        ids
    }

    fn log(&mut self, op: Op<'_>) {
        self.client.log(self.db, self.key, std::mem::take(&mut self.ttl), op);
    }

    fn assign(&mut self, part: Part<'_>, value: Value<'_>) {
        let name = part.name();
        self.client.keyspace.put(self.db, self.key, Path::Stream(&name), value);
        self.log(Op::Assign { path: Path::Stream(&name), value, reasserted: false });
    }

    fn remove(&mut self, part: Part<'_>) {
        let name = part.name();
        self.client.keyspace.take(self.db, self.key, Path::Stream(&name));
        self.log(Op::Remove { path: Path::Stream(&name) });
    }

    fn acknowledge(&mut self, group: &[u8], id: StreamId) {
        let name = Part::Delivery { group, id }.name();
        self.client.keyspace.take(self.db, self.key, Path::Stream(&name));
        self.log(Op::Assign { path: Path::Stream(&name), value: Value::Acked, reasserted: false });
    }

    fn give(&self, group: &[u8], ids: &[StreamId]) {
        let of = |id: &StreamId| (self.db, self.key.to_vec(), group.to_vec(), *id);
        GIVEN.with_borrow_mut(|given| given.extend(ids.iter().map(of)));
    }

    fn add(&mut self, ms: Option<u64>, value: &str) {
        let last = self.id(Part::Last).unwrap_or_default();
        let wanted = StreamId { ms: ms.unwrap_or(self.client.now_ms.unsigned_abs()), seq: 1 };
        let Some(id) = (if wanted > last { Some(wanted) } else { last.next() }) else { return };
        let mut fields = Vec::new();
        push_field(&mut fields, b"f");
        push_field(&mut fields, value.as_bytes());
        let name = entry_name(id);
        // A server does not take it for late: it is above what any group can have been given.
        self.client.keyspace.put(self.db, self.key, Path::Stream(&name), Value::Bytes(&fields));
        self.log(Op::Assign { path: Path::Stream(&name), value: Value::Bytes(&fields), reasserted: false });
    }

    fn trim(&mut self, keep: usize) {
        let ids = self.ids(StreamId::MIN);
        let Some(gone) = ids.len().checked_sub(keep).filter(|gone| *gone > 0) else { return };
        for id in ids.iter().take(gone) {
            self.client.keyspace.take(self.db, self.key, Path::Stream(&entry_name(*id)));
        }
        let below = ids.get(gone).copied().unwrap_or(StreamId::MAX);
        self.log(Op::Stream(StreamOp::Trim { below }));
    }

    fn set_group(&mut self, group: &str, at_end: bool) {
        let last = self.id(Part::Last).unwrap_or_default();
        if at_end {
            let skipped = self.ids(StreamId::MIN);
            self.give(group.as_bytes(), &skipped);
        }
        self.assign(Part::Group(group.as_bytes()), Value::Id(if at_end { last } else { StreamId::MIN }));
        self.assign(Part::Last, Value::Id(last));
    }

    fn read(&mut self, group: &[u8], consumer: Option<&[u8]>, count: usize) {
        let Some(position) = self.id(Part::Group(group)) else { return };
        let late = self.deliveries(group, |payload| *payload == Payload::Late);
        if !late.is_empty() {
            for id in late.into_iter().take(count) {
                self.give(group, &[id]);
                match consumer {
                    Some(consumer) => self.assign(Part::Delivery { group, id }, Value::Owner(consumer)),
                    None => self.acknowledge(group, id),
                }
            }
            return;
        }
        let Some(mut ids) = position.next().map(|from| self.ids(from)) else { return };
        ids.truncate(count);
        let Some(position) = ids.last().copied() else { return };
        self.give(group, &ids);
        let last = self.id(Part::Last).unwrap_or_default();
        let put = |stream: &mut Self, part: Part<'_>, value| {
            stream.client.keyspace.put(stream.db, stream.key, Path::Stream(&part.name()), value);
        };
        put(self, Part::Group(group), Value::Id(position));
        if let Some(consumer) = consumer {
            ids.iter().for_each(|id| put(self, Part::Delivery { group, id: *id }, Value::Owner(consumer)));
        }
        if consumer.is_none() {
            // Of a group that was set back: what is pending stays so.
            ids.retain(|id| !matches!(self.part(Part::Delivery { group, id: *id }), Some(Payload::Owner(_))));
        }
        let mut bytes = Vec::new();
        Ids::encode(&mut bytes, ids.into_iter());
        let ids = Ids::new(&bytes).expect("encoded here");
        self.log(Op::Stream(StreamOp::Deliver { group, consumer, position, ids }));
        self.log(Op::Assign { path: Path::Stream(LAST_NAME), value: Value::Id(last), reasserted: false });
    }
}

/// The dataset, but for what has yet to be handed out to groups: who has seen less has more of that.
pub fn shown(keyspace: &MemoryKeyspace) -> impl Iterator<Item = (&(u32, Vec<u8>), Cow<'_, Entry>)> {
    keyspace.entries().iter().filter_map(|(name, entry)| Some((name, shown_of(entry)?)))
}

/// What of a key is compared. Deliveries of entries or groups that are not there are not: servers keep those of entries that they have, but take no new
/// ones, so it depends on what came first; without its group there is none.
pub fn shown_of(entry: &Entry) -> Option<Cow<'_, Entry>> {
    if entry.kind != Kind::Stream {
        return Some(Cow::Borrowed(entry));
    }
    let mut shown = entry.clone();
    shown.elements.retain(|name, payload| match Part::parse(name) {
        Some(Part::Delivery { group, id }) => *payload != Payload::Late && !is_lone(entry, group, id),
        _ => true,
    });
    (!shown.elements.is_empty()).then_some(Cow::Owned(shown))
}

fn is_lone(entry: &Entry, group: &[u8], id: StreamId) -> bool {
    let has = |name: &[u8]| entry.elements.contains_key(name);
    !has(&entry_name(id)) || !has(&Part::Group(group).name())
}

/// Whether an element makes the key one of its type: deliveries and consumers alone are no stream.
#[must_use]
pub fn makes_type(kind: Kind, element: &[u8]) -> bool {
    kind != Kind::Stream || !matches!(Part::parse(element), Some(Part::Delivery { .. } | Part::Consumer { .. }))
}

/// The dataset without deliveries of entries that are gone: whether a rewrite keeps one depends on what was pruned by then.
#[must_use]
pub fn without_lone_deliveries(keyspace: &MemoryKeyspace) -> BTreeMap<(u32, Vec<u8>), Entry> {
    let mut entries = keyspace.entries().clone();
    for entry in entries.values_mut().filter(|entry| entry.kind == Kind::Stream) {
        let is_out = |name: &&Vec<u8>| match Part::parse(name) {
            Some(Part::Delivery { group, id }) => is_lone(entry, group, id),
            _ => false,
        };
        let lone: Vec<Vec<u8>> = entry.elements.keys().filter(is_out).cloned().collect();
        lone.iter().for_each(|name| drop(entry.elements.remove(name)));
    }
    entries
}

/// What an effect does to a stream, in the plainest form: which parts it removes, and what it assigns.
pub fn removes(op: StreamOp<'_>, element: &[u8]) -> bool {
    match (op, Part::parse(element)) {
        (StreamOp::Trim { below }, Some(Part::Entry(id))) => id < below,
        (StreamOp::Ungroup { group }, Some(part)) => part.group() == Some(group),
        _ => false,
    }
}

/// The parts that an effect assigns besides the one that it names.
pub fn assigns(op: &Op<'_>) -> Vec<(Vec<u8>, Payload)> {
    match *op {
        Op::Assign { path: Path::Stream(name), .. } => {
            entry_id(name).map(|id| (LAST_NAME.to_vec(), Payload::Id(id))).into_iter().collect()
        }
        Op::Stream(StreamOp::Deliver { group, consumer, position, ids }) => {
            let payload = || consumer.map_or(Payload::Acked, |consumer| Payload::Owner(consumer.into()));
            let of = |id| (Part::Delivery { group, id }.name().into_vec(), payload());
            let position = (Part::Group(group).name().into_vec(), Payload::Id(position));
            std::iter::once(position).chain(ids.iter().map(of)).collect()
        }
        _ => Vec::new(),
    }
}

/// What a part shows of its live assigns, lowest first.
pub fn show(payloads: &[&Payload]) -> Option<Payload> {
    let id = |payload: &&Payload| if let Payload::Id(id) = payload { Some(*id) } else { None };
    if payloads.iter().any(|payload| **payload == Payload::Acked) {
        return None;
    }
    match payloads.iter().filter_map(id).max() {
        Some(highest) => Some(Payload::Id(highest)),
        None => payloads.last().map(|payload| (*payload).clone()),
    }
}

//! Two instances by hand: each writes, and reads what the other has written.
#![allow(dead_code, reason = "each test binary uses a part")]

use syncer_shared::backlog::Chunk;
use syncer_shared::effect::{ClearReason, Effect, FlushScope, Op, Path, TtlNote, UnixMs, Value};
use syncer_shared::group::GroupBuilder;
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::keyspace::{Keyspace, SetTtl};
use syncer_shared::list::draft::Draft;
use syncer_shared::list::{Drafts, Edit, End};
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::number::Number;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Answer, Applied, ApplyError, Batch, Hello, Outcome, Shard, ShardConfig, Start};

pub const NOW: u64 = 1_700_000_000_000;
pub const K: &[u8] = b"k";

pub struct Site {
    pub shard: Shard,
    pub data: MemoryKeyspace,
    pub now: u64,
}

impl Site {
    pub fn new(id: u8) -> Self {
        let instance = InstanceId::new(id).expect("valid");
        let shard = Shard::new(ShardConfig::new(instance), ReplId::from_bytes([id; 20]), Start::Empty, NOW);
        Self { shard, data: MemoryKeyspace::default(), now: NOW + u64::from(id) }
    }

    pub fn log(&mut self, ops: &[(TtlNote, Op<'_>)]) {
        let mut group = GroupBuilder::new();
        for (ttl, op) in ops {
            group.push(&Effect { db: 0, key: K, ttl: *ttl, op: *op });
        }
        self.now += 10;
        self.shard.commit(&group, &Vec::new(), &mut self.data, self.now);
    }

    pub fn set(&mut self, value: &str) {
        self.data.set_string(0, K, value.as_bytes(), SetTtl::Clear);
        self.log(&[(TtlNote::None, Op::Set { value: value.as_bytes(), expire_at: None })]);
    }

    pub fn incr(&mut self, delta: i64) {
        let created = self.data.kind(0, K).is_none();
        self.data.add_integer(0, K, delta).expect("a number");
        let note = if created { TtlNote::Created } else { self.kept() };
        self.log(&[(note, Op::Increment { path: Path::String, delta: Number::Integer(delta) })]);
    }

    pub fn kept(&mut self) -> TtlNote {
        self.data.expire_at(0, K).map_or(TtlNote::None, TtlNote::Kept)
    }

    pub fn put(&mut self, path: Path<'_>, value: Value<'_>) {
        let note = if self.data.kind(0, K).is_none() { TtlNote::Created } else { self.kept() };
        self.data.put(0, K, path, value);
        self.log(&[(note, Op::Assign { path, value, reasserted: false })]);
    }

    pub fn take(&mut self, path: Path<'_>) {
        let note = self.kept();
        self.data.take(0, K, path);
        self.log(&[(note, Op::Remove { path })]);
    }

    pub fn rpush(&mut self, value: &[u8]) {
        self.push(End::Tail, value);
    }

    /// Returns the record for replicas, like [`Site::pop`].
    pub fn push(&mut self, end: End, value: &[u8]) -> Vec<u8> {
        let note = if self.data.kind(0, K).is_none() { TtlNote::Created } else { self.kept() };
        let index = if end == End::Head { 0 } else { self.data.list_len(0, K) };
        self.data.list_insert(0, K, index, value);
        let mut drafts = Drafts::default();
        drafts.push(0, (0, K), note, end, [value].into_iter());
        self.edit(&drafts)
    }

    /// Of a list with more than one element.
    pub fn pop(&mut self, end: End) -> Vec<u8> {
        let ttl = self.kept();
        let last = self.data.list_len(0, K) - 1;
        self.data.list_remove(0, K, if end == End::Head { 0 } else { last }, 1);
        let mut drafts = Drafts::default();
        drafts.add(&Draft { place: 0, db: 0, key: K, ttl, edit: Edit::Pop(end, Some(1)) });
        self.edit(&drafts)
    }

    fn edit(&mut self, drafts: &Drafts) -> Vec<u8> {
        self.now += 10;
        self.shard.commit_edits(&GroupBuilder::new(), &Vec::new(), drafts, &mut self.data, self.now).to_vec()
    }

    pub fn del(&mut self) {
        self.data.delete(0, K, ClearReason::Deleted);
        self.log(&[(TtlNote::None, Op::Clear { reason: ClearReason::Deleted })]);
    }

    pub fn expire(&mut self, at: UnixMs) {
        self.data.set_expire_at(0, K, Some(at));
        self.log(&[(TtlNote::None, Op::Expire { at })]);
    }

    pub fn persist(&mut self) {
        self.data.set_expire_at(0, K, None);
        self.log(&[(TtlNote::None, Op::Persist)]);
    }

    pub fn flush(&mut self) {
        self.data.flush(FlushScope::All);
        let mut group = GroupBuilder::new();
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op: Op::Flush { scope: FlushScope::All } });
        self.shard.commit(&group, &Vec::new(), &mut self.data, self.now);
    }

    pub fn string(&mut self) -> Option<String> {
        self.data.string(0, K).map(|v| String::from_utf8(v).expect("text"))
    }
}

/// `to` reads everything of `from`.
pub fn pull(from: &mut Site, to: &mut Site) {
    let applied = try_pull(from, to).expect("applied");
    assert_eq!(applied.outcome, Outcome::Done, "two instances never wait for a third");
}

/// The same, as it may be refused.
pub fn try_pull(from: &mut Site, to: &mut Site) -> Result<Applied, ApplyError> {
    let hello = Hello {
        protocol: 1,
        instance: to.shard.instance(),
        replid: to.shard.replid(),
        wanted: syncer_shared::instance::InstanceSet::ALL,
        position: to.shard.peer(from.shard.instance()).and_then(|peer| peer.position),
        clock: to.shard.clock_token(),
        standing: to.shard.standing(),
    };
    let welcome = from.shard.handshake(&hello, from.now).expect("welcome");
    let Answer::Continue(offset) = welcome.answer else { panic!("{welcome:?}") };
    to.shard.set_position(welcome.instance, welcome.replid, offset).expect("not fenced");
    let wanted: InstanceSet = [from.shard.instance()].into_iter().collect();
    let chunk: Chunk = from.shard.backlog_mut().read(offset, usize::MAX, wanted).expect("held");
    let frames = chunk.assemble();
    let batch = Batch {
        peer: welcome.instance,
        replid: welcome.replid,
        from: chunk.from,
        next: chunk.next,
        end: chunk.end,
        source_ms: from.now,
        frames: &frames,
    };
    to.shard.apply(&batch, &mut to.data, to.now, &mut || true)
}

pub fn report(from: &Site, to: &mut Site) {
    to.shard.accept_report(from.shard.instance(), &from.shard.report(), to.now).expect("a report");
}

pub fn settle(a: &mut Site, b: &mut Site) {
    for _ in 0..3 {
        pull(a, b);
        pull(b, a);
    }
    assert_eq!(a.data.entries(), b.data.entries(), "diverged");
    assert_eq!(a.data.digest(), b.data.digest());
}

/// Pruning everything changes nothing that can be seen (I-6), and leaves no metadata (I-9).
pub fn prune(a: &mut Site, b: &mut Site) {
    let before = a.data.clone();
    for _ in 0..3 {
        report(a, b);
        report(b, a);
    }
    while a.shard.prune(1000) + b.shard.prune(1000) > 0 {}
    assert_eq!(a.data.entries(), before.entries());
    assert_eq!(b.data.entries(), before.entries());
    for site in [a, b] {
        let status = site.shard.status();
        assert_eq!(
            (status.metadata_keys, status.waiting_groups),
            (0, 0),
            "{:?}",
            site.shard.key_info(0, K, &mut site.data)
        );
    }
}

pub fn met() -> (Site, Site) {
    let (mut a, mut b) = (Site::new(1), Site::new(2));
    settle(&mut a, &mut b);
    (a, b)
}

//! Groups of a hostile member, right in form, into a shard: refused or applied, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncer_shared::effect::{Effect, Op, TtlNote};
use syncer_shared::group::{self, GroupBuilder};
use syncer_shared::instance::InstanceId;
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Batch, Shard, ShardConfig, Start};
use syncer_shared::timestamp::Timestamp;

const NOW_MS: u64 = 1_700_000_000_000;

fuzz_target!(|input: &[u8]| {
    let (Some(me), Some(peer)) = (InstanceId::new(1), InstanceId::new(2)) else { return };
    let mut shard = Shard::new(ShardConfig::new(me), ReplId::from_bytes([1; 20]), Start::Empty, NOW_MS);
    let mut keyspace = MemoryKeyspace::default();
    let replid = ReplId::from_bytes([2; 20]);
    let mut frames = Vec::new();
    let mut prev = Timestamp::ZERO;
    for body in [&reign(peer)[..]].into_iter().chain(input.split(|byte| *byte == 0xff)) {
        if group::check(body).is_ok() {
            let ts = Timestamp::from_bits(prev.bits().max(Timestamp::from_ms(NOW_MS).bits()) + 1);
            group::encode_frame(&mut frames, peer, &replid, prev, ts, &[0], body);
            prev = ts;
        }
    }
    let next = frames.len() as u64;
    let batch = Batch { peer, replid, from: 0, next, end: next, source_ms: NOW_MS, frames: &frames };
    if shard.set_position(peer, replid, 0).is_ok() {
        let _ = shard.apply(&batch, &mut keyspace, NOW_MS, &mut || true);
    }
});

fn reign(peer: InstanceId) -> Vec<u8> {
    let mut group = GroupBuilder::new();
    for op in [Op::Reign, Op::Join { instance: peer }] {
        group.push(&Effect { db: 0, key: &[], ttl: TtlNote::None, op });
    }
    group.body().to_vec()
}

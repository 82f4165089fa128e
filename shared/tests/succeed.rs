//! A newcomer takes the state of its source with a full sync as a file: its peers know it again, and it knows what it had begun.

mod sites;

use sites::{K, met};
use syncer_shared::instance::{InstanceId, InstanceSet};
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Answer, HandshakeError, Hello, PROTOCOL, Restorer, Shard, ShardConfig, Start};

const NOW_MS: u64 = 1_700_000_000_000;

fn instance(id: u8) -> InstanceId {
    InstanceId::new(id).expect("in range")
}

fn replid(byte: u8) -> ReplId {
    ReplId::from_bytes([byte; 20])
}

fn begun(id: u8, reign: u8) -> Shard {
    Shard::new(ShardConfig::new(instance(id)), replid(reign), Start::Empty, NOW_MS)
}

fn hello(of: &Shard) -> Hello {
    Hello {
        protocol: PROTOCOL,
        instance: of.instance(),
        replid: of.replid(),
        wanted: InstanceSet::ALL,
        position: None,
        clock: of.clock_token(),
        standing: of.standing(),
    }
}

/// The state of `source` as it comes with the file.
fn loaded(source: &Shard, id: u8) -> Shard {
    let mut restorer = Restorer::new(ShardConfig::new(instance(id)));
    source.save(&mut |piece| restorer.push(piece).expect("a state"));
    restorer.finish().expect("a state")
}

#[test]
fn its_peers_know_it_again() {
    let (mut source, mut before) = (begun(1, 0x11), begun(2, 0x22));
    source.handshake(&hello(&before), NOW_MS + 1).expect("a newcomer is admitted");
    before.handshake(&hello(&source), NOW_MS + 1).expect("and admits");
    assert!(before.is_newcomer());

    // The control: as if the server had come back without its state.
    let mut stranger = loaded(&source, 2);
    stranger.begin_reign(replid(0x23), NOW_MS + 2);
    let refused = source.handshake(&hello(&stranger), NOW_MS + 3);
    assert!(matches!(refused, Err(HandshakeError::OtherServer { .. })), "{refused:?}");

    let mut after = loaded(&source, 2);
    after.succeed(&mut before).expect("its own beginnings");
    after.begin_reign(replid(0x23), NOW_MS + 2);
    assert!(after.clock_token().covers(&source.clock_token()));
    assert!(after.clock_token().covers(&before.clock_token()));
    assert!(after.membership().contains(instance(1)) && after.membership().contains(instance(2)));
    let readers = [hello(&after), hello(&source)];
    for (reader, at) in readers.iter().zip([&mut source, &mut after]) {
        let welcome = at.handshake(reader, NOW_MS + 3).expect("known");
        assert!(matches!(welcome.answer, Answer::Continue(_)), "{welcome:?}");
    }
    assert_eq!(after.counters().sync_full_in, 1);
}

#[test]
fn what_was_known_at_the_source_is_taken_once() {
    let (mut source, mut before) = (begun(1, 0x11), begun(2, 0x22));
    source.handshake(&hello(&before), NOW_MS + 1).expect("a newcomer is admitted");
    let mut after = loaded(&source, 2);
    let end = after.backlog().end_offset();
    after.succeed(&mut before).expect("its own beginnings");
    let grown = after.backlog().end_offset();
    assert!(grown > end);
    let mut again = loaded(&after, 2);
    again.succeed(&mut before).expect("its own beginnings");
    assert_eq!(again.backlog().end_offset(), grown, "nothing is logged twice (I-2)");
}

/// What the newcomer had begun stands behind groups of the source that wait for their metadata.
#[test]
fn what_waits_at_the_source_waits_here() {
    let (mut a, _) = met();
    for delta in 0..20 {
        a.incr(delta);
    }
    assert!(a.shard.status().waiting_groups >= 20);
    let mut before = begun(3, 0x33);
    a.shard.handshake(&hello(&before), sites::NOW + 1).expect("a newcomer is admitted");
    let mut after = loaded(&a.shard, 3);
    after.succeed(&mut before).expect("its own beginnings");
    let mut again = loaded(&after, 3);
    let known = |shard: &mut Shard| format!("{:?}", shard.key_info(0, K, &mut a.data.clone()).dots);
    assert_eq!(known(&mut after), known(&mut again), "the tail reaches to the end of the backlog");
    assert_eq!(known(&mut after), known(&mut a.shard));
}

#[test]
fn who_has_anything_is_no_newcomer() {
    let (source, mut seeded) = (begun(1, 0x11), begun(2, 0x22));
    assert!(begun(2, 0x22).is_newcomer());
    assert!(!Shard::new(ShardConfig::new(instance(2)), replid(0x22), Start::Seeded, NOW_MS).is_newcomer());
    assert!(!Shard::new(ShardConfig::new(instance(2)), replid(0x22), Start::Replica, 0).is_newcomer());
    seeded.begin_sync(source.snapshot_head()).expect("a primary");
    assert!(!seeded.is_newcomer(), "half of a snapshot is here");
}

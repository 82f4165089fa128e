//! Pushes and pops at the ends of a list (`shard/queue.rs`): the short way comes to what the long way comes to.

mod sites;

use proptest::prelude::*;
use sites::{K, NOW, Site, met, pull, settle};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::{End, Name};
use syncer_shared::memory::MemoryKeyspace;
use syncer_shared::replid::ReplId;
use syncer_shared::shard::{Shard, ShardConfig, Start};

/// A replica looks for the place of everything that its primary has put at an end.
struct Replica {
    shard: Shard,
    now: u64,
}

impl Replica {
    fn of(site: &mut Site) -> Self {
        let config = ShardConfig::new(site.shard.instance());
        let mut replica =
            Self { shard: Shard::new(config, ReplId::from_bytes([9; 20]), Start::Replica, NOW), now: NOW };
        replica.follow(site);
        replica
    }

    /// What the primary has decided by itself. The replica has its dataset already.
    fn follow(&mut self, site: &mut Site) {
        for record in site.shard.take_records() {
            self.repeat(&record, site);
        }
    }

    fn repeat(&mut self, record: &[u8], site: &mut Site) {
        self.now += 1;
        self.shard.replay(record, &mut site.data.clone()).expect("a record");
    }
}

fn names(shard: &mut Shard, data: &mut MemoryKeyspace) -> Vec<Name> {
    let table = shard.table(data);
    let list = table.find(0, K).and_then(|id| table.meta(id).list());
    list.map(|list| list.names().collect()).unwrap_or_default()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(End),
    Pop(End),
    /// The other site does it, having seen all or not.
    Other(End, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let end = || prop_oneof![Just(End::Head), Just(End::Tail)];
    prop_oneof![
        5 => end().prop_map(Step::Push),
        4 => end().prop_map(Step::Pop),
        1 => (end(), any::<bool>()).prop_map(|(end, settles)| Step::Other(end, settles)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn ids_are_those_that_the_long_way_gives(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut a, mut b) = met();
        let mut replica = Replica::of(&mut a);
        for (n, step) in steps.into_iter().enumerate() {
            let value = n.to_string();
            match step {
                Step::Push(end) => {
                    let record = a.push(end, value.as_bytes());
                    replica.repeat(&record, &mut a);
                }
                Step::Pop(end) if a.data.list_len(0, K) > 1 => {
                    let record = a.pop(end);
                    replica.repeat(&record, &mut a);
                }
                Step::Pop(_) => {}
                Step::Other(end, settles) => {
                    if settles {
                        settle(&mut a, &mut b);
                    }
                    if b.data.list_len(0, K) > 1 && n % 2 == 0 { b.pop(end) } else { b.push(end, value.as_bytes()) };
                    let before = a.data.clone();
                    pull(&mut b, &mut a);
                    let mut data = before;
                    for record in a.shard.take_records() {
                        replica.shard.replay(&record, &mut data).expect("a record");
                    }
                    prop_assert_eq!(data.entries(), a.data.entries());
                }
            }
            let known = names(&mut a.shard, &mut a.data);
            prop_assert_eq!(known.len(), a.data.list_len(0, K));
            prop_assert_eq!(known, names(&mut replica.shard, &mut a.data));
        }
        settle(&mut a, &mut b);
        prop_assert_eq!(a.shard.status().counters.lists_rewritten + b.shard.status().counters.lists_rewritten, 0);
    }
}

/// What was not understood, here one element more than was told, is found out soon and mended.
#[test]
fn lengths_are_compared_once_in_a_while() {
    let (mut a, mut b) = met();
    (0..3).for_each(|_| drop(a.push(End::Tail, b"x")));
    a.data.list_insert(0, K, 0, b"from nowhere");
    for _ in 0..64 {
        a.push(End::Tail, b"y");
    }
    assert_eq!(a.shard.status().counters.lists_rewritten, 1);
    settle(&mut a, &mut b);
    assert_eq!(b.data.list_len(0, K), 3 + 1 + 64);
}

//! What the simulation cannot play, with two instances by hand: it begins with nothing, so all its lists have ids (rule L10), and its links lose nothing.

use syncer_shared::instance::InstanceSet;
use syncer_shared::keyspace::Keyspace;
use syncer_shared::list::End;
use syncer_shared::shard::{ApplyError, Batch};

use sites::{K, Site, met, pull, settle};

/// Two instances without a world around them, as the tests of `shared` have them.
#[path = "../../../shared/tests/sites/mod.rs"]
mod sites;

fn elements(site: &mut Site) -> Vec<String> {
    let elements = (0..).map_while(|index| site.data.list_get(0, K, index));
    elements.map(|value| String::from_utf8_lossy(&value).into_owned()).collect()
}

/// Two sites that were given the same list before anybody logged anything of it.
fn with_a_list() -> (Site, Site) {
    let (mut a, mut b) = met();
    for site in [&mut a, &mut b] {
        for (index, value) in [b"a", b"b", b"c"].iter().enumerate() {
            site.data.list_insert(0, K, index, *value);
        }
    }
    (a, b)
}

/// Both touch it first, at the same time: its elements are the same ones at both sites, and what is new comes beside them.
#[test]
fn l10_elements_without_ids_are_the_same_at_all_sites() {
    let (mut a, mut b) = with_a_list();
    a.rpush(b"of a");
    a.pop(End::Head);
    b.now = a.now + 1;
    b.rpush(b"of b");
    b.pop(End::Head);
    settle(&mut a, &mut b);
    assert_eq!(elements(&mut a), ["b", "c", "of a", "of b"]);
}

/// What comes from elsewhere is the first touch.
#[test]
fn l10_an_effect_from_elsewhere_finds_the_element_that_it_names() {
    let (mut a, mut b) = with_a_list();
    a.pop(End::Tail);
    pull(&mut a, &mut b);
    assert_eq!(elements(&mut b), ["a", "b"]);
    b.pop(End::Head);
    settle(&mut a, &mut b);
    assert_eq!(elements(&mut a), ["b"]);
}

/// DESIGN 2.1, I-2: of what one origin wrote nothing is taken that has a gap before it, whatever offsets say.
#[test]
fn a_group_is_taken_only_behind_the_one_before_it() {
    let (mut a, mut b) = met();
    a.set("first");
    let lost = a.shard.backlog().end_offset();
    a.set("second");
    let chunk = a.shard.backlog_mut().read(lost, usize::MAX, InstanceSet::ALL).expect("held");
    let (peer, replid, frames) = (a.shard.instance(), a.shard.replid(), chunk.assemble());
    let (_, from) = b.shard.peer(peer).and_then(|peer| peer.position).expect("they have met");
    // As long as it says, and where it must begin.
    let next = from + (chunk.next - chunk.from);
    let batch = Batch { peer, replid, from, next, end: chunk.end, source_ms: a.now, frames: &frames };
    let taken = b.shard.apply(&batch, &mut b.data, b.now, &mut || true);
    assert!(matches!(taken, Err(ApplyError::Gap { .. })), "{taken:?}");
    assert_eq!(b.string(), None);
    pull(&mut a, &mut b);
    assert_eq!(b.string().as_deref(), Some("second"));
}

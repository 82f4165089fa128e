//! What must be in lists, streams, bitmaps and appended strings.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Popped, Survivors};
use super::write::{Deed, GROUP, WriteId};
use crate::client::Client;
use crate::reply;
use syncer_shared::stream::StreamId;

/// Compares with what the writes that survived have put there.
pub fn check(client: &mut Client, survivors: &Survivors, popped: &Popped, wrong: &mut Vec<String>) {
    let (mut all, mut queues) = (BTreeMap::<String, Vec<WriteId>>::new(), BTreeMap::<String, Vec<WriteId>>::new());
    let mut bits: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for id in survivors {
        match id.deed() {
            Deed::Push(key, _) | Deed::Entry(key) | Deed::Append(key) => all.entry(key).or_default().push(*id),
            Deed::Queue(key) | Deed::Pool(key) | Deed::Job(key) => queues.entry(key).or_default().push(*id),
            Deed::Bit(key, offset) => drop(bits.entry(key).or_default().insert(offset)),
            _ => {}
        }
    }
    for (key, expected) in all {
        let found = read(client, &key, expected[0].deed());
        wrong.extend(compare(&expected, &found).map(|what| format!("{key} {what}")));
    }
    for (key, pushed) in queues {
        let found = read(client, &key, pushed[0].deed());
        wrong.extend(compare_queue(&pushed, &found, popped).map(|what| format!("{key} {what}")));
    }
    for (key, expected) in bits {
        let bitmap = client.args(&["GET", &key]);
        let set = |(at, byte): (usize, &u8)| {
            let byte = *byte;
            (0..8_u64).filter(move |bit| byte >> (7 - bit) & 1 == 1).map(move |bit| at as u64 * 8 + bit)
        };
        let found: BTreeSet<u64> = reply::bytes(&bitmap).iter().enumerate().flat_map(set).collect();
        if let Some(bit) = expected.symmetric_difference(&found).next() {
            let more = expected.symmetric_difference(&found).count() - 1;
            let is = if found.contains(bit) {
                "set by no write that survived"
            } else {
                "not set, but a write that survived set it"
            };
            wrong.push(format!("{key}: bit {bit} is {is} (and {more} more are wrong)"));
        }
    }
}

/// The names in a list, a stream or an appended string, in their order.
fn read(client: &mut Client, key: &str, deed: Deed) -> Vec<Option<WriteId>> {
    let texts: Vec<String> = match deed {
        Deed::Entry(_) => {
            let entries = client.args(&["XRANGE", key, "-", "+"]);
            let name = |entry: &redis::Value| {
                let fields = reply::items(entry).get(1).map(reply::text_items).unwrap_or_default();
                fields.last().cloned().unwrap_or_default()
            };
            reply::items(&entries).iter().map(name).collect()
        }
        Deed::Append(_) => {
            let text = client.args(&["GET", key]);
            String::from_utf8_lossy(reply::bytes(&text)).split_whitespace().map(str::to_owned).collect()
        }
        Deed::Pool(_) => reply::text_items(&client.args(&["SMEMBERS", key])),
        Deed::Job(_) => unacknowledged(client, key),
        _ => reply::text_items(&client.args(&["LRANGE", key, "0", "-1"])),
    };
    texts.iter().map(|text| text.parse().ok()).collect()
}

/// The entries of a stream that are pending in its group, or still to be delivered: no others may be handed out never again.
fn unacknowledged(client: &mut Client, key: &str) -> Vec<String> {
    let groups = client.args(&["XINFO", "GROUPS", key]);
    let position = reply::items(&groups)
        .first()
        .map(|group| reply::text(reply::field(group, "last-delivered-id")))
        .unwrap_or_default();
    let pending = client.args(&["XPENDING", key, GROUP, "-", "+", "10000000"]);
    let pending =
        reply::items(&pending).iter().filter_map(|entry| StreamId::parse(reply::text_items(entry).first()?.as_bytes()));
    let (pending, position): (BTreeSet<StreamId>, _) = (pending.collect(), StreamId::parse(position.as_bytes()));
    let entries = client.args(&["XRANGE", key, "-", "+"]);
    let is_left = |id: &StreamId| pending.contains(id) || position.is_some_and(|position| *id > position);
    let entries = reply::items(&entries)
        .iter()
        .map(reply::items)
        .filter_map(|entry| Some((reply::text(entry.first()?), entry.get(1)?)));
    let left = entries.filter(|(id, _)| StreamId::parse(id.as_bytes()).is_some_and(|id| is_left(&id)));
    left.filter_map(|(_, fields)| reply::text_items(fields).pop()).collect()
}

/// Each write once, and those of one connection in their order: from the middle out in a list.
fn compare(expected: &[WriteId], found: &[Option<WriteId>]) -> Option<String> {
    let (wanted, there): (BTreeSet<_>, BTreeSet<_>) =
        (expected.iter().copied().collect(), found.iter().flatten().copied().collect());
    if let Some(lacking) = wanted.difference(&there).next() {
        let more = wanted.difference(&there).count() - 1;
        return Some(format!("lacks {lacking}, whose write survived (and {more} more)"));
    }
    if let Some(strange) = there.difference(&wanted).next() {
        return Some(format!("has {strange}, which never survived"));
    }
    if there.len() != found.len() {
        return Some(format!("has {} elements of {} writes", found.len(), there.len()));
    }
    let mut last: BTreeMap<(u8, u8, u32, bool), u32> = BTreeMap::new();
    for id in found.iter().flatten() {
        let at_head = matches!(id.deed(), Deed::Push(_, true));
        let before = last.insert((id.site, id.writer, id.epoch, at_head), id.n);
        if let Some(before) = before.filter(|before| (*before < id.n) == at_head) {
            return Some(format!("has {id} behind number {before} of the same connection"));
        }
    }
    None
}

/// What is not there was taken, by a write that survived: taking is at-least-once. Of a write that was not acknowledged nobody knows what it
/// took.
fn compare_queue(pushed: &[WriteId], found: &[Option<WriteId>], popped: &Popped) -> Option<String> {
    let wanted: BTreeSet<WriteId> = pushed.iter().copied().collect();
    let there: BTreeSet<WriteId> = found.iter().flatten().copied().collect();
    if there.len() != found.len() {
        return Some(format!("has {} elements of {} writes", found.len(), there.len()));
    }
    if let Some(strange) = there.difference(&wanted).next() {
        return Some(format!("has {strange}, which never survived"));
    }
    let taken: BTreeSet<WriteId> = pushed.iter().filter_map(|by| popped.get(by)).flatten().copied().collect();
    let untold: usize = pushed.iter().filter(|by| !popped.contains_key(by)).map(|by| by.deed().takes()).sum();
    let lost: Vec<_> = wanted.iter().filter(|id| !there.contains(id) && !taken.contains(id)).collect();
    let first = lost.first()?;
    (lost.len() > untold).then(|| {
        let more = lost.len() - 1;
        format!("lacks {first}, which no write took (and {more} more; writes that were not acknowledged took up to {untold})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> WriteId {
        WriteId { site: 1, writer: 0, epoch: 0, n }
    }

    #[test]
    fn every_element_is_there_once_and_in_order() {
        let is_pushed = |at_head: bool| move |n: &u32| matches!(id(*n).deed(), Deed::Push(_, head) if head == at_head);
        let tail: Vec<WriteId> = (0..2000).filter(is_pushed(false)).take(2).map(id).collect();
        let head: Vec<WriteId> = (0..2000).filter(is_pushed(true)).take(2).map(id).collect();
        let all = [tail.clone(), head.clone()].concat();
        let judge = |order: [WriteId; 4]| compare(&all, &order.map(Some)).is_none();
        assert!(judge([head[1], head[0], tail[0], tail[1]]));
        assert!(!judge([head[0], head[1], tail[0], tail[1]]), "heads in the wrong order");
        assert!(!judge([head[1], head[0], tail[1], tail[0]]), "tails in the wrong order");
        assert!(!judge([head[1], head[0], tail[0], tail[0]]), "one is lost");
        assert!(compare(&all, &[head[1], head[0], tail[0], tail[1], tail[1]].map(Some)).is_some(), "one is twice");
    }

    #[test]
    fn what_is_not_in_a_queue_was_popped() {
        let of = |is_it: fn(&Deed) -> bool| {
            (0..2000).map(id).filter(move |id| is_it(&id.deed())).take(3).collect::<Vec<_>>()
        };
        for pushed in [of(|deed| matches!(deed, Deed::Queue(_))), of(|deed| matches!(deed, Deed::Pool(_)))] {
            let [a, b, c] = pushed[..] else { panic!("there are three") };
            let popped: Popped = [(b, vec![a])].into();
            assert_eq!(compare_queue(&pushed, &[Some(b), Some(c)], &popped), None);
            assert_eq!(compare_queue(&pushed, &[], &popped), None, "two pops are not acknowledged");
            let told: Popped = [(a, vec![]), (b, vec![a]), (c, vec![])].into();
            assert!(compare_queue(&pushed, &[Some(c)], &told).is_some());
            assert!(compare_queue(&pushed, &[Some(c), Some(c)], &popped).is_some(), "twice");
        }
        let jobs = of(|deed| matches!(deed, Deed::Job(_)));
        let told: Popped = jobs.iter().map(|id| (*id, vec![])).chain([(jobs[2], vec![jobs[0], jobs[1]])]).collect();
        assert_eq!(compare_queue(&jobs, &[Some(jobs[2])], &told), None, "one may acknowledge two");
        assert!(compare_queue(&jobs, &[], &told).is_some(), "skipped: handed out to nobody");
    }
}

//! What must be in values that writes change in other ways than by putting their names there for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::free::BIG_BYTES;
use super::history::Survivors;
use super::write::{Deed, KEPT, TTLS, WriteId};
use crate::client::Client;
use crate::{dataset, reply};

/// Keys that show names of writes, which only some of the writes that put them there do not lose: by how they begin.
const NAMED: [&str; 17] = [
    "list:",
    "stream:",
    "ttl:",
    "insert:",
    "shared:",
    "edited:",
    "mixed:",
    "other:",
    "others:",
    "moved:",
    "copied:",
    "renamed:",
    "restored:",
    "work:",
    "union:",
    "sorted:",
    "pool:",
];
/// Databases that are written to.
const DATABASES: usize = 3;
/// How far the clocks of two servers may be off, in seconds, with what a TTL is rounded by.
const CLOCKS_OFF: i64 = 15;

/// Compares with what the writes that survived say; the run has lasted so long.
pub fn check(client: &mut Client, survivors: &Survivors, lasted: Duration, wrong: &mut Vec<String>) {
    let mut by_key: BTreeMap<String, (Deed, Vec<WriteId>)> = BTreeMap::new();
    for id in survivors {
        let deed = id.deed();
        let (Deed::CappedList(key)
        | Deed::CappedStream(key)
        | Deed::Ttl(key, _)
        | Deed::Quarter(key)
        | Deed::Sketch(key)
        | Deed::Insert(key)
        | Deed::Library(key)) = &deed
        else {
            continue;
        };
        by_key.entry(key.clone()).or_insert_with(|| (deed.clone(), Vec::new())).1.push(*id);
    }
    for (key, (deed, ids)) in by_key {
        let found = match deed {
            Deed::CappedList(_) => capped(&ids, &client.text_items(&format!("LRANGE {key} 0 -1"))),
            Deed::CappedStream(_) => {
                let entries = client.args(&["XRANGE", &key, "-", "+"]);
                let name = |entry: &redis::Value| {
                    reply::items(entry).get(1).and_then(|fields| reply::text_items(fields).pop())
                };
                capped(&ids, &reply::items(&entries).iter().filter_map(name).collect::<Vec<_>>())
            }
            Deed::Ttl(..) => ttl(&client.text(&format!("TTL {key}")), lasted),
            Deed::Quarter(_) => quarters(ids.len(), &client.text(&format!("GET {key}"))),
            Deed::Sketch(_) => sketched(ids.len(), &client.text(&format!("PFCOUNT {key}"))),
            Deed::Insert(_) => inserted(&ids, &client.text_items(&format!("LRANGE {key} 0 -1"))),
            _ => shown(&ids, &client.text(&format!("FCALL_RO f{key} 0"))),
        };
        wrong.extend(found.map(|what| format!("{key} {what}")));
    }
    check_names(client, survivors, wrong);
}

/// Nothing is there of a write that did not survive: a transaction is everywhere as a whole, or nowhere.
fn check_names(client: &mut Client, survivors: &Survivors, wrong: &mut Vec<String>) {
    for db in 0..DATABASES {
        client.ok(&format!("SELECT {db}"));
        let keys = client.args(&["KEYS", "*"]);
        for key in reply::items(&keys).iter().map(reply::text) {
            if key.starts_with("big:") {
                let size = client.text(&format!("STRLEN {key}"));
                wrong.extend(
                    (size != BIG_BYTES.to_string()).then(|| format!("{key} has {size} bytes: no write wrote that")),
                );
            }
            if NAMED.iter().any(|begin| key.starts_with(begin)) {
                let entry = dataset::entry(client, key.as_bytes()).map(|entry| entry.value).unwrap_or_default();
                wrong.extend(strangers(survivors, &entry).map(|what| format!("{key} of database {db} {what}")));
            }
        }
    }
    client.ok("SELECT 0");
}

/// The first name in a text that is of no write that survived.
fn strangers(survivors: &Survivors, text: &str) -> Option<String> {
    let words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let stranger = words.filter_map(|word| word.parse::<WriteId>().ok()).find(|id| !survivors.contains(id))?;
    Some(format!("has {stranger}, which never survived"))
}

/// What is cut away is below, or in front of, as many as are kept: so those that are the last of all were cut away by nobody.
fn capped(ids: &[WriteId], found: &[String]) -> Option<String> {
    let names: BTreeSet<WriteId> = found.iter().filter_map(|name| name.parse().ok()).collect();
    if names.len() != found.len() {
        return Some(format!("has {} elements of {} writes", found.len(), names.len()));
    }
    let least = ids.len().min(KEPT);
    (found.len() < least)
        .then(|| format!("has {} elements, but {} writes survived, and {KEPT} are kept", found.len(), ids.len()))
}

/// It is none, or one of those that are written, less what may have passed. A key that nobody deletes is gone only if it could expire.
fn ttl(found: &str, lasted: Duration) -> Option<String> {
    let least = TTLS[0] - CLOCKS_OFF - i64::try_from(lasted.as_secs()).unwrap_or(i64::MAX);
    match found.parse::<i64>() {
        Ok(-1) => None,
        Ok(-2) if least <= 0 => None,
        Ok(seconds) if seconds >= least.max(0) && seconds <= TTLS[1] + CLOCKS_OFF => None,
        _ => Some(format!("has a TTL of {found}, which was not written, nor can be left of what was")),
    }
}

fn quarters(count: usize, found: &str) -> Option<String> {
    // Exact: a quarter is a sum of powers of two.
    let sum = count as f64 / 4.0;
    let is_it = found.parse::<f64>().is_ok_and(|found| found == sum);
    (!is_it).then(|| format!("is {found}, but the writes that survived add up to {sum}"))
}

/// The standard error is 0.8 %.
fn sketched(count: usize, found: &str) -> Option<String> {
    let error = (count / 20).max(2);
    let is_near = found.parse::<usize>().is_ok_and(|found| found.abs_diff(count) <= error);
    (!is_near).then(|| format!("counts {found}, but {count} writes that survived are in it"))
}

/// Each once, between the marks.
fn inserted(ids: &[WriteId], found: &[String]) -> Option<String> {
    let names: Vec<WriteId> = found.iter().filter_map(|name| name.parse().ok()).collect();
    let there: BTreeSet<WriteId> = names.iter().copied().collect();
    if let Some(lacking) = ids.iter().find(|id| !there.contains(id)) {
        let more = ids.iter().filter(|id| !there.contains(id)).count() - 1;
        return Some(format!("lacks {lacking}, whose write survived (and {more} more)"));
    }
    (names.len() != there.len()).then(|| format!("has {} elements of {} writes", names.len(), there.len()))
}

fn shown(ids: &[WriteId], found: &str) -> Option<String> {
    let shown = found.parse::<WriteId>().ok().filter(|id| ids.contains(id));
    shown.is_none().then(|| format!("(a library) answers {found}, which is no write of it that survived"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u32) -> Vec<WriteId> {
        (0..count).map(|n| WriteId { site: 1, writer: 0, epoch: 0, n }).collect()
    }

    fn names(ids: &[WriteId]) -> Vec<String> {
        ids.iter().map(WriteId::to_string).collect()
    }

    #[test]
    fn what_is_kept_of_a_capped_value_is_enough_and_each_once() {
        let all = ids(60);
        assert_eq!(capped(&all, &names(&all[60 - KEPT..])), None);
        assert_eq!(capped(&all, &names(&all[5..])), None, "cut at two sites: each kept enough");
        assert!(capped(&all, &names(&all[61 - KEPT..])).is_some());
        assert!(capped(&all[..3], &names(&all[..2])).is_some());
        assert!(capped(&all[..2], &names(&[all[0], all[1], all[1]])).is_some(), "one is twice");
    }

    #[test]
    fn a_ttl_is_one_that_was_written_less_what_has_passed() {
        let judge = |found: &str, seconds: u64| ttl(found, Duration::from_secs(seconds)).is_none();
        assert!(judge("-1", 0) && judge("999", 10) && judge("2001", 10) && judge("950", 60));
        assert!(!judge("-2", 60) && judge("-2", 1_000), "nobody deletes it");
        assert!(!judge("900", 60) && !judge("2100", 60) && !judge("-WRONGTYPE", 60));
    }

    #[test]
    fn sums_and_sketches_tell_how_many_survived() {
        assert!(quarters(5, "1.25").is_none() && quarters(4, "1").is_none());
        assert!(quarters(5, "1").is_some() && quarters(5, "(nil)").is_some());
        assert!(sketched(1_000, "990").is_none() && sketched(10, "9").is_none());
        assert!(
            sketched(1_000, "940").is_some() && sketched(10, "0").is_some() && sketched(10, "-WRONGTYPE").is_some()
        );
    }

    #[test]
    fn what_is_inserted_is_there_once() {
        let all = ids(3);
        let list = |names: &[&str]| inserted(&all, &names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(list(&["1.0.0.0", "1.0.0.2", "|", "1.0.0.1", "|"]), None);
        assert!(list(&["1.0.0.0", "|", "1.0.0.1"]).is_some(), "2 is lost");
        assert!(list(&["1.0.0.0", "1.0.0.2", "|", "1.0.0.1", "1.0.0.1"]).is_some(), "1 is twice");
        assert!(shown(&all, "1.0.0.2").is_none() && shown(&all, "1.0.0.3").is_some() && shown(&all, "-ERR").is_some());
    }

    #[test]
    fn no_name_is_there_of_a_write_that_is_lost() {
        let survivors: Survivors = ids(2).into_iter().collect();
        assert_eq!(strangers(&survivors, "1700000000000-65=[by, 1.0.0.0] x=1.0.0.1 0.25 7.5"), None);
        assert!(strangers(&survivors, "f=1.0.0.1 g=1.0.0.2").is_some());
    }
}

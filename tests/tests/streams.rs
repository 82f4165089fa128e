//! Streams merge entry by entry, consumer groups by delivery (DESIGN 2.3, docs/SEMANTICS.md).

use std::collections::BTreeMap;

use redis::Value;

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::members::metadata;
use syncer_tests::server::ServerKind;
use syncer_tests::{on_all_kinds, reply, wait};

/// The ids of a reply like that of `XRANGE`.
fn ids(entries: &Value) -> Vec<String> {
    reply::items(entries).iter().map(|entry| reply::text(&reply::items(entry)[0])).collect()
}

fn all_ids(client: &mut Client, key: &str) -> Vec<String> {
    ids(&client.cmd(&format!("XRANGE {key} - +")))
}

/// The ids that a read of group `g` gives, of one stream.
fn read(client: &mut Client, consumer: &str, rest: &str) -> Vec<String> {
    let given = client.cmd(&format!("XREADGROUP GROUP g {consumer} {rest}"));
    reply::items(&given).iter().flat_map(|stream| ids(&reply::items(stream)[1])).collect()
}

/// What is pending in group `g`: who has which entry.
fn pending(client: &mut Client, key: &str) -> BTreeMap<String, String> {
    let all = client.cmd(&format!("XPENDING {key} g - + 1000"));
    let one = |entry: &Value| {
        let entry = reply::items(entry);
        (reply::text(&entry[0]), reply::text(&entry[1]))
    };
    reply::items(&all).iter().map(one).collect()
}

on_all_kinds! {
    fn generated_ids_differ_between_sites_and_entries_are_in_order(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x * first 1");
        cluster.converged();
        cluster.cut(1, 2);
        for n in 0..50 {
            one.ok(&format!("XADD x * one {n}"));
            two.ok(&format!("XADD x * two {n}"));
            one.multi(&[format!("XADD x * multi {n}"), format!("XADD x 1900000000000-* part {n}"), "XDEL x 1-1".to_owned()]);
            two.ok(&format!("EVAL \"return redis.call('XADD', KEYS[1], '*', 'script', ARGV[1])\" 1 y {n}"));
            one.ok(&format!("XADD y * one {n}"));
        }
        cluster.heal();
        cluster.converged();
        for key in ["x", "y"] {
            let all = all_ids(&mut one, key);
            assert_eq!(all, all_ids(&mut two, key), "{key}");
            let mut unique = all.clone();
            unique.dedup();
            assert_eq!(all.len(), unique.len());
        }
        assert_eq!(one.text("XLEN x"), "201");
        let residue = |id: &String| id.split_once('-').map(|(_, seq)| seq.parse::<u64>().expect("a number") % 64);
        assert!(all_ids(&mut one, "x").iter().all(|id| matches!(residue(id), Some(1 | 2))));
        // Above what the other site has added meanwhile.
        let last = all_ids(&mut two, "x").pop();
        let next = two.text("XADD x * after everything");
        assert_eq!(all_ids(&mut two, "x").pop(), Some(next));
        assert_ne!(all_ids(&mut two, "x").pop(), last);
    }

    fn entries_below_the_last_id_come_to_their_places(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for ms in [10, 20, 30] {
            one.ok(&format!("XADD x {ms}-1 f {ms}"));
        }
        one.ok("XADD same 5-1 from before");
        cluster.converged();
        cluster.cut(1, 2);
        // Deletions above the places, which servers take badly.
        one.ok("XADD x 40-1 f gone");
        one.ok("XDEL x 40-1");
        one.ok("XADD x 50-1 f one");
        one.ok("XADD same 7-1 v one");
        two.ok("XADD x 31-1 f two");
        two.ok("XADD x 45-1 f two");
        two.ok("XDEL x 20-1 31-1");
        two.ok("XADD x 46-1 f two");
        two.ok("XADD same 7-1 v two");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(all_ids(client, "x"), ["10-1", "30-1", "45-1", "46-1", "50-1"]);
            assert_eq!(client.text("XRANGE same - +"), "[[5-1, [from, before]], [7-1, [v, two]]]");
            let info = client.text("XINFO STREAM x");
            assert!(info.contains("last-generated-id, 50-1"), "{info}");
        }
    }

    fn what_had_not_seen_the_end_of_a_group_is_in_the_next_one_of_its_name(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for id in ["1-1", "2-1"] {
            one.ok(&format!("XADD x {id} f v"));
        }
        one.ok("XGROUP CREATE x g 0");
        assert_eq!(read(&mut one, "alice", "STREAMS x >"), ["1-1", "2-1"]);
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("XCLAIM x g bob 0 1-1");
        two.ok("XGROUP DESTROY x g");
        two.ok("XGROUP CREATE x g 0");
        cluster.heal();
        cluster.converged();
        let claimed = BTreeMap::from([("1-1".to_owned(), "bob".to_owned())]);
        assert_eq!((pending(&mut one, "x"), pending(&mut two, "x")), (claimed.clone(), claimed));
        // Who has seen all of it begins anew.
        cluster.cut(1, 2);
        one.ok("XCLAIM x g carol 0 1-1");
        two.ok("XGROUP DESTROY x g");
        cluster.heal();
        cluster.converged();
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        assert_eq!((pending(&mut one, "x").len(), pending(&mut two, "x").len()), (0, 0));
    }

    fn whose_a_delivery_is_outlives_its_entry_and_a_rewrite_of_the_key(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 1-1 f v");
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        cluster.cut(1, 2);
        assert_eq!(read(&mut one, "alice", "STREAMS x >"), ["1-1"]);
        one.ok("XDEL x 1-1");
        // Unseen at site 1, which must write the key anew for it, and has then the entry again, but not by who was given it.
        two.ok("DEL x");
        two.ok("SET x other");
        two.ok("DEL x");
        two.ok("XADD x 1-1 f again");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("XRANGE x - +"), "[[1-1, [f, again]]]");
            assert_eq!(pending(client, "x"), BTreeMap::from([("1-1".to_owned(), "alice".to_owned())]));
        }
    }

    fn a_trim_or_delete_spares_what_it_has_not_seen(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for ms in 1..=20 {
            one.ok(&format!("XADD x {ms}-1 f v"));
            one.ok(&format!("XADD gone {ms}-1 f v"));
        }
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("XADD x MAXLEN = 5 30-1 f one");
        one.ok("DEL gone");
        two.ok("XADD x 25-1 f two");
        two.ok("XTRIM x MINID 3-1");
        two.ok("XADD gone 21-1 f two");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(all_ids(client, "x"), ["17-1", "18-1", "19-1", "20-1", "25-1", "30-1"]);
            assert_eq!(all_ids(client, "gone"), ["21-1"]);
        }
        one.ok("XTRIM x MAXLEN 0");
        two.ok("XADD gone NOMKSTREAM MAXLEN ~ 1 40-1 f v");
        cluster.converged();
        assert_eq!(two.text("XLEN x"), "0");
        assert_eq!(two.text("XADD x 29-1 f v"), one.text("XADD x 29-1 f v"), "the last id stays");
    }

    /// `~` removes whole nodes, of a hundred entries: those that it removed, not those that it would remove elsewhere.
    fn an_approximate_trim_removes_the_same_everywhere(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for key in ["x", "y"] {
            one.pipeline(&(1..=300).map(|n| format!("XADD {key} {n}-1 f v")).collect::<Vec<_>>());
        }
        cluster.converged();
        cluster.cut(1, 2);
        two.pipeline(&["XDEL x 150-1", "XADD x 400-1 f two", "XADD y 400-1 f two"]);
        one.ok("XADD x MAXLEN ~ 120 301-1 f one");
        one.multi(&["XTRIM y MINID ~ 250-1", "XADD y MINID ~ 290-1 301-1 f one"]);
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            let left = |client: &mut Client, key| (client.text(&format!("XLEN {key}")), all_ids(client, key)[0].clone());
            assert_eq!(left(client, "x"), ("201".to_owned(), "101-1".to_owned()), "300, two more, less a node and one");
            assert_eq!(left(client, "y"), ("102".to_owned(), "201-1".to_owned()));
        }
    }

    fn groups_of_two_sites_lose_no_entry_and_give_no_acknowledged_one_again(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 1-1 f v");
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["1-1"]);
        cluster.converged();
        assert_eq!(read(&mut one, "a", "STREAMS x >"), [""; 0], "delivered elsewhere");
        assert_eq!(one.text("XACK x g 1-1"), "1");
        cluster.converged();
        assert_eq!(pending(&mut two, "x"), BTreeMap::new());
        // Both add and read what they have.
        cluster.cut(1, 2);
        for ms in [10, 30, 50] {
            one.ok(&format!("XADD x {ms}-1 f one"));
            two.ok(&format!("XADD x {}-1 f two", ms + 10));
        }
        assert_eq!(read(&mut one, "a", "COUNT 2 STREAMS x >"), ["10-1", "30-1"]);
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["20-1", "40-1", "60-1"]);
        assert_eq!(one.text("XACK x g 10-1"), "1");
        assert_eq!(two.text("XACK x g 40-1"), "1");
        cluster.heal();
        cluster.converged();
        // 50-1 was passed over by the other site's read: it is still to be had, once, at either site.
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["50-1"]);
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(read(client, "c", "STREAMS x >"), [""; 0]);
            let expected = [("20-1", "b"), ("30-1", "a"), ("50-1", "b"), ("60-1", "b")];
            let expected = expected.map(|(id, owner)| (id.to_owned(), owner.to_owned()));
            assert_eq!(pending(client, "x"), BTreeMap::from(expected));
        }
        let claimed = one.text("XCLAIM x g a 0 20-1 JUSTID");
        assert_eq!(claimed, "[20-1]");
        one.multi(&["XACK x g 20-1", "XAUTOCLAIM x g d 0 40-0"]);
        cluster.converged();
        let expected = [("30-1", "a"), ("50-1", "d"), ("60-1", "d")].map(|(id, owner)| (id.to_owned(), owner.to_owned()));
        assert_eq!(pending(&mut two, "x"), BTreeMap::from(expected));
    }

    /// Both were given it, for neither could ask the other; who knows that it is done gives it to nobody any more.
    fn what_one_site_acknowledges_is_done_also_where_another_delivers_it_at_once(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.pipeline(&["XADD x 1-1 f v", "XADD x 2-1 f v", "XGROUP CREATE x g 0"]);
        cluster.converged();
        cluster.cut(1, 2);
        assert_eq!(read(&mut one, "a", "STREAMS x >"), ["1-1", "2-1"]);
        assert_eq!(one.text("XACK x g 1-1"), "1");
        one.ok("DEBUG SLEEP 0.005");
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["1-1", "2-1"]);
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(pending(client, "x"), BTreeMap::from([("2-1".to_owned(), "b".to_owned())]));
            assert_eq!(read(client, "b", "STREAMS x 0"), ["2-1"], "what it has not acknowledged");
            assert_eq!(read(client, "c", "STREAMS x >"), [""; 0]);
        }
        two.ok("XAUTOCLAIM x g d 0 0");
        cluster.converged();
        assert_eq!(pending(&mut one, "x"), BTreeMap::from([("2-1".to_owned(), "d".to_owned())]));
        // So it is with what arrives below the position of the group: delivered elsewhere, and done there or not.
        cluster.cut(1, 2);
        one.ok("XADD x 9-1 f one");
        assert_eq!(read(&mut one, "a", "STREAMS x >"), ["9-1"]);
        two.pipeline(&["XADD x 5-1 f two", "XADD x 6-1 f two"]);
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["5-1", "6-1"]);
        assert_eq!(two.text("XACK x g 5-1"), "1");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(read(client, "c", "STREAMS x >"), [""; 0]);
            let expected = [("2-1", "d"), ("6-1", "b"), ("9-1", "a")].map(|(id, owner)| (id.to_owned(), owner.to_owned()));
            assert_eq!(pending(client, "x"), BTreeMap::from(expected));
        }
    }

    /// Found by `./run torture --seed 700212`: where it was read, the delivery went with the entry, and did not come back.
    fn a_delivery_outlives_that_another_site_writes_its_entry_anew(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 1-1 f v");
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        cluster.cut(1, 2);
        assert_eq!(read(&mut one, "a", "STREAMS x >"), ["1-1"]);
        two.multi(&["DEL x", "XADD x 1-1 f v", "XADD x 2-1 f v"]);
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(pending(client, "x"), BTreeMap::from([("1-1".to_owned(), "a".to_owned())]));
        }
        assert_eq!(read(&mut two, "b", "STREAMS x >"), ["2-1"]);
        cluster.converged();
    }

    /// Found by `./run torture --seed 700627`: the last id that an entry had raised stayed, as that of another site's stream.
    fn a_last_id_goes_with_who_raised_it_also_beside_another_type(cluster: 3) {
        cluster.cut_all();
        cluster.client(1).ok("HSET x f v");
        cluster.client(3).ok("DEBUG SLEEP 0.005");
        cluster.client(3).ok("XGROUP CREATE x g 0 MKSTREAM");
        cluster.client(2).ok("DEBUG SLEEP 0.005");
        cluster.client(2).ok("XADD x 7-1 f v");
        cluster.client(2).ok("DEL x");
        cluster.heal_between(1, 3);
        cluster.caught_up(3, 1);
        cluster.heal();
        cluster.converged();
    }

    fn what_is_pending_stays_so_when_a_group_that_was_set_back_reads_it_again_without_acknowledging(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for ms in 1..=3 {
            one.ok(&format!("XADD x {ms}-1 f v"));
        }
        one.ok("XGROUP CREATE x g 0");
        assert_eq!(read(&mut one, "a", "COUNT 2 STREAMS x >"), ["1-1", "2-1"]);
        one.ok("XACK x g 1-1");
        one.ok("XGROUP SETID x g 0");
        assert_eq!(read(&mut one, "b", "NOACK STREAMS x >"), ["1-1", "2-1", "3-1"]);
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(pending(client, "x"), BTreeMap::from([("2-1".to_owned(), "a".to_owned())]));
        }
    }

    fn late_entries_are_handed_out_as_any_others(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2).resp3());
        one.ok("XGROUP CREATE x g 0 MKSTREAM");
        one.ok("XGROUP CREATE y g 0 MKSTREAM");
        cluster.converged();
        cluster.cut(1, 2);
        for ms in 1..=5 {
            one.ok(&format!("XADD x {ms}-1 f one"));
        }
        two.ok("XADD x 9-1 f two");
        two.ok("XADD y 9-1 f two");
        two.ok("XREADGROUP GROUP g b STREAMS x y > >");
        cluster.heal();
        cluster.converged();
        one.ok("XDEL x 2-1");
        cluster.converged();
        let given = two.text("XREADGROUP GROUP g b COUNT 2 STREAMS y x > >");
        assert_eq!(given, "{x: [[1-1, [f, one]]]}", "two were wanted, one of them is deleted");
        cluster.converged();
        assert_eq!(read(&mut one, "a", "BLOCK 0 NOACK STREAMS x >"), ["3-1", "4-1", "5-1"]);
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(read(client, "c", "STREAMS x >"), [""; 0]);
            assert_eq!(pending(client, "x").len(), 2, "9-1 and 1-1");
        }
    }

    fn a_blocked_reader_is_given_what_it_waits_for_and_others_hear_of_it(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XGROUP CREATE x g $ MKSTREAM");
        cluster.converged();
        let (mut reader, mut observer) = (cluster.client(1), cluster.client(1));
        reader.block("XREADGROUP GROUP g a BLOCK 0 STREAMS x >", &mut observer);
        let added = two.text("XADD x * f v");
        let given = reader.receive().expect("entries");
        assert_eq!(reply::text(&given), format!("[[x, [[{added}, [f, v]]]]]"));
        let delivered = || pending(&mut two, "x").get(&added).is_some_and(|owner| owner == "a");
        wait::eventually("the other site hears of the delivery", delivered);
        assert_eq!(read(&mut two, "b", "STREAMS x >"), [""; 0]);
        cluster.converged();
    }

    /// Found by torture: what is not pending any more when it is looked at was not given, it was thought, and the other site would have given it again.
    fn what_a_blocked_reader_acknowledges_at_once_is_given_nowhere_else(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XGROUP CREATE x g 0 MKSTREAM");
        cluster.converged();
        let (mut reader, mut observer) = (cluster.client(1), cluster.client(1));
        let mut added = String::new();
        for _ in 0..5 {
            reader.block("XREADGROUP GROUP g a BLOCK 0 STREAMS x >", &mut observer);
            added = one.text("XADD x * f v");
            reader.receive().expect("entries");
            assert_eq!(reader.text(&format!("XACK x g {added}")), "1");
        }
        wait::eventually("the other site hears how far the group is", || two.text("XINFO GROUPS x").contains(&added));
        cluster.converged();
        assert_eq!(read(&mut two, "b", "STREAMS x >"), [""; 0]);
        assert!(pending(&mut two, "x").is_empty());
    }

    /// Found by torture: who reads again up to where the group was when it began to wait was given nothing, it was thought.
    fn a_blocked_reader_is_given_again_what_the_group_went_back_before(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XGROUP CREATE x g 0 MKSTREAM");
        one.ok("XGROUP CREATE y g 0 MKSTREAM");
        let added = one.text("XADD x * f v");
        assert_eq!(read(&mut one, "a", "STREAMS x >"), [added.as_str()]);
        cluster.converged();
        let (mut reader, mut observer) = (cluster.client(1), cluster.client(1));
        reader.block("XREADGROUP GROUP g b BLOCK 0 STREAMS y x > >", &mut observer);
        one.multi(&["XGROUP SETID x g 0", "XADD y 1-1 f v"]);
        assert_eq!(reply::items(&reader.receive().expect("entries")).len(), 2);
        wait::eventually("the other site hears of it", || pending(&mut two, "x").get(&added).is_some_and(|a| a == "b"));
        cluster.converged();
        assert_eq!(read(&mut two, "b", "STREAMS x >"), [""; 0]);
    }

    /// Who came back from an old file removes entries that are known everywhere: they are asserted again, older ones after younger ones (2.2 rule 5).
    fn entries_that_are_asserted_again_leave_the_last_id(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        (1..=9).for_each(|ms| drop(one.ok(&format!("XADD x {ms}-1 f v"))));
        one.ok("XDEL x 7-1");
        cluster.converged();
        two.ok("SAVE");
        one.ok("SET later v");
        cluster.converged();
        wait::eventually("all is stable", || metadata(&mut one) == 0);
        cluster.cut(1, 2);
        cluster.site_mut(2).server.kill();
        cluster.site_mut(2).server.restart();
        cluster.client(2).ok("XTRIM x MINID 4");
        cluster.heal();
        cluster.converged();
        let expected: Vec<String> = [1, 2, 3, 4, 5, 6, 8, 9].map(|ms| format!("{ms}-1")).into();
        for site in cluster.sites() {
            let mut client = site.client();
            assert_eq!(all_ids(&mut client, "x"), expected);
            let info = client.ok("XINFO STREAM x");
            let told = ["last-generated-id", "max-deleted-entry-id"].map(|name| reply::text(reply::field(&info, name)));
            assert_eq!(told[0], "9-1");
            assert!(site.instance == 2 || told[1] == "7-1", "{told:?}");
            let log = site.server.log();
            assert!(!log.contains("bug"), "site {}: {log}", site.instance);
        }
        one.ok("XADD x 10-1 f v");
        cluster.converged();
    }

    fn groups_come_and_go(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for ms in 1..=5 {
            one.ok(&format!("XADD x {ms}-1 f v"));
        }
        one.ok("XGROUP CREATE x g 3-1");
        one.ok("XGROUP CREATE x other 0");
        one.ok("XGROUP CREATECONSUMER x g a");
        cluster.converged();
        assert_eq!(read(&mut two, "a", "STREAMS x >"), ["4-1", "5-1"]);
        two.ok("XGROUP DELCONSUMER x g a");
        two.ok("XGROUP DESTROY x other");
        cluster.converged();
        assert_eq!(pending(&mut one, "x"), BTreeMap::new());
        assert_eq!(reply::items(&one.cmd("XINFO GROUPS x")).len(), 1);
        one.ok("XGROUP SETID x g 0");
        cluster.converged();
        assert_eq!(read(&mut two, "a", "COUNT 1 STREAMS x >"), ["1-1"]);
        cluster.converged();
        // A group that is read while another site destroys it stays, and what it reads.
        cluster.cut(1, 2);
        one.ok("XGROUP DESTROY x g");
        two.ok("XADD x 7-1 f v");
        assert_eq!(read(&mut two, "a", "STREAMS x >"), ["2-1", "3-1", "4-1", "5-1", "7-1"]);
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(pending(client, "x").len(), 5, "1-1 was seen by who destroyed it");
        }
        // The whole stream written anew, its groups with it.
        one.ok("RENAME x renamed");
        one.ok("COPY renamed copied");
        cluster.converged();
        assert_eq!(pending(&mut two, "copied").len(), 5);
        one.ok("FLUSHALL");
        cluster.converged();
    }
}

/// `XACKDEL` and `XDELEX`, which Redis has, against what another site does with the same entries.
#[test]
fn what_acknowledges_and_deletes_at_once_meets_claims_and_reads() {
    let cluster = Cluster::new(&[ServerKind::Redis8, ServerKind::Redis8]);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    for ms in 1..=5 {
        one.ok(&format!("XADD x {ms}-1 f v"));
    }
    one.ok("XGROUP CREATE x g 0");
    assert_eq!(read(&mut one, "a", "COUNT 4 STREAMS x >").len(), 4);
    cluster.converged();
    cluster.cut(1, 2);
    one.ok("XACKDEL x g DELREF IDS 1 1-1");
    one.ok("XDELEX x KEEPREF IDS 1 2-1");
    assert_eq!(one.text("XDELEX x ACKED IDS 1 3-1"), "[2]", "it is not acknowledged here");
    two.ok("XCLAIM x g b 0 1-1 2-1");
    two.ok("XACK x g 3-1");
    assert_eq!(read(&mut two, "b", "STREAMS x >"), ["5-1"]);
    two.ok("XADD x 6-1 f v");
    cluster.heal();
    cluster.converged();
    for client in [&mut one, &mut two] {
        assert_eq!(all_ids(client, "x"), ["3-1", "4-1", "5-1", "6-1"]);
        let owners = pending(client, "x");
        assert_eq!(owners.get("4-1").map(String::as_str), Some("a"));
        assert_eq!(owners.get("5-1").map(String::as_str), Some("b"));
        assert_eq!(owners.get("3-1"), None, "acknowledged");
    }
    assert_eq!(one.text("XDELEX x ACKED IDS 1 3-1"), "[1]");
    cluster.converged();
    assert_eq!(all_ids(&mut two, "x"), ["4-1", "5-1", "6-1"]);
}

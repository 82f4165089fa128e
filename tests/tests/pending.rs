//! What is pending of a stream's entries whose ids come again, and what a claim leaves of a stream (DESIGN 2.3).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use syncer_tests::client::Client;
use syncer_tests::members::metadata;
use syncer_tests::{on_all_kinds, reply, wait};

/// What is pending in group `g` of stream `x`: who has which entry.
fn pending(client: &mut Client) -> BTreeMap<String, String> {
    let all = client.cmd("XPENDING x g - + 1000");
    let one = |entry: &Value| {
        let entry = reply::items(entry);
        (reply::text(&entry[0]), reply::text(&entry[1]))
    };
    reply::items(&all).iter().map(one).collect()
}

fn of_alice() -> BTreeMap<String, String> {
    BTreeMap::from([("5-1".to_owned(), "alice".to_owned())])
}

/// The last id goes back, which servers refuse below what `XDEL` removed.
const BACK: &str = "XSETID x 3-0 ENTRIESADDED 1 MAXDELETEDID 1-0";

on_all_kinds! {
    /// Found by `./run torture --seed 26027`: pending at the site that still had the first delivery.
    fn an_entry_whose_id_comes_again_is_pending_as_its_author_shows_it(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 5-1 f v");
        one.ok("XGROUP CREATE x g 0");
        one.ok("XREADGROUP GROUP g alice STREAMS x >");
        one.ok("XTRIM x MAXLEN 0");
        cluster.converged();
        // A claim of what is gone drops it, at this server.
        assert_eq!(two.text("XCLAIM x g bob 0 5-1"), "[]");
        two.ok(BACK);
        two.ok("XADD x 5-1 f again");
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("XRANGE x - +"), "[[5-1, [f, again]]]");
            assert_eq!(pending(client), BTreeMap::new());
        }
        one.ok("XGROUP SETID x g 0");
        one.ok("XREADGROUP GROUP g alice STREAMS x >");
        one.ok("XTRIM x MAXLEN 0");
        cluster.converged();
        assert_eq!(two.text("XCLAIM x g bob 0 5-1"), "[]");
        one.ok(BACK);
        one.ok("XADD x 5-1 f third");
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(pending(client), of_alice(), "as on a stock server");
        }
    }

    fn a_delivery_stays_whose_it_is_when_its_entry_comes_again_below_others(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 5-1 f v");
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("XREADGROUP GROUP g alice STREAMS x >");
        one.ok("XTRIM x MAXLEN 0");
        one.ok("XADD x 9-1 f v");
        two.ok("XTRIM x MAXLEN 0");
        two.ok(BACK);
        two.ok("XADD x 5-1 f again");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("XRANGE x - +"), "[[5-1, [f, again]], [9-1, [f, v]]]");
            assert_eq!(pending(client), of_alice());
        }
    }

    /// Found by `./run torture --seed 26092`: the group outlived the stream, and where it did not the last id was 0-0.
    fn a_claim_that_moves_a_group_keeps_the_last_id_too(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 5-1 f v");
        one.ok("XGROUP CREATE x g 0");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("XCLAIM x g alice 0 9-9 LASTID 5-0");
        two.ok("DEL x");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            let info = client.text("XINFO STREAM x");
            assert!(info.contains("last-generated-id, 5-1"), "{info}");
        }
    }

    /// Found by torture: where a consumer, or what became of an entry, was all that was new, an empty stream stayed.
    fn a_stream_that_ended_elsewhere_goes_by_a_full_sync_whatever_was_said_of_its_groups(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for what in ["XGROUP CREATECONSUMER x g c", "XACK x g 5-1", "XGROUP DELCONSUMER x g alice", "XCLAIM x g c 0 5-1"] {
            one.multi(&["XADD x 5-1 f v", "XADD x 6-1 f v", "XGROUP CREATE x g 0"]);
            one.ok("XREADGROUP GROUP g alice COUNT 1 STREAMS x >");
            cluster.converged();
            cluster.cut(1, 2);
            one.ok("DEL x");
            two.ok(what);
            two.ok("SYNCER.RESYNC 1");
            cluster.heal();
            cluster.converged();
            assert_eq!((one.text("EXISTS x"), two.text("EXISTS x")), ("0".to_owned(), "0".to_owned()), "{what}");
        }
    }

    /// Found by torture: nobody looked any more at what who waits is given.
    fn who_waits_while_a_file_is_loaded_is_heard_of(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XGROUP CREATE x g $ MKSTREAM");
        cluster.converged();
        let (mut reader, mut observer) = (cluster.client(1), cluster.client(1));
        reader.block("XREADGROUP GROUP g alice BLOCK 0 STREAMS x >", &mut observer);
        // No command comes before the next look: that is after 10 ms.
        cluster.sites().iter().for_each(|site| site.agent.process().pause());
        one.ok("DEBUG RELOAD");
        let loaded = Instant::now();
        wait::eventually("a look is over", || loaded.elapsed() > Duration::from_millis(50));
        cluster.sites().iter().for_each(|site| site.agent.process().resume());
        two.ok("XADD x 5-1 f v");
        assert_eq!(reply::text(&reader.receive().expect("entries")), "[[x, [[5-1, [f, v]]]]]");
        wait::eventually("the other site hears of the delivery", || pending(&mut two) == of_alice());
        cluster.converged();
    }

    /// Found by torture: what was given behind where the group was when it began to wait was looked for, and its stream had another's place.
    fn who_waits_for_a_stream_that_another_is_copied_over_is_heard_of(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for (key, id) in [("x", "9-1"), ("y", "3-1")] {
            one.ok(&format!("XADD {key} {id} f v"));
            one.ok(&format!("XGROUP CREATE {key} g $"));
        }
        cluster.converged();
        let (mut reader, mut observer) = (cluster.client(1), cluster.client(1));
        reader.block("XREADGROUP GROUP g alice BLOCK 0 STREAMS x >", &mut observer);
        one.ok("COPY y x REPLACE");
        one.ok("XADD x 5-1 f v");
        assert_eq!(reply::text(&reader.receive().expect("entries")), "[[x, [[5-1, [f, v]]]]]");
        wait::eventually("the other site hears of the delivery", || pending(&mut two) == of_alice());
        cluster.converged();
    }

    /// Found by torture: where the first entry was gone, and everyone had its delivery, this came back with the entry.
    fn what_was_pending_of_an_entry_that_was_written_anew_elsewhere_goes_by_a_full_sync(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("XADD x 5-1 f v");
        one.ok("XGROUP CREATE x g 0");
        one.ok("COPY x y");
        one.ok("XREADGROUP GROUP g alice STREAMS x >");
        cluster.converged();
        wait::eventually("all is at rest", || metadata(&mut one) + metadata(&mut two) == 0);
        cluster.cut(1, 2);
        one.ok("COPY y x REPLACE");
        two.ok("XTRIM x MAXLEN 0");
        two.ok("SYNCER.RESYNC 1");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("XRANGE x - +"), "[[5-1, [f, v]]]");
            // Late at most, which is nobody's: handed out twice rather than never.
            assert!(pending(client).values().all(|owner| owner == "syncer:late"), "{:?}", pending(client));
        }
    }
}

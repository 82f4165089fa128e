//! TTLs of single hash fields: they travel with the field, and what sets one ranks below concurrent writes (SEMANTICS.md).

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::figures::figure;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::wait;

/// Servers that have them.
const PAIRS: [[ServerKind; 2]; 4] = [
    [ServerKind::Redis8, ServerKind::Redis8],
    [ServerKind::Valkey9, ServerKind::Valkey9],
    [ServerKind::Redis8, ServerKind::Valkey9],
    [ServerKind::Valkey9, ServerKind::Redis8],
];

const LATER: &str = "4000000000000";
const EVEN_LATER: &str = "4100000000000";

fn expiry(client: &mut Client, key: &str, field: &str) -> String {
    client.text(&format!("HPEXPIRETIME {key} FIELDS 1 {field}"))
}

/// `at_one` and `at_two` while the sites don't hear of each other, the second later; then the field and its expiry at both.
fn conflict(before: &[&str], at_one: &str, at_two: &str) -> impl Fn(&str, &str) {
    let (before, at_one, at_two) =
        (before.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), at_one.to_owned(), at_two.to_owned());
    move |value, time| {
        for kinds in PAIRS {
            let cluster = Cluster::new(&kinds);
            let (mut one, mut two) = (cluster.client(1), cluster.client(2));
            one.ok("HSET h f 1 stays 1");
            before.iter().for_each(|line| drop(one.ok(line)));
            cluster.converged();
            cluster.cut(1, 2);
            one.ok(&at_one);
            two.ok(&at_two);
            cluster.heal();
            cluster.converged();
            for client in [&mut one, &mut two] {
                assert_eq!(client.text("HGET h f"), value, "{at_one} | {at_two} on {kinds:?}");
                assert_eq!(expiry(client, "h", "f"), format!("[{time}]"), "{at_one} | {at_two} on {kinds:?}");
            }
        }
    }
}

/// As of keys (T4), whichever was written later.
#[test]
fn of_two_ttls_set_at_once_the_latest_time_stays_and_none_wins() {
    let [expire, expire_later] = [LATER, EVEN_LATER].map(|at| format!("HPEXPIREAT h {at} FIELDS 1 f"));
    conflict(&[], &expire_later, &expire)("1", EVEN_LATER);
    conflict(&[], &expire, &expire_later)("1", EVEN_LATER);
    let with_ttl = [expire.as_str()];
    conflict(&with_ttl, "HPERSIST h FIELDS 1 f", &expire_later)("1", "-1");
    conflict(&with_ttl, &expire_later, "HGETEX h PERSIST FIELDS 1 f")("1", "-1");
}

/// The time of one, the value of whoever comes: it is no single write that the field shows.
#[test]
fn a_ttl_that_won_outlives_what_is_written_beside_it() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&[kinds[0], kinds[1], kinds[0]]);
        let [mut one, mut two, mut three] = [1, 2, 3].map(|site| cluster.client(site));
        one.ok("HSET h f 1 g x");
        cluster.converged();
        cluster.cut_all();
        one.ok(&format!("HPEXPIREAT h {EVEN_LATER} FIELDS 2 f g"));
        two.ok(&format!("HPEXPIREAT h {LATER} FIELDS 2 f g"));
        three.ok("HINCRBY h f 5");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two, &mut three] {
            assert_eq!((client.text("HGET h f"), expiry(client, "h", "f")), ("6".into(), format!("[{EVEN_LATER}]")));
            assert_eq!((client.text("HGET h g"), expiry(client, "h", "g")), ("x".into(), format!("[{EVEN_LATER}]")));
        }
        two.ok("HINCRBY h f 1");
        three.ok("HSET h g y");
        cluster.converged();
        wait::eventually("all is stable", || figure(&mut one, "metadata_keys") == 0);
        for client in [&mut one, &mut two, &mut three] {
            assert_eq!((client.text("HGET h f"), expiry(client, "h", "f")), ("7".into(), format!("[{EVEN_LATER}]")));
            assert_eq!((client.text("HGET h g"), expiry(client, "h", "g")), ("y".into(), "[-1]".into()));
        }
    }
}

#[test]
fn a_write_of_the_field_wins_over_a_concurrent_ttl() {
    conflict(&[], "HSET h f written", &format!("HPEXPIREAT h {LATER} FIELDS 1 f"))("written", "-1");
    conflict(&[], &format!("HPEXPIREAT h {LATER} FIELDS 1 f"), "HSET h f written")("written", "-1");
    let with_ttl = format!("HSETEX h PXAT {EVEN_LATER} FIELDS 1 f written");
    conflict(&[], &with_ttl, &format!("HPEXPIREAT h {LATER} FIELDS 1 f"))("written", EVEN_LATER);
}

#[test]
fn increments_add_up_beside_a_ttl() {
    conflict(&[], "HINCRBY h f 5", &format!("HPEXPIREAT h {LATER} FIELDS 1 f"))("6", LATER);
    conflict(&[&format!("HPEXPIREAT h {LATER} FIELDS 1 f")], "HINCRBY h f 5", "HINCRBYFLOAT h f 0.5")("6.5", LATER);
    conflict(&[&format!("HPEXPIREAT h {LATER} FIELDS 1 f")], "HINCRBY h f 5", "HPERSIST h FIELDS 1 f")("6", "-1");
}

#[test]
fn a_ttl_counts_as_a_write_against_a_removal() {
    conflict(&[], "HDEL h f", &format!("HPEXPIREAT h {LATER} FIELDS 1 f"))("1", LATER);
    conflict(&[], &format!("HPEXPIREAT h {LATER} FIELDS 1 f"), "HDEL h f")("1", LATER);
}

/// A field that expires at one site, and was given more time at another, stays.
#[test]
fn an_expiry_does_not_take_what_was_extended() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("HSET h f 1 goes 2 stays 3");
        one.ok("HPEXPIRE h 1500 FIELDS 2 f goes");
        cluster.converged();
        cluster.cut(1, 2);
        two.ok(&format!("HPEXPIREAT h {LATER} FIELDS 1 f"));
        wait::eventually("the fields have expired at site 1", || one.text("HKEYS h") == "[stays]");
        wait::eventually("one field has expired at site 2", || one.text("HEXISTS h goes") == "0");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("HGET h f"), "1");
            assert_eq!(client.text("HEXISTS h goes"), "0");
            assert_eq!(expiry(client, "h", "f"), format!("[{LATER}]"));
        }
    }
}

/// Found by torture: servers hide a field whose time has passed before they delete it, so the merge found no value and showed a 0.
#[test]
fn what_comes_for_a_field_that_has_expired_and_is_not_deleted_yet() {
    let extended = format!("HPEXPIREAT h {LATER} FIELDS 1 extended");
    let writes = ["HDEL h removed", "HINCRBY h added 5", "HSET h written new", &extended];
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        two.ok("HSET h removed 7 added 7 written 7 extended 7 stays 1");
        cluster.converged();
        two.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        cluster.cut(1, 2);
        two.ok("HPEXPIRE h 20 FIELDS 4 removed added written extended");
        writes.iter().for_each(|line| drop(one.ok(line)));
        // No look at them: Redis would delete them.
        two.ok("DEBUG SLEEP 0.03");
        cluster.heal();
        cluster.settled();
        two.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        wait::eventually("site 1 shows no more", || one.text("HLEN h") == "3");
        cluster.converged();
        for client in [&mut one, &mut two] {
            let shown = client.text("HMGET h removed added written extended");
            assert_eq!(shown, "[(nil), (nil), new, 7]", "{kinds:?}");
            assert_eq!(expiry(client, "h", "extended"), format!("[{LATER}]"), "{kinds:?}");
        }
    }
}

/// Found by torture: in the millisecond in which a field expires, Redis shows it, and says of its time that there is no such field, if the
/// hash is a small one. It was taken for a field without a time, and stayed.
#[test]
fn what_is_written_in_the_very_millisecond_in_which_a_field_expires() {
    let script = "local shown, at = redis.call('HGET', 'h', 'f'), redis.call('HPEXPIRETIME', 'h', 'FIELDS', 1, 'f')[1]
 if not shown or at ~= -2 then return 0 end
        redis.call('COPY', 'h', 'copy') redis.call('HINCRBYFLOAT', 'h', 'f', '0.5') return 1";
    let cluster = Cluster::new(&[ServerKind::Redis8, ServerKind::Redis8]);
    let (mut one, mut two) = (cluster.client(1), cluster.client(2));
    one.ok("HSET h stays 1");
    wait::eventually("the millisecond is met", || {
        one.ok("HSETEX h PX 3 FIELDS 1 f 7");
        std::iter::repeat_with(|| one.text(&format!("EVAL \"{script}\" 0"))).take(1000).any(|met| met == "1")
    });
    wait::eventually("site 1 shows no more", || {
        one.text("HKEYS h") == "[stays]" && one.text("HKEYS copy") == "[stays]"
    });
    cluster.converged();
    assert_eq!((two.text("HGETALL h"), two.text("HGETALL copy")), ("[stays, 1]".into(), "[stays, 1]".into()));
}

/// Found by torture: `COPY` takes along fields that have expired and are not deleted yet. Nobody knows of them, and what was added to one
/// by another site kept its time, and was deleted with it.
#[test]
fn what_is_added_to_a_field_that_a_copy_has_hidden() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        two.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        two.multi(&["HSET h stays 1", "HSET source stays 1", "HSETEX source PX 20 FIELDS 1 f 7"]);
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("HINCRBY h f 5");
        two.ok("DEBUG SLEEP 0.03");
        two.ok("COPY source h REPLACE");
        cluster.heal();
        cluster.settled();
        two.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        wait::eventually("the source has no more", || two.text("HLEN source") == "1");
        cluster.converged();
        assert_eq!((one.text("HGET h f"), two.text("HGET h f")), ("5".into(), "5".into()), "{kinds:?}");
    }
}

/// Found by torture: a field that came when its time had passed was deleted on the spot, and no effect said so. So to the merge it was still
/// there when its site counted from 0, and where it was hidden at that moment the sum was deleted with it.
#[test]
fn what_is_added_to_a_field_that_came_when_its_time_had_passed() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("HSET h stays 1");
        cluster.converged();
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        cluster.cut(1, 2);
        one.ok("HSETEX h PX 20 FIELDS 1 f 7");
        one.ok("DEBUG SLEEP 0.03");
        cluster.heal();
        cluster.caught_up(1, 2);
        wait::eventually("site 2 hides it", || two.text("HEXISTS h f") == "0");
        assert_eq!(two.text("HINCRBY h f -2"), "-2", "{kinds:?}");
        cluster.settled();
        one.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!((client.text("HGET h f"), expiry(client, "h", "f")), ("-2".into(), "[-1]".into()), "{kinds:?}");
        }
    }
}

/// Found by torture: `COPY` of a hash whose fields have all expired makes an empty one on Valkey, which no expiry deletes.
#[test]
fn a_copy_of_a_hash_whose_fields_have_all_expired_is_none() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        // Else the other site may expire the field first.
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        two.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        two.ok("HSET copy before 1");
        one.ok("HSETEX source PX 20 FIELDS 1 f 7");
        cluster.settled();
        one.ok("DEBUG SLEEP 0.03");
        one.ok("COPY source copy REPLACE");
        one.ok("COPY source copy DB 1");
        one.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        two.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        wait::eventually("the source is gone", || one.text("EXISTS source") == "0");
        cluster.converged();
        assert_eq!((one.text("EXISTS copy"), two.text("EXISTS copy")), ("0".into(), "0".into()), "{kinds:?}");
    }
}

/// Found by torture: a hash whose fields have all expired was captured as none, and was there still: what came from elsewhere got its TTL.
#[test]
fn what_is_written_to_a_hash_that_was_renamed_with_nothing_but_expired_fields() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        // Else the other site may expire the field first.
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        two.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        one.ok("HSET h before 1");
        one.ok("HSETEX source PX 20 FIELDS 1 f 7");
        one.ok(&format!("PEXPIREAT source {LATER}"));
        cluster.settled();
        cluster.cut(1, 2);
        one.ok("DEBUG SLEEP 0.03");
        one.ok("RENAME source h");
        two.ok("HSET h g 1");
        cluster.heal();
        cluster.settled();
        one.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        two.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!((client.text("HGETALL h"), client.text("PTTL h")), ("[g, 1]".into(), "-1".into()), "{kinds:?}");
        }
    }
}

/// Found by torture: what was captured as none stayed at replicas, for no expiry came after it.
#[test]
fn a_hash_with_nothing_but_expired_fields_goes_at_replicas_too() {
    for kind in [ServerKind::Redis8, ServerKind::Valkey9] {
        let primary = Server::start(kind, ServerOptions::instance(1));
        let replica = primary.replica(ServerOptions::instance(1));
        let (mut client, mut there) = (primary.client(), replica.client());
        client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        client.ok("HSETEX source PX 20 FIELDS 1 f 7");
        client.ok(&format!("PEXPIREAT source {LATER}"));
        client.ok("DEBUG SLEEP 0.03");
        client.ok("RENAME source h");
        client.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        wait::eventually("it is gone", || client.text("EXISTS h") == "0");
        client.ok("HINCRBY h g 1");
        wait::eventually("the replica has what came then", || there.text("HGETALL h") == "[g, 1]");
        assert_eq!(there.text("PTTL h"), "-1", "{kind}");
    }
}

/// Expiry names no field: only the expired ones are taken away elsewhere, and what others write at once stays.
#[test]
fn an_expiry_takes_nothing_else() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("HSET h a 1 b 1 c 1");
        one.ok("HSET last f 1");
        one.ok("HPEXPIRE h 1000 FIELDS 1 a");
        one.ok("HPEXPIRE last 1000 FIELDS 1 f");
        cluster.converged();
        cluster.cut(1, 2);
        two.ok("HSET h b two");
        wait::eventually("the field has expired", || one.text("HEXISTS h a") == "0" && one.text("EXISTS last") == "0");
        wait::eventually("there, too", || two.text("HEXISTS h a") == "0" && two.text("EXISTS last") == "0");
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            assert_eq!(client.text("HMGET h a b c"), "[(nil), two, 1]");
        }
        assert!(one.text("INFO syncer").contains("syncer_captured_whole:0"), "{}", one.text("INFO syncer"));
    }
}

#[test]
fn transactions_scripts_and_what_expired_meanwhile() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&kinds);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.multi(&["HSET m f 5", &format!("HPEXPIREAT m {LATER} FIELDS 1 f"), "HINCRBY m f 2"]);
        one.multi(&[&format!("HSETEX n PXAT {LATER} FIELDS 2 f 1 g 2"), "HSET n g 3"]);
        one.ok(&format!(
            "EVAL \"redis.call('HSET', 's', 'f', '1'); redis.call('HPEXPIREAT', 's', '{LATER}', 'FIELDS', '1', 'f')\" 0"
        ));
        one.ok("HSET old f 100");
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        one.ok("HPEXPIRE old 1 FIELDS 1 f");
        wait::eventually("the field is too old", || one.text("HEXISTS old f") == "0");
        one.ok("HINCRBY old f 7");
        one.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        cluster.converged();
        assert_eq!((two.text("HGET m f"), expiry(&mut two, "m", "f")), ("7".into(), format!("[{LATER}]")));
        assert_eq!((expiry(&mut two, "n", "f"), expiry(&mut two, "n", "g")), (format!("[{LATER}]"), "[-1]".into()));
        assert_eq!(expiry(&mut two, "s", "f"), format!("[{LATER}]"));
        assert_eq!(two.text("HGET old f"), "7");
    }
}

/// Valkey 8.1 has none: the field stays there until a site that has them takes it away, and passes on to others unharmed.
#[test]
fn a_server_without_them_keeps_the_field_until_it_is_taken_away() {
    let cluster = Cluster::new(&[ServerKind::Redis8, ServerKind::Valkey8, ServerKind::Valkey9]);
    let (mut one, mut two, mut three) = (cluster.client(1), cluster.client(2), cluster.client(3));
    assert!(two.text("SYNCER.STATUS").contains("unsupported"), "{}", two.text("SYNCER.STATUS"));
    assert!(one.text("SYNCER.STATUS").contains("kept"));
    // By way of site 2 only.
    cluster.cut(1, 3);
    one.ok("HSET h goes 1 stays 1 counts 1");
    one.ok(&format!("HPEXPIREAT h {LATER} FIELDS 2 stays counts"));
    cluster.caught_up(1, 2);
    two.ok("HINCRBY h counts 4");
    cluster.caught_up(1, 3);
    cluster.caught_up(2, 3);
    assert_eq!(expiry(&mut three, "h", "stays"), format!("[{LATER}]"));
    assert_eq!((three.text("HGET h counts"), expiry(&mut three, "h", "counts")), ("5".into(), format!("[{LATER}]")));
    one.ok("HPEXPIRE h 300 FIELDS 1 goes");
    cluster.heal();
    wait::eventually("the field is gone everywhere", || {
        [&mut one, &mut two, &mut three].into_iter().all(|client| client.text("HEXISTS h goes") == "0")
    });
    cluster.settled();
    assert_eq!(two.text("HGET h stays"), "1");
}

/// Found by torture: Valkey says of fields that end at once that they have expired; it was looked only at those that had a time.
#[test]
fn a_time_that_has_passed_removes_a_field_beside_one_that_has_a_time() {
    for kinds in PAIRS {
        let cluster = Cluster::new(&[kinds[0], kinds[1], ServerKind::Valkey8]);
        let mut one = cluster.client(1);
        one.ok("HSET h at 1 get 1 queued 1 run 1 set 1 timed 1 stays 1");
        one.ok(&format!("HPEXPIREAT h {LATER} FIELDS 2 timed stays"));
        cluster.settled();
        one.ok("HPEXPIREAT h 1 FIELDS 1 at");
        one.ok("HGETEX h PXAT 1 FIELDS 1 get");
        one.multi(&["HPEXPIREAT h 1 FIELDS 1 queued"]);
        one.ok("EVAL \"redis.call('HGETEX', 'h', 'PXAT', '1', 'FIELDS', '1', 'run')\" 0");
        one.ok("HSETEX h PXAT 1 FIELDS 2 set 5 new 5");
        one.ok("HPEXPIREAT h 1 FIELDS 1 timed");
        cluster.settled();
        for site in 1..=3 {
            assert_eq!(cluster.client(site).text("HGETALL h"), "[stays, 1]", "site {site}, {kinds:?}");
        }
    }
}

/// Of what is in a file no event tells: a field that has got a TTL since was taken for the only one.
#[test]
fn a_server_without_them_loses_fields_whose_ttls_were_in_a_file_of_another() {
    let mut cluster = Cluster::new(&[ServerKind::Redis8, ServerKind::Valkey8]);
    let mut two = cluster.client(2);
    for reloads in [false, true] {
        // Long enough for this machine.
        let told = [1000, 5000, 25_000].into_iter().any(|milliseconds| {
            let mut one = cluster.client(1);
            one.ok("HSET h goes 1 stays 1");
            one.ok(&format!("HPEXPIRE h {milliseconds} FIELDS 1 goes"));
            cluster.settled();
            if reloads {
                one.ok("DEBUG RELOAD");
            } else {
                one.ok("SAVE");
                cluster.site_mut(1).server.restart();
            }
            let mut one = cluster.client(1);
            one.ok(&format!("HPEXPIREAT h {LATER} FIELDS 1 stays"));
            one.text("HGET h goes") == "1"
        });
        assert!(told, "a file is loaded within 25 seconds");
        wait::eventually("the field is gone", || two.text("HEXISTS h goes") == "0");
        cluster.settled();
        let mut one = cluster.client(1);
        assert_eq!((one.text("HGET h stays"), two.text("HGETALL h")), ("1".into(), "[stays, 1]".into()));
    }
}

/// Of fields out of a file no event tells, so the first that expires has its key captured whole: that takes back what others write to it just then, so
/// it must not go on.
#[test]
fn after_a_restart_a_hash_is_captured_whole_once() {
    for kinds in PAIRS {
        let mut cluster = Cluster::new(&kinds);
        cluster.client(1).ok("HSET h stays 1");
        cluster.settled();
        cluster.client(2).ok("SAVE");
        cluster.site_mut(2).server.restart();
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        // Only site 2 deletes what has expired.
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        let mut whole = Vec::new();
        for (key, left) in [("h", "1"), ("h", "1"), ("h", "1"), ("h", "1"), ("new", "0")] {
            one.ok(&format!("HSETEX {key} PX 50 FIELDS 1 f 7"));
            cluster.settled();
            wait::eventually("it is deleted", || two.text(&format!("HLEN {key}")) == left);
            cluster.settled();
            whole.push(figure(&mut two, "captured_whole"));
        }
        // The first may be captured a moment after it has gone.
        assert_eq!(whole.last(), Some(&1), "{kinds:?}: {whole:?}");
    }
}

/// Every command that gives, takes or reads with a TTL, from both kinds that have them: fields show without one where there are none, and go
/// when they expire elsewhere.
#[test]
fn each_command_is_seen_where_there_are_none() {
    let cluster = Cluster::new(&[ServerKind::Redis8, ServerKind::Valkey8, ServerKind::Valkey9]);
    for (writer, reader) in [(1, 3), (3, 1)] {
        let (mut from, mut without, mut with) = (cluster.client(writer), cluster.client(2), cluster.client(reader));
        let h = format!("h{writer}");
        from.ok(&format!("HSET {h} persisted 1 taken 1 kept 1 gone 1"));
        from.ok(&format!("HPEXPIREAT {h} {LATER} FIELDS 2 persisted kept"));
        cluster.settled();
        from.ok(&format!("HSETEX {h} PXAT {LATER} FIELDS 1 set 5"));
        from.ok(&format!("HPERSIST {h} FIELDS 1 persisted"));
        from.ok(&format!("HGETEX {h} PXAT {EVEN_LATER} FIELDS 1 kept"));
        from.ok(&format!("HGETDEL {h} FIELDS 1 taken"));
        from.ok(&format!("HPEXPIRE {h} 200 FIELDS 1 gone"));
        cluster.settled();
        wait::eventually("the field has gone where there are no TTLs", || {
            without.text(&format!("HEXISTS {h} gone")) == "0"
        });
        assert_eq!(without.text(&format!("HMGET {h} persisted kept set taken")), "[1, 1, 5, (nil)]");
        for (field, at) in [("persisted", "-1"), ("kept", EVEN_LATER), ("set", LATER)] {
            assert_eq!(expiry(&mut with, &h, field), format!("[{at}]"), "{field} written at {writer}");
        }
        // Written where there are none: as an HSET, without.
        without.ok(&format!("HSET {h} kept 2"));
        cluster.settled();
        assert_eq!((with.text(&format!("HGET {h} kept")), expiry(&mut with, &h, "kept")), ("2".into(), "[-1]".into()));
    }
}

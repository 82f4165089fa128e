//! What the module tells of itself is so: `SYNCER.STATUS`, `SYNCER.PEERS`, `SYNCER.KEY`, `INFO syncer`.

use redis::Value;

use syncer_tests::client::Client;
use syncer_tests::figures::figure;
use syncer_tests::reply::{field, integer, items, text, text_items};
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::stream::{Position, Source, psync};
use syncer_tests::{on_all_kinds, on_each_kind, wait};

/// A field of SYNCER.STATUS.
fn status(client: &mut Client, name: &str) -> Value {
    field(&client.ok("SYNCER.STATUS"), name).clone()
}

fn number(map: &Value, name: &str) -> i64 {
    integer(field(map, name))
}

/// How far a clock of SYNCER.STATUS has an instance's reign: milliseconds and counter; zero if it does not name it.
fn reached(clock: &Value, instance: i64) -> (i64, i64) {
    let entry = items(clock).iter().find(|entry| number(entry, "instance") == instance);
    entry.map_or((0, 0), |entry| (number(entry, "time_ms"), number(entry, "counter")))
}

fn now_ms(client: &mut Client) -> i64 {
    let time = client.ok("TIME");
    integer(&items(&time)[0]) * 1000 + integer(&items(&time)[1]) / 1000
}

on_each_kind! {
    fn status_tells_of_past_reigns_and_of_the_backlog(kind) {
        // What a server has answered is in the file then, so it is there again after it was killed.
        let durable = ServerOptions::instance(1).config("appendonly", "yes").config("appendfsync", "always");
        let options = durable.module_arg("backlog-size", "1mb");
        let mut server = Server::start(kind, options.clone());
        // One that reads here, known from the start.
        let reader = Server::start(kind, ServerOptions::instance(2));
        drop(psync(&mut server.client(), &Position::of(&mut reader.client(), 1)));
        let mut client = server.client();
        client.ok("SET k v");
        let (first, end) = ("backlog_first_offset", "backlog_end_offset");
        let [before, written] = [first, end].map(|name| integer(&status(&mut client, name)));
        assert!(before == 0 && written > 0, "{before} to {written}");
        assert_eq!(integer(&status(&mut client, "backlog_size")), 1 << 20);
        // More than it holds: the old end goes, and the figures of INFO are the same.
        let value = "x".repeat(300_000);
        (0..8).for_each(|key| drop(client.ok(&format!("SET {key} {value}"))));
        let [from, to] = [first, end].map(|name| integer(&status(&mut client, name)));
        assert!(to > written + 8 * 300_000 && from >= to - (1 << 20) && from < to, "{from} to {to}");
        assert_eq!(figure(&mut client, "backlog_bytes"), u64::try_from(to - from).expect("a length"));
        let (replid, past) = (text(&status(&mut client, "replid")), text_items(&status(&mut client, "past_replids")));
        assert!(past.is_empty(), "{past:?}");
        server.restart();
        let mut client = server.client();
        let second = text(&status(&mut client, "replid"));
        assert_ne!(second, replid);
        assert_eq!(text_items(&status(&mut client, "past_replids")), [format!("{replid} {to}")]);
        client.ok("SET second reign");
        let end = integer(&status(&mut client, end));
        server.restart();
        let mut client = server.client();
        let past = [format!("{replid} {to}"), format!("{second} {end}")];
        assert_eq!(text_items(&status(&mut client, "past_replids")), past);
        // Whoever has read up to there goes on, whichever reign that was; behind its end another log went on.
        let ask = |replid: &str, offset| {
            let position = Position { replid: replid.to_owned(), offset, ..Position::of(&mut reader.client(), 1) };
            text(&psync(&mut server.client(), &position))
        };
        assert!(ask(&replid, to).starts_with("[CONTINUE, 1, "), "{}", ask(&replid, to));
        assert!(ask(&second, end).starts_with("[CONTINUE, 1, "), "{}", ask(&second, end));
        for (replid, offset) in [(&replid, to + 1), (&second, end + 1), (&"a".repeat(40), to)] {
            assert!(!ask(replid, offset).starts_with("[CONTINUE"), "{replid} {offset}: {}", ask(replid, offset));
        }
        // Of as many as it is to remember the newest.
        let third = text(&status(&mut client, "replid"));
        drop(client);
        server.restart_with(options.module_arg("past-replication-ids", "1"));
        let past = text_items(&status(&mut server.client(), "past_replids"));
        assert!(past.len() == 1 && past[0].starts_with(&third), "{past:?}");
    }

    /// As an agent does it, step by step: only what the source said last can be known here.
    fn peers_tells_how_far_behind_it_is(kind) {
        // One APPLY takes all, however slow the machine is.
        let options = |instance| ServerOptions::instance(instance).module_arg("apply-slice-us", "1000000");
        let [source, target] = [1, 2].map(|instance| Server::start(kind, options(instance)));
        let (mut one, mut two) = (source.client(), target.client());
        let mut stream = Source::handshake(source.client(), 1, &mut target.client());
        let peer = |two: &mut Client| items(&two.ok("SYNCER.PEERS"))[0].clone();
        let write = |n: u32| format!("SET key:{n:04} value");
        one.pipeline(&(0..1000).map(write).collect::<Vec<_>>());
        let (mut applied, mut lags, mut is_behind) = (0, Vec::new(), true);
        while is_behind {
            let chunk = stream.read_up_to(10_000);
            let answer = chunk.apply(&mut two);
            assert_eq!(text(&items(&answer)[0]), "DONE", "{}", text(&answer));
            applied += integer(&items(&answer)[2]);
            let told = peer(&mut two);
            assert_eq!(number(&told, "applied_offset"), chunk.next);
            assert_eq!(number(&told, "end_offset"), chunk.end);
            assert_eq!(number(&told, "applied_groups"), applied);
            assert_eq!(number(&told, "lag_bytes"), chunk.end - chunk.next);
            assert_eq!(text(field(&told, "replid")), chunk.replid);
            is_behind = chunk.next < chunk.end;
            let ms = number(&told, "lag_ms");
            assert!(ms >= 0 && (is_behind || ms == 0), "{ms} ms behind");
            lags.push((number(&told, "lag_effects"), applied));
        }
        assert!(lags.len() > 3 && applied >= 1000, "{} reads, {applied} groups", lags.len());
        // Each group has one effect, but for those that the module writes by itself.
        for (lag, before) in lags {
            let left = applied - before;
            assert!((lag - left).abs() <= 10 + left / 10, "{lag} effects behind, {left} in truth");
        }
        two.ok("SYNCER.PEER 1 STATE down \"no route to host\"");
        let told = peer(&mut two);
        assert_eq!(text(field(&told, "state")), "down");
        assert_eq!(text(field(&told, "last_error")), "no route to host");
    }
}

on_all_kinds! {
    fn status_tells_who_holds_the_stable_clock_back(cluster: 3) {
        let mut one = cluster.client(1);
        one.ok("SET k v");
        cluster.converged();
        let is_stable = |one: &mut Client| {
            let told = one.ok("SYNCER.STATUS");
            items(field(&told, "held_back_by")).is_empty() && field(&told, "stable_clock") == field(&told, "clock")
        };
        wait::eventually("all is stable", || is_stable(&mut one));
        cluster.cut(1, 3);
        cluster.cut(2, 3);
        let before = reached(&status(&mut one, "stable_clock"), 1);
        one.ok("SET k w");
        cluster.caught_up(1, 2);
        let (clock, here) = (status(&mut one, "clock"), now_ms(&mut one));
        let (written, _) = reached(&clock, 1);
        assert!((here - 60_000..=here).contains(&written), "written at {written}, it is {here}");
        let held = wait::within(wait::PATIENCE, || {
            (text(&status(&mut one, "held_back_by")) == "[3]").then_some(())
        });
        assert!(held.is_some(), "site 3 alone is missed: {}", one.text("SYNCER.STATUS"));
        assert_eq!(reached(&status(&mut one, "stable_clock"), 1), before, "site 3 does not have it");
        assert!(before < reached(&clock, 1));
        assert_eq!(text(&status(&mut one, "members")), "[1, 2, 3]");
        cluster.heal();
        wait::eventually("all is stable again", || is_stable(&mut one));
    }

    /// Two writes of a key that did not see each other, and a TTL: known until everybody has them.
    fn key_tells_dots_parked_values_and_ttls(cluster: 3) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        cluster.cut_all();
        let begun = now_ms(&mut one);
        one.ok("SET k earlier");
        two.ok("SET k later PXAT 4000000000000");
        one.ok("HSET h f v");
        two.ok("HINCRBY h n 1");
        let conflicts = figure(&mut one, "conflicts");
        let applied = figure(&mut one, "effects_applied");
        cluster.heal_between(1, 2);
        cluster.caught_up(2, 1);
        cluster.caught_up(1, 2);
        let now = now_ms(&mut one);
        for client in [&mut one, &mut two] {
            let known = client.ok("SYNCER.KEY k");
            assert_eq!((number(&known, "stable"), number(&known, "unknown_payload")), (0, 0));
            let mut dots: Vec<_> = items(field(&known, "dots")).to_vec();
            dots.sort_by_key(|dot| number(dot, "instance"));
            let shown = |name| dots.iter().map(|dot| text(field(dot, name))).collect::<Vec<_>>();
            assert_eq!(shown("instance"), ["1", "2"]);
            assert_eq!(shown("type"), ["string"; 2]);
            assert_eq!(shown("effect"), ["assign"; 2]);
            assert_eq!(shown("parked"), ["1", "0"], "the later one shows");
            assert_eq!(shown("stable"), ["0"; 2]);
            let times: Vec<i64> = dots.iter().map(|dot| number(dot, "time_ms")).collect();
            assert!(times.iter().all(|time| (begun..=now).contains(time)) && times.is_sorted(), "{times:?} from {begun} to {now}");
            let ttls = items(field(&known, "ttls")).to_vec();
            assert_eq!(ttls.iter().map(|ttl| number(ttl, "instance")).max(), Some(2));
            assert!(ttls.iter().any(|ttl| text(ttl).contains("4000000000000")), "{}", text(&known));
            let known = client.ok("SYNCER.KEY h");
            let mut dots: Vec<_> = items(field(&known, "dots")).iter().map(|dot| {
                ["element", "instance", "effect"].map(|name| text(field(dot, name))).join(" ")
            }).collect();
            dots.sort();
            assert_eq!(dots, ["f 1 assign", "n 2 increment"]);
        }
        assert!(figure(&mut one, "conflicts") > conflicts, "a conflict was met");
        assert!(figure(&mut one, "metadata_bytes") > 0 && figure(&mut one, "metadata_keys") == 2);
        assert_eq!(figure(&mut one, "effects_applied"), applied + 2);
        cluster.heal();
        cluster.converged();
        wait::eventually("nothing more needs to be known", || {
            let known = one.ok("SYNCER.KEY k");
            number(&known, "stable") == 1 && items(field(&known, "dots")).is_empty()
        });
        let untouched = one.ok("SYNCER.KEY none");
        assert_eq!((number(&untouched, "stable"), items(field(&untouched, "dots")).len()), (1, 0));
    }

    /// Handshakes that go on, and one whose place has left the backlog.
    fn info_counts_handshakes(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("CONFIG SET syncer.backlog-size 1mb");
        let [ok, err, out] = ["sync_partial_ok", "sync_partial_err", "sync_full_out"].map(|name| figure(&mut one, name));
        assert!(ok >= 1 && err == 0 && out == 0, "{ok} {err} {out}");
        cluster.kill_sessions();
        one.ok("SET k v");
        cluster.caught_up(1, 2);
        let ok_again = figure(&mut one, "sync_partial_ok");
        assert!(ok_again > ok, "{ok_again} after {ok}");
        assert_eq!(figure(&mut one, "sync_partial_err"), 0);
        cluster.cut(1, 2);
        let value = "x".repeat(300_000);
        (0..8).for_each(|key| drop(one.ok(&format!("SET {key} {value}"))));
        cluster.heal();
        cluster.converged();
        assert!(figure(&mut one, "sync_partial_err") >= 1 && figure(&mut one, "sync_full_out") >= 1);
        assert_eq!(figure(&mut cluster.client(2), "sync_full_in"), 1);
    }
}

//! Strings that sites change in part, and HyperLogLogs: what both write stays, and a write costs by what it writes.

use std::time::Duration;

use syncer_tests::bench::cpu;
use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::{on_all_kinds, wait};

fn number(client: &mut Client, command: &str) -> i64 {
    client.text(command).parse().unwrap_or_else(|error| panic!("{command}: {error}"))
}

fn info(cluster: &Cluster, site: u8, field: &str) -> String {
    let text = cluster.client(site).text("INFO syncer");
    let line = text.split("\\x0d\\x0a").find_map(|line| line.strip_prefix(&format!("syncer_{field}:")));
    line.unwrap_or_else(|| panic!("INFO syncer has no {field}: {text}")).to_owned()
}

/// CPU time of both servers while so many bits of a bitmap are set at site 1.
fn cost(cluster: &Cluster, key: &str, bits: usize, last: usize) -> [Duration; 2] {
    let pids = [1, 2].map(|site| cluster.site(site).server.process().pid());
    let before = pids.map(cpu::used);
    // Scattered, and each another.
    let commands: Vec<String> = (0..bits).map(|i| format!("SETBIT {key} {} 1", i * 7919 % last)).collect();
    commands.chunks(500).for_each(|some| drop(cluster.client(1).pipeline(some)));
    cluster.converged();
    let after = pids.map(cpu::used);
    [after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1])]
}

on_all_kinds! {
    /// Found by `./run torture --seed 187`: it came back as a header alone.
    fn a_hyperloglog_that_runs_out_as_it_is_counted_is_gone(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        for round in 0..20 {
            one.ok(&format!("PFADD h{round} a"));
            one.ok(&format!("PEXPIRE h{round} 2"));
            wait::eventually("it is gone", || one.text(&format!("PFCOUNT h{round}")) == "0");
            assert_eq!(one.text(&format!("EXISTS h{round}")), "0");
        }
        cluster.converged();
    }

    /// Found by torture (PFDEBUG TODENSE): registers were raised in place, while whoever was sparse stayed so. Stock servers have
    /// dense ones of 1000 registers and more, which come in with files and RESTORE.
    fn a_dense_hyperloglog_of_few_registers_becomes_what_all_write(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for key in ["later", "known", "touched"] {
            one.ok(&format!("PFADD {key} a b"));
            one.ok(&format!("PFDEBUG TODENSE {key}"));
        }
        one.ok("PFADD apart a");
        cluster.converged();
        assert_eq!(two.text("STRLEN later"), "12304");
        two.ok("PFADD later c");
        two.ok("PFADD touched a");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("PFDEBUG TODENSE apart");
        two.ok("PFADD apart a");
        two.ok("PFADD known c");
        cluster.heal();
        cluster.converged();
        for (key, count) in [("later", "3"), ("known", "3"), ("apart", "1")] {
            assert_eq!(one.text(&format!("PFCOUNT {key}")), count, "{key}");
            assert!(number(&mut two, &format!("STRLEN {key}")) < 100, "{key}");
        }
    }

    /// It fires no event on some servers, but means that bit: the later one wins. Long bitmaps are looked at in part.
    fn a_bit_that_is_set_already_counts_as_set(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        let bits = ["short 9", "long 9", "long 4000001", "long 7999999"];
        bits.iter().for_each(|bit| drop(one.ok(&format!("SETBIT {bit} 1"))));
        cluster.converged();
        cluster.cut(1, 2);
        bits.iter().for_each(|bit| drop(two.ok(&format!("SETBIT {bit} 0"))));
        one.ok("DEBUG SLEEP 0.005");
        bits.iter().for_each(|bit| drop(one.ok(&format!("SETBIT {bit} 1"))));
        cluster.heal();
        cluster.converged();
        for bit in bits {
            assert_eq!([&mut one, &mut two].map(|client| client.text(&format!("GETBIT {bit}"))), ["1", "1"], "{bit}");
        }
    }

    /// Found by `./run torture --seed 131`: registers that both the old value and the new one had went to no other site.
    fn a_hyperloglog_that_has_run_out_begins_anew(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        one.ok("PFADD other a b");
        for round in 0..20 {
            one.ok(&format!("PFADD h{round} a"));
            one.ok(&format!("PEXPIRE h{round} 1"));
            one.ok("DEBUG SLEEP 0.003");
            one.ok(&format!("PFMERGE h{round} other"));
        }
        cluster.converged();
        assert_eq!(number(&mut cluster.client(2), "PFCOUNT h0"), 2);
    }

    /// What a command would be told of a value that has expired, its site's peers are not to build on.
    fn what_has_run_out_begins_anew(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        one.ok("SETBIT bits 30 1");
        let commands = [
            ("SET", "abc", "APPEND KEY x"),
            ("SET", "abc", "SETRANGE KEY 1 y"),
            ("SET", "abc", "SETBIT KEY 30 1"),
            ("SET", "abc", "BITFIELD KEY SET u8 #1 7 INCRBY i4 0 1"),
            ("SET", "abc", "BITOP OR KEY bits bits"),
            ("SET", "abc", "BITOP XOR KEY KEY bits"),
            ("SET", "5", "INCR KEY"),
            ("SET", "5", "INCRBYFLOAT KEY 0.5"),
            ("HSET KEY f 5", "", "HINCRBYFLOAT KEY f 0.5"),
            ("ZADD KEY 5 f", "", "ZINCRBY KEY 0.5 f"),
            ("ZADD KEY 5 f", "", "ZADD KEY GT 3 f"),
            ("RPUSH KEY a b", "", "LINSERT KEY BEFORE b c"),
            ("RPUSH KEY a b", "", "RPUSH KEY c"),
        ];
        for (number, (before, value, command)) in commands.iter().enumerate() {
            for way in ["plain", "multi", "script"] {
                let key = format!("{way}:{number}");
                match *before {
                    "SET" => one.ok(&format!("SET {key} {value}")),
                    before => one.ok(&before.replace("KEY", &key)),
                };
                one.ok(&format!("PEXPIRE {key} 1"));
                one.ok("DEBUG SLEEP 0.003");
                let command = command.replace("KEY", &key);
                match way {
                    "plain" => drop(one.cmd(&command)),
                    "multi" => drop(one.multi(&[&command])),
                    _ => {
                        let words: Vec<String> = command.split(' ').map(|word| format!("'{word}'")).collect();
                        one.cmd(&format!("EVAL \"return redis.call({})\" 1 {key}", words.join(",")));
                    }
                }
            }
        }
        cluster.converged();
    }

    /// Found by `./run torture --seed 132`: what a command changed in several places travelled as the whole string for those that make it look like a HyperLogLog,
    /// and as patches for the others; what was there before them was then taken for that whole string, at its own site only.
    fn what_becomes_a_hyperloglog_travels_as_one(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("PFADD any a b");
        let ways = ["BITOP OR KEY any zeros", "BITFIELD KEY SET u32 0 1213811788 SET u8 32 1 SET u8 40 7"];
        one.ok("SETBIT zeros 63 0");
        for at in 0..ways.len() {
            one.ok(&format!("SET k{at} zzz"));
            one.ok(&format!("SETBIT k{at} 63 0"));
        }
        cluster.converged();
        cluster.cut(1, 2);
        for (at, way) in ways.iter().enumerate() {
            one.ok(&way.replace("KEY", &format!("k{at}")));
            two.ok(&format!("SETRANGE k{at} 1 t"));
        }
        cluster.heal();
        cluster.converged();
        for (at, way) in ways.iter().enumerate() {
            assert_eq!(one.text(&format!("GETRANGE k{at} 0 4")), "HYLL\\x01", "a patch would break it, {way}");
        }
    }

    fn hyperloglogs_merge_by_union(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("PFADD h a b c");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("PFADD h d e");
        two.multi(&["PFADD h f", "PFADD other x y z"]);
        two.cmd("EVAL \"return redis.call('PFMERGE', KEYS[1], KEYS[2])\" 2 h other");
        cluster.heal();
        cluster.converged();
        assert_eq!([number(&mut one, "PFCOUNT h"), number(&mut two, "PFCOUNT h")], [9, 9]);

        // DEL removes what it saw, and no more; an element that was there counts as added again.
        cluster.cut(1, 2);
        one.ok("PFADD h a");
        two.ok("DEL h");
        cluster.heal();
        cluster.converged();
        assert_eq!([number(&mut one, "PFCOUNT h"), number(&mut two, "PFCOUNT h")], [1, 1]);
    }

    /// Torture seed 1882921823633648: servers raise registers of a broken one, which is no HyperLogLog to the merge.
    fn a_broken_hyperloglog_that_is_added_to_travels_whole(cluster: 2) {
        let mut one = cluster.client(1);
        one.ok("PFADD h a b c");
        one.ok("APPEND h zzz2.5");
        for n in 0..20 {
            one.cmd(&format!("PFADD h element{n}"));
        }
        one.multi(&["PFADD h in a transaction", "PFADD valid a b"]);
        one.cmd("EVAL \"return redis.call('PFADD', KEYS[1], 'in', 'a', 'script')\" 1 h");
        cluster.converged();
        assert_eq!(cluster.client(2).text("GET h"), one.text("GET h"));
        assert_eq!(number(&mut cluster.client(2), "PFCOUNT valid"), 2);
    }

    /// Many elements of all lengths: the registers that travel make the bytes that the author's server made.
    fn hyperloglogs_have_the_same_bytes_everywhere(cluster: 2) {
        let mut one = cluster.client(1);
        let elements = |from: usize, to: usize| (from..to).map(|i| format!("PFADD h {}", "e".repeat(i % 40) + &i.to_string()));
        for (from, to) in [(0, 300), (300, 1700), (1700, 6000)] {
            one.pipeline(&elements(from, to).collect::<Vec<_>>());
            cluster.converged();
        }
        assert_eq!(number(&mut one, "STRLEN h"), 12304, "dense by now");
        // Counting is no write.
        let before = info(cluster, 1, "effects_captured");
        let count = number(&mut one, "PFCOUNT h");
        assert!((5700..6300).contains(&count), "{count}");
        assert_eq!(number(&mut cluster.client(2), "PFCOUNT h"), count);
        cluster.converged();
        assert_eq!(info(cluster, 1, "effects_captured"), before);
    }

    /// In every way that commands come, on a long string, at both sites at once.
    fn both_sites_change_parts_of_a_long_string(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("SETRANGE k 99999 z");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("SETRANGE k 10 here");
        one.multi(&["SETBIT k 160 1", "BITFIELD k SET u16 #20 16706", "APPEND k first"]);
        two.cmd("EVAL \"redis.call('SETRANGE', KEYS[1], 50000, 'there'); return redis.call('APPEND', KEYS[1], 'second')\" 1 k");
        two.ok("BITFIELD k INCRBY u8 #30 7 GET u8 0 INCRBY u8 #31 8");
        cluster.heal();
        cluster.converged();
        assert_eq!(two.text("GETRANGE k 10 13"), "here");
        assert_eq!(two.text("GETRANGE k 40 41"), "AB");
        assert_eq!(one.text("GETRANGE k 50000 50004"), "there");
        assert_eq!(number(&mut one, "GETBIT k 160"), 1);
        let tail = one.text("GETRANGE k 99999 -1");
        assert!(tail == "zfirstsecond" || tail == "zsecondfirst", "{tail}");
        assert_eq!(info(cluster, 1, "captured_whole"), "0");
        assert_eq!(info(cluster, 2, "captured_whole"), "0");
    }

    /// In every way that commands come, at both sites: what each changes stays, be it one bit or many bytes. Of two `SET`s one would.
    fn concurrent_bitops_of_one_target_both_stay(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        let load = "FUNCTION LOAD \"#!lua name=bits\\nredis.register_function('bits', function(keys) \
                    return redis.call('BITOP', 'OR', keys[1], keys[2], keys[3]) end)\"";
        let ways = [
            ("plain", "BITOP OR {key} base {other}"),
            ("multi", "BITOP OR {key} base {other}"),
            ("script", "EVAL \"return redis.call('BITOP', 'OR', KEYS[1], KEYS[2], KEYS[3])\" 3 {key} base {other}"),
            ("function", "FCALL bits 3 {key} base {other}"),
        ];
        [&mut one, &mut two].into_iter().for_each(|client| drop(client.ok(load)));
        let bytes = |byte: &str, count| byte.repeat(count);
        one.pipeline(&[format!("SET base \"{}\"", bytes("\\x01", 2500)), "SETBIT bit1 12 1".into(), "SETBIT bit2 16000 1".into()]);
        one.pipeline(&[format!("SET bytes1 \"{}\"", bytes("\\xa0", 2000)), format!("SETRANGE bytes2 2400 \"{}\"", bytes("\\x0a", 99))]);
        for (way, _) in ways {
            one.pipeline(&[format!("COPY base bit:{way}"), format!("COPY base bytes:{way}")]);
        }
        cluster.converged();
        cluster.cut(1, 2);
        for (site, client) in [(1, &mut one), (2, &mut two)] {
            for (way, command) in ways {
                let of = |kind| command.replace("{key}", &format!("{kind}:{way}")).replace("{other}", &format!("{kind}{site}"));
                match way {
                    "multi" => drop(client.multi(&["bit", "bytes"].map(of))),
                    _ => ["bit", "bytes"].map(of).iter().for_each(|line| drop(client.ok(line))),
                }
            }
        }
        cluster.heal();
        cluster.converged();
        for client in [&mut one, &mut two] {
            for (way, _) in ways {
                assert_eq!(client.text(&format!("GETRANGE bit:{way} 0 2")), "\\x01\\x09\\x01", "{way}");
                assert_eq!(client.text(&format!("GETRANGE bit:{way} 2000 2000")), "\\x81", "{way}");
                assert_eq!(client.text(&format!("GETRANGE bytes:{way} 1999 2000")), "\\xa1\\x01", "{way}");
                assert_eq!(client.text(&format!("GETRANGE bytes:{way} 2399 2400")), "\\x01\\x0b", "{way}");
            }
        }
        assert_eq!(info(cluster, 1, "captured_whole"), "0");
    }

    /// Of 12 MB, with one bit that changes: into another key than its sources.
    fn a_bitop_on_a_large_bitmap_sends_what_it_changes(cluster: 2) {
        let mut one = cluster.client(1);
        one.pipeline(&["SETBIT large 100000000 1", "COPY large other", "SETBIT bit 12345678 1"]);
        cluster.converged();
        let end = |cluster: &Cluster| info(cluster, 1, "backlog_end_offset").parse::<u64>().expect("an offset");
        let before = end(cluster);
        assert_eq!(number(&mut one, "BITOP OR large other bit"), 12_500_001);
        one.multi(&["BITOP XOR large other bit"]);
        let sent = end(cluster) - before;
        assert!((1..500).contains(&sent), "{sent} bytes");
        cluster.converged();
        assert_eq!(cluster.client(2).text("BITCOUNT large"), "2");
    }

    /// A bit of a bitmap of 12 MB costs what one of a small bitmap costs.
    fn a_bit_costs_the_same_in_a_large_bitmap(cluster: 2) {
        const BITS: usize = 20_000;
        cluster.client(1).pipeline(&["SETBIT small 40000 1", "SETBIT large 100000000 1"]);
        cluster.converged();
        cost(cluster, "small", BITS / 4, 40_000);
        let small = cost(cluster, "small", BITS, 40_000);
        let large = cost(cluster, "large", BITS, 100_000_000);
        println!("small {small:?}, large {large:?}");
        for (small, large) in small.into_iter().zip(large) {
            // One more comparison of 12 MB by converged() is in it; a copy for each write were 40 seconds.
            assert!(large < small * 3 + Duration::from_millis(300), "small {small:?}, large {large:?}");
        }
    }
}

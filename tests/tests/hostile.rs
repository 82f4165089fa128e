//! Broken, truncated, reordered and replayed input is refused with a clear error and changes nothing (I-10).

use redis::Value;
use syncer_shared::effect::{Effect, Op, Path, TtlNote, Value as Payload};
use syncer_shared::group::{GroupBuilder, GroupView, encode_frame};
use syncer_shared::instance::InstanceId;
use syncer_shared::replid::ReplId;
use syncer_shared::timestamp::Timestamp;

use syncer_tests::client::Client;
use syncer_tests::figures::figure;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::stream::{Chunk, Position, Source};
use syncer_tests::{dataset, reply};

/// Bytes of the frame that are broken one by one; every bit beyond would only take longer.
const BROKEN_BYTES_MAX: usize = 2_000;

/// Two sites without agents, and what site 1 has written so far as read from it.
struct Pair {
    source: Server,
    target: Server,
    stream: Source,
}

impl Pair {
    fn new([one, two]: [ServerKind; 2]) -> Self {
        // One APPLY takes all, however slow the machine is.
        let options = |instance| ServerOptions::instance(instance).module_arg("apply-slice-us", "1000000");
        let [source, target] = [(one, 1), (two, 2)].map(|(kind, instance)| Server::start(kind, options(instance)));
        let stream = Source::handshake(source.client(), 1, &mut target.client());
        Self { source, target, stream }
    }

    /// Writes at the source and reads what it has logged for it.
    fn write(&mut self, lines: &[&str]) -> Chunk {
        self.source.client().pipeline(lines).iter().for_each(|answer| assert!(!reply::is_error(answer)));
        let mut chunk = self.stream.read();
        while chunk.next < chunk.end {
            let more = self.stream.read();
            chunk = Chunk { next: more.next, end: more.end, frames: [chunk.frames, more.frames].concat(), ..chunk };
        }
        chunk
    }
}

/// On every kind, and from Redis to Valkey and back.
fn each_kind(scenario: impl Fn(Pair)) {
    let mixed = [[ServerKind::Redis8, ServerKind::Valkey9], [ServerKind::Valkey9, ServerKind::Redis8]];
    for kinds in ServerKind::ALL.map(|kind| [kind; 2]).into_iter().chain(mixed) {
        scenario(Pair::new(kinds));
    }
}

/// Everything that an APPLY could change.
fn state(client: &mut Client) -> (String, String, String, i64) {
    let position = Position::of(client, 1);
    (dataset::digest(client), client.text("SYNCER.DIGEST"), client.text("SYNCER.CLOCK"), position.offset)
}

fn done(answer: &Value) -> bool {
    reply::items(answer).first().is_some_and(|status| reply::text(status) == "DONE")
}

/// Applies something that must be refused with an error of this code, and must change nothing.
fn refused(client: &mut Client, chunk: &Chunk, codes: &[&str]) {
    let before = state(client);
    let answer = reply::text(&chunk.apply(client));
    assert!(
        codes.iter().any(|code| answer.starts_with(&format!("-{code} "))),
        "expected one of {codes:?}, got {answer}"
    );
    assert_eq!(state(client), before, "{answer}, and something changed");
}

#[test]
fn what_the_source_sent_is_applied_once() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let chunk = pair.write(&["SET k v", "INCR n", "HSET h f v"]);
        assert!(done(&chunk.apply(&mut target)));
        assert_eq!(target.text("MGET k n"), "[v, 1]");
        refused(&mut target, &chunk, &["SYNCERPOSITION"]);
        assert_eq!(dataset::digest(&mut target), dataset::digest(&mut pair.source.client()));
    });
}

/// The same effects under another position: duplicates by dot, not applied again (I-2).
#[test]
fn effects_that_come_twice_count_once() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let chunk = pair.write(&["INCR n", "ZINCRBY z 2 m"]);
        assert!(done(&chunk.apply(&mut target)));
        target.ok(&format!("SYNCER.PEER 1 POSITION {} {}", chunk.replid, chunk.from));
        let before = (dataset::digest(&mut target), target.text("SYNCER.CLOCK"));
        let again = chunk.apply(&mut target);
        assert!(done(&again), "{}", reply::text(&again));
        assert_eq!(reply::text(&reply::items(&again)[2]), "0", "groups applied: {}", reply::text(&again));
        assert_eq!((dataset::digest(&mut target), target.text("SYNCER.CLOCK")), before);
    });
}

#[test]
fn every_broken_byte_is_found() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let value = "v".repeat(200);
        let chunk = pair.write(&[&format!("SET k {value}"), "SADD s a b c", "ZADD z 1.5 m", "EXPIRE k 1000"]);
        let before = state(&mut target);
        for index in 0..chunk.frames.len().min(BROKEN_BYTES_MAX) {
            let mut broken = chunk.clone();
            broken.frames[index] ^= 1 << (index % 8);
            let answer = reply::text(&broken.apply(&mut target));
            let known = ["-SYNCERFRAME ", "-SYNCERGAP ", "-SYNCERDRIFT "].iter().any(|code| answer.starts_with(code));
            assert!(known, "byte {index} broken: {answer}");
        }
        assert_eq!(state(&mut target), before);
        assert!(done(&chunk.apply(&mut target)));
    });
}

#[test]
fn every_truncation_is_found() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let first = pair.write(&["SET first 1"]);
        assert!(done(&first.apply(&mut target)));
        // One group: a stretch that ends between two groups is a valid, shorter one.
        let chunk = pair.write(&["MSET a 1 b 2 c 3"]);
        let before = state(&mut target);
        for length in 1..chunk.frames.len() {
            let cut = Chunk { frames: chunk.frames[..length].to_vec(), ..chunk.clone() };
            let answer = reply::text(&cut.apply(&mut target));
            assert!(answer.starts_with("-SYNCERFRAME "), "cut to {length} of {}: {answer}", chunk.frames.len());
        }
        let longer = Chunk { frames: [chunk.frames.as_slice(), b"\0"].concat(), ..chunk.clone() };
        refused(&mut target, &longer, &["SYNCERFRAME"]);
        assert_eq!(state(&mut target), before);
        assert!(done(&chunk.apply(&mut target)));
    });
}

#[test]
fn what_skips_or_reorders_is_refused() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let first = pair.write(&["SET k 1"]);
        let second = pair.write(&["SET k 2"]);
        let third = pair.write(&["SET k 3"]);
        refused(&mut target, &second, &["SYNCERPOSITION"]);
        // Under the position that the target expects, but a group is missing before it.
        let length = |chunk: &Chunk| chunk.next - chunk.from;
        let skipping = Chunk { from: first.from, next: first.from + length(&second), ..second.clone() };
        refused(&mut target, &skipping, &["SYNCERGAP"]);
        assert!(done(&first.apply(&mut target)));
        let reordered = Chunk {
            frames: [third.frames.as_slice(), second.frames.as_slice()].concat(),
            from: second.from,
            next: third.next,
            ..third.clone()
        };
        refused(&mut target, &reordered, &["SYNCERGAP"]);
        assert!(done(&second.apply(&mut target)));
        assert!(done(&third.apply(&mut target)));
        assert_eq!(target.text("GET k"), "3");
    });
}

#[test]
fn what_belongs_to_another_reign_or_peer_is_refused() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let chunk = pair.write(&["SET k v"]);
        let elsewhere = Chunk { replid: "0123456789abcdef0123456789abcdef01234567".to_owned(), ..chunk.clone() };
        refused(&mut target, &elsewhere, &["SYNCERPOSITION"]);
        let ahead = Chunk { from: chunk.from + 1, ..chunk.clone() };
        refused(&mut target, &ahead, &["SYNCERPOSITION"]);
        let own = Chunk { instance: 2, ..chunk.clone() };
        let answer = reply::text(&own.apply(&mut target));
        assert!(answer.starts_with('-'), "an instance applied from itself: {answer}");
        assert!(done(&chunk.apply(&mut target)));
    });
}

#[test]
fn nonsense_in_every_argument_is_an_error() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let chunk = pair.write(&["SET k v"]);
        let good: Vec<Vec<u8>> = {
            let words =
                format!("SYNCER.APPLY 1 {} {} {} {} {}", chunk.replid, chunk.from, chunk.next, chunk.end, chunk.now_ms);
            words.split(' ').map(|word| word.as_bytes().to_vec()).chain([chunk.frames.clone()]).collect()
        };
        let before = state(&mut target);
        let nonsense: [&[u8]; 6] = [b"", b"-1", b"99999999999999999999", b"\0\xff", b"x", &[0xff; 4096]];
        for position in 1..good.len() {
            for bad in nonsense {
                let mut args = good.clone();
                args[position] = bad.to_vec();
                let answer = target.args(&args);
                // Some numbers only inform, and no frames at all are what a filtered stretch of backlog leaves.
                let may_pass = (4..=6).contains(&position) || (position == 7 && bad.is_empty());
                if !may_pass {
                    assert!(reply::is_error(&answer), "{bad:?} as argument {position}: {}", reply::text(&answer));
                    assert_eq!(state(&mut target), before, "{bad:?} as argument {position}");
                }
            }
        }
        for count in 1..good.len() {
            assert!(reply::is_error(&target.args(&good[..count])), "{count} arguments");
        }
        assert_eq!(target.text("PING"), "PONG");
    });
}

#[test]
fn the_log_is_for_the_replication_stream_only() {
    each_kind(|mut pair| {
        let chunk = pair.write(&["SET k v"]);
        let mut target = pair.target.client();
        let before = state(&mut target);
        for record in [&b""[..], b"x", &chunk.frames] {
            assert!(reply::is_error(&target.args(&[b"SYNCER.LOG", record])));
        }
        target.ok("MULTI");
        target.args(&[b"SYNCER.LOG", chunk.frames.as_slice()]);
        let answer = target.cmd("EXEC");
        assert!(
            reply::is_error(&answer) || reply::items(&answer).iter().all(reply::is_error),
            "{}",
            reply::text(&answer)
        );
        assert_eq!(state(&mut target), before);
    });
}

/// Not into another one, which is what selecting a database that is not there would come to.
#[test]
fn a_database_that_the_target_does_not_have_is_refused() {
    for kind in ServerKind::ALL {
        let source = Server::start(kind, ServerOptions::instance(1).config("databases", "32"));
        let target = Server::start(kind, ServerOptions::instance(2));
        let stream = Source::handshake(source.client(), 1, &mut target.client());
        let mut pair = Pair { source, target, stream };
        let mut client = pair.target.client();
        client.ok("SET k here");
        let chunk = pair.write(&["SELECT 20", "SET k there", "FLUSHDB"]);
        refused(&mut client, &chunk, &["SYNCERDATABASE"]);
        assert_eq!(client.text("GET k"), "here");
    }
}

/// Author and time of the last of these groups.
fn last_group(mut frames: &[u8]) -> (InstanceId, ReplId, Timestamp) {
    let mut last = None;
    while !frames.is_empty() {
        let (group, rest) = GroupView::parse(frames).expect("a group");
        (last, frames) = (Some((group.instance, group.replid, group.ts)), rest);
    }
    last.expect("there is one")
}

/// Else one site whose clock is wrong would decide every conflict of all sites, from then on.
#[test]
fn a_clock_that_is_too_far_ahead_is_refused() {
    each_kind(|mut pair| {
        let mut target = pair.target.client();
        let chunk = pair.write(&["SET k v"]);
        assert!(done(&chunk.apply(&mut target)));
        let (instance, replid, prev) = last_group(&chunk.frames);
        let ahead = |ms: u64| {
            let mut group = GroupBuilder::new();
            let op = Op::Set { value: b"ahead", expire_at: None };
            group.push(&Effect { db: 0, key: b"k", ttl: TtlNote::None, op });
            let (mut frames, ts) = (Vec::new(), Timestamp::from_ms(prev.ms() + ms));
            encode_frame(&mut frames, instance, &replid, prev, ts, &[0], group.body());
            let next = chunk.next + frames.len() as i64;
            Chunk { from: chunk.next, next, end: next, frames, ..chunk.clone() }
        };
        let refusals = figure(&mut target, "drift_refused");
        refused(&mut target, &ahead(3_600_000), &["SYNCERDRIFT"]);
        assert_eq!(figure(&mut target, "drift_refused"), refusals + 1);
        assert_eq!(target.text("GET k"), "v");
        target.ok("CONFIG SET syncer.max-drift-ms 7200000");
        assert!(done(&ahead(3_600_000).apply(&mut target)));
        assert_eq!(target.text("GET k"), "ahead");
    });
}

/// What `DUMP` writes, less its footer: the type, which module's it is if it is a module's, and the value.
fn whole_value(type_byte: u8, id: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[b'D', 11, 0, type_byte], id, rest].concat()
}

/// How values name a module's type: six bits for each character, then the version of its encoding.
fn module_id(name: &str) -> Vec<u8> {
    const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = |character| CHARACTERS.find(character).expect("one of them") as u64;
    let id = name.chars().fold(0, |id, character| id << 6 | bits(character)) << 10;
    [&[0x81], &id.to_be_bytes()[..]].concat()
}

/// No value that is broken is ever read: not from the network, not from the append-only file, where a server would exit over it, and not by
/// clients: what is broken in one of a server's own types could crash it later. (A module's own values are its own business, as with `RESTORE`.)
#[test]
fn whole_values_that_are_broken_cost_nobody_its_life() {
    for kind in ServerKind::ALL {
        let source = Server::start(kind, ServerOptions::instance(1));
        // Else a server may have answered and not written yet, when it ends at once.
        let durable = ServerOptions::instance(2).config("appendonly", "yes").config("appendfsync", "always");
        let mut target = Server::start(kind, durable);
        let mut stream = Source::handshake(source.client(), 1, &mut target.client());
        source.client().ok("SET k v");
        let chunk = stream.read();
        let (instance, replid, mut prev) = last_group(&chunk.frames);
        let mut client = target.client();
        assert!(done(&chunk.apply(&mut client)));
        let mut from = chunk.next;
        let broken = [
            // A hash, a sorted set and a stream that say how long they are, and are not; a type that nobody has.
            ("hash", whole_value(16, &[], &[7, 9, 0, 0, 0, 1, 0, 0xff])),
            ("zset", whole_value(17, &[], &[200, 1, 2, 3])),
            ("stream", whole_value(21, &[], &[1, 1, 1])),
            ("none", whole_value(99, &[], &[1, 1, 1])),
            ("missing", whole_value(7, &module_id("nobodyhas"), &[0])),
        ];
        for (key, payload) in &broken {
            let mut group = GroupBuilder::new();
            let op = Op::Assign { path: Path::Opaque, value: Payload::Payload(payload), reasserted: false };
            group.push(&Effect { db: 0, key: key.as_bytes(), ttl: TtlNote::Created, op });
            let ts = Timestamp::from_bits(prev.bits() + 1);
            let mut frames = Vec::new();
            encode_frame(&mut frames, instance, &replid, prev, ts, &[0], group.body());
            let next = from + frames.len() as i64;
            let chunk = Chunk { from, next, end: next, frames, ..chunk.clone() };
            let answer = chunk.apply(&mut client);
            assert!(done(&answer), "{key}: {}", reply::text(&answer));
            (prev, from) = (ts, next);
        }
        for again in [false, true] {
            if again {
                target.restart();
                client = target.client();
            }
            for (key, _) in &broken {
                assert_eq!(client.text(&format!("TYPE {key}")), "none", "{kind}: {key}, restarted: {again}");
            }
            assert_eq!(figure(&mut client, "payloads_unknown"), broken.len() as u64, "{kind}, restarted: {again}");
        }
    }
}

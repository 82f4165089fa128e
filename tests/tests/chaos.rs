//! `./run chaos` sees what goes wrong, and says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use syncer_shared::effect::{ClearReason, FlushScope, Kind, Op, StreamOp, Value};
use syncer_shared::group::{Frame, effects};
use syncer_tests::chaos::write::{WriteId, is_stock_error};
use syncer_tests::chaos::{ChaosOptions, run};
use syncer_tests::client::Client;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::stream::Source;
use syncer_tests::{on_each_kind, reply, wait};

/// The newest write of a connection is taken back everywhere.
fn lose_one(client: &mut Client) {
    let keys = client.text_items("KEYS log:1:0:*:0");
    let log = keys.first().expect("something was written");
    let last = client.text_items(&format!("SORT {log} DESC LIMIT 0 1"));
    client.ok(&format!("SREM {log} {}", last.first().expect("a log has members")));
}

#[test]
fn a_write_that_is_lost_fails_the_run_and_leaves_evidence() {
    let options = ChaosOptions {
        seed: 1,
        duration: Duration::from_secs(1),
        kinds: ServerKind::mixed(2),
        faults: Vec::new(),
        is_loud: false,
        sabotage: Some(lose_one),
        ..ChaosOptions::default()
    };
    let wrong = run(options).expect_err("a write is lost");
    assert!(wrong.contains("is lost") || wrong.contains("are lost"), "{wrong}");
    let folder = wrong.rsplit_once("states are in ").map(|(_, folder)| Path::new(folder)).expect("it says where");
    let size = |file: &str| fs::metadata(folder.join(file)).map_or(0, |about| about.len());
    for file in [
        "timeline.txt",
        "site-1-agent.log",
        "site-1-node-0.log",
        "site-2-node-1.txt",
        "site-1-verify.txt",
        "site-1-node-0-files/appendonlydir/appendonly.aof.manifest",
    ] {
        assert!(size(file) > 0, "{file} is missing or empty in {}", folder.display());
    }
    let verified = fs::read_to_string(folder.join("site-1-verify.txt")).unwrap_or_default();
    assert!(verified.contains("exit status: 0"), "all sites have lost it: {verified}");
    fs::remove_dir_all(folder).expect("it can be removed");
}

/// Taken back everywhere, each in another kind of value.
fn change_what_is_not_a_name(client: &mut Client) {
    for line in [
        "INCRBYFLOAT float:0 0.25",
        "EXPIRE ttl:0 5",
        "DEL hll:0",
        "LTRIM list:1:0 0 0",
        "XTRIM stream:1:0 MAXLEN 0",
        "DEL pool:0 pool:1 pool:2 pool:3 pool:4 pool:5",
        "LREM insert:0 0 |",
        "LPOP insert:0",
        "XGROUP DELCONSUMER jobs:0 workers c0",
        "XGROUP DELCONSUMER jobs:0 workers c1",
        "XGROUP DELCONSUMER jobs:0 workers c2",
        "XGROUP DELCONSUMER jobs:0 workers syncer:late",
        "SADD mixed:planted 1.0.999.7",
        "SET big:0 short",
    ] {
        client.ok(line);
    }
}

#[test]
fn what_floats_ttls_sketches_capped_values_and_groups_must_be_is_looked_at() {
    let options = ChaosOptions {
        seed: 2,
        duration: Duration::from_secs(3),
        kinds: ServerKind::mixed(2),
        faults: Vec::new(),
        is_loud: false,
        sabotage: Some(change_what_is_not_a_name),
        ..ChaosOptions::default()
    };
    let wrong = run(options).expect_err("much is wrong");
    for told in [
        "float:0 is ",
        "ttl:0 has a TTL of ",
        "hll:0 counts ",
        "list:1:0 has 1 elements",
        "stream:1:0 has 0 elements",
        ", which no write took",
        "insert:0 lacks ",
        "jobs:0 lacks ",
        "mixed:planted of database 0 has 1.0.999.7",
        "big:0 has 5 bytes",
    ] {
        assert!(wrong.contains(told), "{told} is not in: {wrong}");
    }
    let folder = wrong.rsplit_once("states are in ").map(|(_, folder)| Path::new(folder)).expect("it says where");
    fs::remove_dir_all(folder).expect("it can be removed");
}

/// As a client's write is logged. None: no write of a client is, or it would take the history with it.
fn name(op: &Op<'_>) -> Option<&'static str> {
    Some(match op {
        Op::Set { expire_at: None, .. } => "Set",
        Op::Set { expire_at: Some(_), .. } => "Set with a TTL",
        Op::Assign { value, .. } => match value {
            Value::Bytes(_) => "Assign Bytes",
            Value::Present => "Assign Present",
            Value::Score(_) => "Assign Score",
            Value::Id(_) => "Assign Id",
            Value::Owner(_) => "Assign Owner",
            Value::Acked => "Assign Acked",
            Value::Payload(_) => "Assign Payload",
            // Not every server has TTLs of fields; late is what comes from elsewhere.
            Value::Expiring { .. } | Value::Late => return None,
        },
        Op::Increment { .. } => "Increment",
        Op::Patch { .. } => "Patch",
        Op::Remove { .. } => "Remove",
        Op::Stream(StreamOp::Trim { .. }) => "Stream Trim",
        Op::Stream(StreamOp::Ungroup { .. }) => "Stream Ungroup",
        Op::Stream(StreamOp::Deliver { consumer: Some(_), .. }) => "Stream Deliver",
        Op::Stream(StreamOp::Deliver { consumer: None, .. }) => "Stream Deliver NOACK",
        Op::ListInsert { .. } => "ListInsert",
        Op::ListRemove { .. } => "ListRemove",
        Op::Clear { reason: ClearReason::Deleted } => "Clear Deleted",
        Op::Clear { reason: ClearReason::Expired } => "Clear Expired",
        Op::Expire { .. } => "Expire",
        Op::Persist => "Persist",
        Op::Flush { scope: FlushScope::Db(_) } => "Flush Db",
        Op::Publish { .. } => "Publish",
        Op::Reign => "Reign",
        Op::Clear { reason: ClearReason::Evicted }
        | Op::Flush { scope: FlushScope::All }
        | Op::Join { .. }
        | Op::Forget { .. }
        | Op::Again { .. } => return None,
    })
}

/// All of [`name`].
const OPS: [&str; 25] = [
    "Assign Acked",
    "Assign Bytes",
    "Assign Id",
    "Assign Owner",
    "Assign Payload",
    "Assign Present",
    "Assign Score",
    "Clear Deleted",
    "Clear Expired",
    "Expire",
    "Flush Db",
    "Increment",
    "ListInsert",
    "ListRemove",
    "Patch",
    "Persist",
    "Publish",
    "Reign",
    "Remove",
    "Set",
    "Set with a TTL",
    "Stream Deliver",
    "Stream Deliver NOACK",
    "Stream Trim",
    "Stream Ungroup",
];
const KINDS: [Kind; 7] = [Kind::String, Kind::Hash, Kind::Set, Kind::SortedSet, Kind::Opaque, Kind::List, Kind::Stream];

fn kind(op: &Op<'_>) -> Option<Kind> {
    match op {
        Op::Assign { path, .. } | Op::Increment { path, .. } | Op::Remove { path } => Some(path.kind()),
        Op::Set { .. } | Op::Patch { .. } => Some(Kind::String),
        Op::Stream(_) => Some(Kind::Stream),
        Op::ListInsert { .. } | Op::ListRemove { .. } => Some(Kind::List),
        _ => None,
    }
}

on_each_kind! {
    fn writes_have_effects_of_every_kind(on_kind) {
        let options = |id| {
            let options = ServerOptions::instance(id).module_arg("backlog-size", "256mb");
            options.module_arg("functions", "on").module_arg("publish", "all")
        };
        let (one, two) = (Server::start(on_kind, options(1)), Server::start(on_kind, options(2)));
        let mut client = one.client();
        for n in 0..2_000 {
            let id = WriteId { site: 1, writer: 0, epoch: 0, n };
            let commands = id.commands();
            let replies = client.pipeline(&commands).pop().expect("EXEC has a reply");
            assert_eq!(reply::items(&replies).len(), commands.len() - 2, "{id}: {}", reply::text(&replies));
            for (command, error) in commands[1..].iter().zip(reply::items(&replies)).filter(|(_, answer)| reply::is_error(answer)) {
                assert!(is_stock_error(&reply::text(error)), "{command} of {id}: {}", reply::text(error));
            }
        }
        wait::eventually("short TTLs have passed", || client.text("KEYS tmp:*") == "[]");
        let mut source = Source::handshake(one.client(), 1, &mut two.client());
        let (mut ops, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let chunk = source.read();
            let mut rest = chunk.frames.as_slice();
            while !rest.is_empty() {
                let (frame, next) = Frame::parse(rest).expect("what a module logs can be read");
                rest = next;
                let Frame::Group(group) = frame else { continue };
                for effect in effects(group.body) {
                    ops.extend(name(&effect.op));
                    kinds.extend(kind(&effect.op));
                }
            }
            if chunk.frames.is_empty() {
                break;
            }
        }
        let lacking: Vec<_> = OPS.iter().filter(|op| !ops.contains(*op)).collect();
        assert!(lacking.is_empty(), "2,000 writes have no effects {lacking:?}");
        let lacking: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(kind)).collect();
        assert!(lacking.is_empty(), "2,000 writes have no effects of {lacking:?}");
        assert_eq!(ops.len(), OPS.len(), "name one more in OPS: {ops:?}");
    }
}

#[test]
fn a_killed_server_with_another_clock_leaves_nothing_in_memory() {
    let mut server = Server::start(ServerKind::Redis8, ServerOptions::instance(1).clock_off(3));
    let pid = server.process().pid();
    let files = [format!("/dev/shm/faketime_shm_{pid}"), format!("/dev/shm/sem.faketime_sem_{pid}")];
    let there = || files.iter().filter(|file| Path::new(file).exists()).count();
    assert_eq!(there(), files.len(), "libfaketime does not have these any more");
    server.kill();
    assert_eq!(there(), 0);
}

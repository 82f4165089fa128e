//! Files that are not this server's, or not whole: they are refused loudly, the data stays, and nobody else is harmed.

use std::fs;
use std::path::{Path, PathBuf};

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::members::{metadata, status};
use syncer_tests::nodes::{Pair, digests, number, save, until_rewritten};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{on_each_kind, wait};

const APPEND_ONLY: [(&str, &str); 4] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("rdbchecksum", "no"), ("rdbcompression", "no")];

fn write(pair: &Pair, tag: &str) {
    for client in &mut [pair.one.client(), pair.two.client()] {
        for line in [format!("SET {tag} v"), format!("INCRBY {tag}:count 5"), format!("RPUSH {tag}:l a")] {
            client.ok(&line);
        }
    }
}

/// What instance 2 has, when it is sure that instance 1 was refused.
fn is_refused(pair: &Pair, why: &str, before: &str) {
    let tells = || pair.agent_logs().contains(why).then_some(());
    wait::until(wait::PATIENCE, "it is refused", tells, || pair.agent_logs());
    let mut two = pair.two.client();
    two.ok("SET goes on");
    two.ok("DEL goes");
    assert_eq!(two.text("DEBUG DIGEST"), before, "instance 2 has taken something of it");
    assert_eq!(number(&pair.two.nodes[0], "sync_full_in"), 0);
}

/// The file of the append-only folder with this ending.
fn part(server: &Server, ending: &str) -> PathBuf {
    let folder = server.folder().join("appendonlydir");
    let files = fs::read_dir(&folder).expect("it has one").flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{ending} in {}", folder.display());
    found.remove(0)
}

fn rewrite(pair: &Pair) {
    pair.one.client().ok("BGREWRITEAOF");
    until_rewritten(pair.one.primary());
}

/// One bit of the state, within the backlog: it is behind the keys.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("written");
    let at = bytes.len() - 300;
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("writable");
}

/// Two groups of two sites each, with the same numbers.
fn two_groups(kind: ServerKind) -> [Pair; 2] {
    ["ours", "theirs"].map(|tag| {
        let pair = Pair::start(kind, 1, &[]);
        write(&pair, tag);
        pair.agree();
        pair
    })
}

/// Site 1 of `pair` ends, and has the file of the other group's site 1.
fn take_file_of(pair: &mut Pair, other: &Pair) {
    save(other.one.primary());
    pair.stop_agents();
    pair.one.nodes[0].kill();
    let file = |server: &Server| server.folder().join("dump.rdb");
    fs::copy(file(&other.one.nodes[0]), file(&pair.one.nodes[0])).expect("copied");
}

on_each_kind! {
    /// The members have the same numbers, but are others: neither takes anything of the other.
    fn a_file_of_another_group_is_refused_by_the_members(kind) {
        let [mut pair, other] = two_groups(kind);
        let before = pair.two.client().text("DEBUG DIGEST");
        let theirs = other.one.client().text("DEBUG DIGEST");
        take_file_of(&mut pair, &other);
        pair.one.nodes[0].restart();
        assert_eq!(pair.one.client().text("DEBUG DIGEST"), theirs, "its data is kept");
        pair.restart_agents();
        is_refused(&pair, "SYNCERID", &before);
        assert_eq!(pair.one.client().text("DEBUG DIGEST"), theirs, "nothing of instance 2 has come to it");
    }

    /// It says that it is of a group: the members know nobody of that, nor is it a newcomer that they would take in.
    fn a_file_of_another_group_makes_no_new_member(kind) {
        let [mut pair, other] = two_groups(kind);
        // From then on they take in nobody who has data of its own. The elements of the list keep their names.
        for server in [&pair.two.nodes[0], &other.one.nodes[0]] {
            wait::eventually("it has pruned", || metadata(&mut server.client()) <= 1);
        }
        let before = pair.two.client().text("DEBUG DIGEST");
        let theirs = other.one.client().text("DEBUG DIGEST");
        take_file_of(&mut pair, &other);
        pair.one.nodes[0].restart_with(ServerOptions::instance(3));
        let [three, two] = [&pair.one.nodes[0], &pair.two.nodes[0]].map(Server::port);
        let agents = [AgentOptions::beside(three).peer(2, two), AgentOptions::beside(two).peer(3, three)].map(Agent::start);
        let logs = || agents.iter().map(Agent::log).collect::<String>();
        let codes = ["SYNCERMEMBER", "SYNCERID"];
        let is_refused = || agents.iter().all(|agent| codes.iter().any(|code| agent.log().contains(code)));
        wait::until(wait::PATIENCE, "it is refused", || is_refused().then_some(()), logs);
        let members = status(&mut pair.two.nodes[0].client(), "members");
        assert!(!members.contains('3'), "{members}");
        let digests = [&pair.two.nodes[0], &pair.one.nodes[0]].map(|node| node.client().text("DEBUG DIGEST"));
        assert_eq!(digests, [before, theirs], "both keep what they have");
    }

    /// Its own replica takes the data from it, and knows as little of its history.
    fn a_damaged_head_of_an_append_only_file_is_refused_and_the_data_kept(kind) {
        let mut pair = Pair::start(kind, 2, &APPEND_ONLY);
        write(&pair, "first");
        pair.agree();
        rewrite(&pair);
        write(&pair, "second");
        pair.agree();
        let before = pair.two.client().text("DEBUG DIGEST");
        pair.stop_agents();
        pair.one.nodes[0].kill();
        damage(&part(&pair.one.nodes[0], ".base.rdb"));
        pair.one.nodes[0].restart();
        for said in ["Active-Active state in this file is refused: ", "records come that belong to no state here", "that no backlog has"] {
            let log = || pair.one.nodes[0].log();
            wait::until(wait::PATIENCE, said, || log().contains(said).then_some(()), log);
        }
        let mut one = pair.one.nodes[0].client();
        // What came from instance 2 since the rewrite stands behind the head in records, which belong to no state now.
        assert_eq!(one.text("MGET first first:count second:count"), "[v, 10, 5]");
        pair.one.nodes[1].follows();
        let mut replica = pair.one.nodes[1].client();
        wait::eventually("its replica has what it has", || {
            ["DEBUG DIGEST", "SYNCER.DIGEST"].iter().all(|line| replica.text(line) == one.text(line))
        });
        assert!(!pair.one.nodes[1].log().contains("Active-Active state in this file is refused"), "what it was sent is whole");
        pair.restart_agents();
        is_refused(&pair, "SYNCERID", &before);
    }

    /// The server itself refuses to start, and has changed nothing: with the manifest whole again it goes on where it was.
    fn a_cut_manifest_loses_nothing(kind) {
        let mut pair = Pair::start(kind, 1, &APPEND_ONLY);
        write(&pair, "first");
        pair.agree();
        pair.stop_agents();
        pair.one.nodes[0].kill();
        let manifest = part(&pair.one.nodes[0], ".manifest");
        let whole = fs::read(&manifest).expect("written");
        fs::write(&manifest, &whole[..whole.len() - 3]).expect("writable");
        let refused = pair.one.nodes[0].try_restart().expect_err("a cut line is none");
        assert!(refused.contains("manifest"), "{refused}");
        fs::write(&manifest, whole).expect("writable");
        pair.one.nodes[0].restart();
        pair.restart_agents();
        write(&pair, "second");
        pair.agree();
    }
}

/// Files without the state of Syncer, which a stock server wrote alone: an RDB file, an append-only file, and one with all of it in its head. Later the file has both.
#[test]
fn a_stock_file_is_data_that_nobody_logged() {
    let file = [("appendonly", "yes"), ("appendfsync", "always")];
    let ways = [(&[][..], "SAVE"), (&file, "PING"), (&file, "BGREWRITEAOF")];
    for (kind, (config, last)) in ServerKind::ALL.into_iter().flat_map(|kind| ways.map(|way| (kind, way))) {
        let with = |options: ServerOptions| config.iter().fold(options, |all, (name, value)| all.config(name, value));
        let mut server = Server::start(kind, with(ServerOptions::stock()));
        ["MSET k v n 5", "RPUSH l a b", last].iter().for_each(|line| drop(server.client().ok(line)));
        until_rewritten(&server);
        server.restart_with(with(ServerOptions::instance(1)));
        assert_eq!(server.client().text("LRANGE l 0 -1"), "[a, b]");
        wait::eventually("it says so", || server.log().contains("with 3 keys that no backlog has"));
        ["INCR n", "LPOP l", last].iter().for_each(|line| drop(server.client().ok(line)));
        let before = digests(&server);
        server.restart();
        assert_eq!((server.client().text("MGET k n"), digests(&server)), ("[v, 6]".into(), before), "{kind}, {last}");
        wait::eventually("it goes on", || server.log().contains("as a primary, after "));
    }
}

//! Who leaves the group, and what the others then do with it (MERGE_RULES M1 to M7).

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::members::{join, metadata, status};
use syncer_tests::nodes::number;
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{artifact, dataset, members, on_all_kinds, on_each_kind, wait};

/// The members as an instance sees them.
fn group(client: &mut Client) -> String {
    status(client, "members")
}

on_all_kinds! {
    /// Site 3 lives on after it was forgotten: it is told, refuses writes with the reason, keeps its data, and nothing of it comes in any more.
    fn a_forgotten_site_is_told_and_refuses_writes(cluster: 3) {
        cluster.client(3).ok("SET before 3");
        cluster.converged();
        assert_eq!(cluster.client(1).text("SYNCER.FORGET 3"), "OK");
        let (mut one, mut two, mut three) = (cluster.client(1), cluster.client(2), cluster.client(3));
        wait::eventually("the others agree", || group(&mut two) == "[1, 2]" && group(&mut one) == "[1, 2]");
        wait::eventually("site 3 refuses writes", || three.text("SET late 3").starts_with("-SYNCERFORGOTTEN instance 3 "));
        let log = cluster.site(3).server.log();
        assert_eq!(log.matches("clients' writes are refused here: SYNCERFORGOTTEN instance 3").count(), 1, "{log}");
        for command in ["INCR n", "SADD s a", "LPUSH l a", "DEL before", "FLUSHALL", "EVAL return(redis.call('SET','x','y')) 0"] {
            assert!(three.text(command).contains("SYNCERFORGOTTEN "), "{command}: {}", three.text(command));
        }
        assert_eq!(three.text("GET before"), "3", "it keeps its data, and reads go on");
        three.ok("MULTI");
        assert_eq!(three.text("SET in multi"), "QUEUED");
        assert!(three.text("EXEC").contains("SYNCERFORGOTTEN "));
        assert!(one.text("SYNCER.FORGET 3").contains("is no member"));
        assert!(three.text("SYNCER.FORGET 1").starts_with("-SYNCERFORGOTTEN "), "it has no say any more");
        one.ok("SET after 1");
        wait::eventually("the others go on", || two.text("GET after") == "1");
        assert_eq!(three.text("GET after"), "(nil)");
    }

    /// A refusal is no way around a password or an ACL, and who may write learns the reason without further rights.
    fn a_refusal_keeps_access_control(cluster: 2) {
        let mut admin = cluster.client(1);
        admin.ok("ACL SETUSER app on >pw ~app:* +set +multi +exec");
        admin.ok("ACL SETUSER boss on >pw ~* &* +@all");
        assert_eq!(cluster.client(2).text("SYNCER.FORGET 1"), "OK");
        wait::eventually("site 1 refuses writes", || admin.text("SET early v").starts_with("-SYNCERFORGOTTEN "));
        admin.ok("AUTH boss pw");
        admin.ok("CONFIG SET requirepass pw");
        let mut stranger = cluster.client(1);
        for line in ["SET k v", "SYNCER.REFUSED SET k v", "SYNCER.REFUSED.AS SET k v", "MULTI"] {
            assert!(stranger.text(line).starts_with("-NOAUTH"), "{line}: {}", stranger.text(line));
        }
        let mut app = cluster.client(1);
        app.ok("AUTH app pw");
        for (line, answer) in [("SET app:k v", "-SYNCERFORGOTTEN "), ("SET k v", "-NOPERM"), ("DEL app:k", "-NOPERM")] {
            assert!(app.text(line).starts_with(answer), "{line}: {}", app.text(line));
        }
        // Of the default user nobody can tell whether it has authenticated: it needs the right to be told.
        admin.ok("ACL SETUSER default nopass -@all +set");
        let mut restricted = cluster.client(1);
        assert!(restricted.text("SET k v").starts_with("-NOPERM"), "{}", restricted.text("SET k v"));
        admin.ok("ACL SETUSER default +syncer.refused");
        assert!(restricted.text("SET k v").starts_with("-SYNCERFORGOTTEN "));
        assert_eq!(admin.text("EXISTS k app:k"), "0");
    }

    /// A dead site holds back the stable clock; once it is forgotten, metadata goes again, and what it had sent to one stays.
    fn a_dead_site_holds_nothing_back_once_it_is_forgotten(cluster: 3) {
        cluster.converged();
        cluster.site_mut(3).agent.kill();
        cluster.site_mut(3).server.kill();
        cluster.client(1).ok("SET k v");
        cluster.caught_up(1, 2);
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        assert!(metadata(&mut one) > 0, "site 3 may not have it");
        assert_eq!(one.text("SYNCER.FORGET 3"), "OK");
        wait::eventually("metadata is gone", || metadata(&mut one) == 0 && metadata(&mut two) == 0);
        let settled = |client: &mut Client| status(client, "forgotten").contains("settled, 1");
        wait::eventually("it is settled", || settled(&mut one) && settled(&mut two));
    }

    /// Two of three are gone at once.
    fn a_group_of_one_is_left(cluster: 3) {
        cluster.client(2).ok("SET k 2");
        cluster.converged();
        for site in [2, 3] {
            cluster.site_mut(site).agent.kill();
            cluster.site_mut(site).server.kill();
            assert_eq!(cluster.client(1).text(&format!("SYNCER.FORGET {site}")), "OK");
        }
        let mut one = cluster.client(1);
        assert_eq!(group(&mut one), "[1]");
        one.ok("SET k 1");
        assert_eq!(one.text("GET k"), "1");
        assert!(one.text("SYNCER.FORGET 1").contains("this server's own"));
    }
}

/// M14: two sites forget each other while they cannot talk. Those who have heard of both take both for out; M15: who is out is told so by whoever
/// has applied it, and nothing flows.
#[test]
fn sites_that_forget_each_other_are_both_out() {
    let cluster = Cluster::new(&ServerKind::mixed(4));
    cluster.client(1).ok("SET before 1");
    cluster.converged();
    cluster.cut_all();
    assert_eq!(cluster.client(1).text("SYNCER.FORGET 2"), "OK");
    assert_eq!(cluster.client(2).text("SYNCER.FORGET 1"), "OK");
    let [mut one, mut two, mut three, mut four] = [1, 2, 3, 4].map(|site| cluster.client(site));
    // Each has one of the others on its side.
    cluster.heal_between(1, 3);
    cluster.heal_between(2, 4);
    wait::eventually("site 3 is told", || group(&mut three) == "[1, 3, 4]");
    wait::eventually("site 4 is told", || group(&mut four) == "[2, 3, 4]");
    cluster.cut_all();
    one.ok("SET from1 1");
    two.ok("SET from2 2");
    cluster.heal_between(3, 4);
    wait::eventually("the others agree", || group(&mut three) == "[3, 4]" && group(&mut four) == "[3, 4]");
    cluster.heal();
    for (client, site) in [(&mut one, 1), (&mut two, 2)] {
        let refused = format!("-SYNCERFORGOTTEN instance {site} was forgotten by ");
        wait::eventually("who is out takes no writes", || client.text("SET late v").starts_with(&refused));
        let told = format!("SYNCERFORGOTTEN instance {site} ");
        wait::eventually("its agent says why it reads nothing", || client.text("SYNCER.PEERS").contains(&told));
        assert_eq!(client.text("GET before"), "1", "it keeps what it has");
    }
    assert_eq!([one.text("GET from2"), two.text("GET from1")], ["(nil)", "(nil)"]);
    assert_eq!(three.text("MGET from1 from2 before"), "[(nil), (nil), 1]");
    three.ok("SET k 3");
    wait::eventually("the others go on", || four.text("GET k") == "3");
    // Both join again, with what nobody else had.
    for site in [1, 2] {
        let (done, said) = join(cluster.site(site).agent.options(), &[]);
        assert!(done, "{said}");
        wait::eventually("it is in", || status(&mut cluster.client(site), "writes") == "taken");
    }
    cluster.converged();
    assert_eq!(one.text("MGET from1 from2 k"), "[1, 2, 3]");
}

/// A new site beside a running cluster: its server, and the flags for its agent.
fn newcomer(cluster: &Cluster, instance: u8) -> (Server, AgentOptions) {
    let peers = [1, 2].map(|site| (site, cluster.site(site).server.port()));
    members::newcomer(cluster.site(1).server.kind(), instance, &peers)
}

/// The agents of sites 1 and 2 for their new peer.
fn back_agents(cluster: &Cluster, instance: u8, port: u16) -> Vec<Agent> {
    let agent = |site| Agent::start(AgentOptions::beside(cluster.site(site).server.port()).peer(instance, port));
    [1, 2].map(agent).into()
}

on_all_kinds! {
    /// One command at the new site: it serves reads, takes no writes until it is in, then all converge.
    fn a_site_joins_with_one_command_while_others_write(cluster: 2) {
        cluster.client(1).ok("SET k 1");
        cluster.converged();
        wait::eventually("metadata is gone", || metadata(&mut cluster.client(1)) == 0);
        let (server, flags) = newcomer(cluster, 3);
        let (done, said) = join(&flags, &[]);
        assert!(done, "{said}");
        let mut three = server.client();
        assert!(three.text("SET k 3").starts_with("-SYNCERJOINING "), "{}", three.text("SET k 3"));
        assert_eq!(three.text("GET k"), "(nil)", "reads are served");
        let _agent = Agent::start(flags);
        let _others = back_agents(cluster, 3, server.port());
        cluster.client(2).ok("SET l 2");
        wait::eventually("it takes writes", || status(&mut three, "writes") == "taken");
        wait::eventually("it has all", || three.text("MGET k l") == "[1, 2]");
        three.ok("SET m 3");
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        wait::eventually("the others have it", || one.text("GET m") == "3" && two.text("GET m") == "3");
    }

    /// A site with data says first what becomes of it.
    fn data_of_a_joining_site_is_refused_or_merged(cluster: 2) {
        cluster.client(1).ok("HSET h a 1");
        cluster.converged();
        wait::eventually("metadata is gone", || metadata(&mut cluster.client(1)) == 0);
        let (server, flags) = newcomer(cluster, 3);
        let mut three = server.client();
        three.ok("HSET h b 3");
        three.ok("SET own 3 EX 1000");
        let (done, said) = join(&flags, &[]);
        assert!(!done && said.contains("SYNCERDATA "), "{said}");
        assert_eq!(three.text("GET own"), "3", "nothing has changed");
        let (done, said) = join(&flags, &["--data", "merge"]);
        assert!(done, "{said}");
        let _agent = Agent::start(flags);
        let _others = back_agents(cluster, 3, server.port());
        wait::eventually("it is in", || status(&mut three, "writes") == "taken");
        let mut one = cluster.client(1);
        wait::eventually("its data is there", || one.text("HGET h b") == "3" && one.text("GET own") == "3");
        assert_eq!(one.text("HGET h a"), "1");
        assert!(one.text("TTL own").parse::<i64>().is_ok_and(|ttl| ttl > 900));
    }

    /// Forgotten, written to by clients, back: refused until it joins again, then what nobody had of it is written again.
    fn a_forgotten_site_joins_again(cluster: 3) {
        cluster.client(3).ok("INCRBY n 1");
        cluster.converged();
        cluster.cut(1, 3);
        cluster.cut(2, 3);
        cluster.client(3).ok("INCRBY n 5");
        cluster.client(3).ok("SET tail 3");
        assert_eq!(cluster.client(1).text("SYNCER.FORGET 3"), "OK");
        wait::eventually("it is settled", || status(&mut cluster.client(1), "forgotten").contains("settled, 1"));
        cluster.client(1).ok("INCRBY n 10");
        cluster.heal();
        let mut three = cluster.client(3);
        wait::eventually("it is told", || three.text("SET x y").starts_with("-SYNCERFORGOTTEN "));
        let (done, said) = join(cluster.site(3).agent.options(), &[]);
        assert!(done, "{said}");
        wait::eventually("it is in", || status(&mut three, "writes") == "taken");
        cluster.converged();
        assert_eq!(cluster.client(1).text("MGET n tail"), "[16, 3]");
    }
}

on_each_kind! {
    /// A stock database becomes the first instance in place, at run time; the module cannot be taken out again of a running server.
    fn a_stock_database_becomes_the_first_instance(kind) {
        let stock = ServerOptions::stock().config("enable-module-command", "yes");
        let first = Server::start(kind, stock);
        let mut one = first.client();
        one.ok("SET k v");
        one.ok("RPUSH l a b");
        one.ok("RPUSH queue a b c d e");
        let module = artifact::module();
        one.ok(&format!("MODULE LOAD {} instance-id 1", module.display()));
        assert_eq!(status(&mut one, "members"), "[1]");
        assert_eq!(one.text("GET k"), "v");
        one.ok("SET group of-one");
        let (_second, mut two, mut agents) = joined_by_a_second(kind, &first);
        assert_eq!(two.text("MGET k group"), "[v, of-one]");
        assert_eq!(two.text("LRANGE l 0 -1"), "[a, b]");
        assert_eq!(two.text("LLEN queue"), "5");
        // Elements that nobody has ids of (L10), at both sites at once: what both take is taken once, what one changes stays in its place.
        agents.iter_mut().for_each(Agent::kill);
        assert_eq!([one.text("LPOP queue"), two.text("LPOP queue")], ["a", "a"], "both get the same element");
        assert_eq!([one.text("LPOP queue"), two.text("RPOP queue")], ["b", "e"]);
        one.ok("LINSERT queue AFTER c x");
        two.ok("LSET queue 1 C");
        two.ok("RPUSH queue f");
        agents.iter_mut().for_each(Agent::restart);
        for client in [&mut one, &mut two] {
            wait::eventually("each is gone once", || client.text("LRANGE queue 0 -1") == "[C, x, d, f]");
        }
        two.ok("SET k w");
        wait::eventually("the first has it", || one.text("GET k") == "w");
        let unload = one.text("MODULE UNLOAD syncer");
        assert!(unload.starts_with("-ERR"), "{unload}");
        assert_eq!(one.text("GET k"), "w", "a refused unload changes nothing");
    }

    /// The same with an append-only file, which then has both: what the stock server wrote, and what the instance did. It restarts from that file.
    fn a_stock_database_with_a_file_becomes_the_first_instance(kind) {
        let file = |options: ServerOptions| options.config("appendonly", "yes").config("appendfsync", "always");
        let mut first = Server::start(kind, file(ServerOptions::stock()));
        let mut one = first.client();
        for line in ["SET k v", "HSET h f v g w", "RPUSH queue a b c", "INCRBY n 5"] {
            one.ok(line);
        }
        one.ok(&format!("MODULE LOAD {} instance-id 1", artifact::module().display()));
        for line in ["SET k w", "HDEL h g", "RPUSH queue d", "LPOP queue", "INCRBY n 5", "SET own 1 EX 1000"] {
            one.ok(line);
        }
        let had = dataset::digest(&mut one);
        first.kill();
        first.restart_with(file(ServerOptions::instance(1)));
        let mut one = first.client();
        assert_eq!(dataset::digest(&mut one), had);
        let (second, mut two, _agents) = joined_by_a_second(kind, &first);
        assert_eq!(two.text("MGET k n own"), "[w, 10, 1]");
        assert_eq!(two.text("LRANGE queue 0 -1"), "[b, c, d]");
        assert_eq!(two.text("HGETALL h"), "[f, v]");
        two.ok("INCRBY n 1");
        wait::eventually("the first has it", || one.text("GET n") == "11");
        wait::eventually("both are equal", || dataset::digest(&mut one) == dataset::digest(&mut two));
        // Also from the same file, once it has more.
        first.restart();
        one = first.client();
        one.ok("INCRBY n 1");
        wait::eventually("the second has it", || two.text("GET n") == "12");
        assert_eq!(number(&second, "sync_full_in"), 1, "the join is all there was");
    }

    /// With a replica, which has the module first: then it understands what its primary sends. It is promoted.
    fn a_stock_database_with_a_replica_becomes_the_first_instance(kind) {
        let first = Server::start(kind, ServerOptions::stock());
        let replica = first.replica(ServerOptions::stock());
        first.client().ok("MSET k v n 5");
        for server in [&replica, &first] {
            server.client().ok(&format!("MODULE LOAD {} instance-id 1", artifact::module().display()));
        }
        first.client().ok("INCRBY n 5");
        let url = format!("redis://127.0.0.1:{},127.0.0.1:{}", first.port(), replica.port());
        let (_second, mut two, _agents) = joined_by_a_second_at(kind, &url);
        for line in ["INCRBY n 5", "RPUSH l a b", "SET ttl v EX 1000"] {
            first.client().ok(line);
        }
        wait::eventually("the second has it", || two.text("MGET k n ttl") == "[v, 15, v]");
        let same = || {
            let mut digests = [&first, &replica].map(|server| ["DEBUG DIGEST", "SYNCER.DIGEST"].map(|line| server.client().text(line))).to_vec();
            digests.push(["DEBUG DIGEST", "SYNCER.DIGEST"].map(|line| two.text(line)));
            digests.windows(2).all(|pair| pair[0] == pair[1])
        };
        wait::eventually("all are equal", same);
        replica.client().ok("REPLICAOF NO ONE");
        first.client().ok(&format!("REPLICAOF 127.0.0.1 {}", replica.port()));
        two.ok("INCRBY n 1");
        wait::eventually("the new primary has it", || replica.client().text("GET n") == "16");
        replica.client().ok("INCRBY n 1");
        wait::eventually("the second has it", || two.text("GET n") == "17");
        assert_eq!([&first, &replica].map(|server| number(server, "sync_full_in")), [0, 0]);
    }
}

/// A second site joins: its server, a client of it, and both agents.
fn joined_by_a_second(kind: ServerKind, first: &Server) -> (Server, Client, [Agent; 2]) {
    joined_by_a_second_at(kind, &format!("redis://127.0.0.1:{}", first.port()))
}

fn joined_by_a_second_at(kind: ServerKind, first: &str) -> (Server, Client, [Agent; 2]) {
    let second = Server::start(kind, ServerOptions::instance(2));
    let flags = AgentOptions::beside(second.port()).peer_url(1, first.to_owned());
    let (done, said) = join(&flags, &[]);
    assert!(done, "{said}");
    let agents = [Agent::start(flags), Agent::start(AgentOptions::at(first.to_owned()).peer(2, second.port()))];
    let mut two = second.client();
    members::takes_writes(&mut two);
    (second, two, agents)
}

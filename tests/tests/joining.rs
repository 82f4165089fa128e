//! Sites that come, sponsors that go, and sites that leave (DESIGN 5, MERGE_RULES M8 to M12).

use std::fs;
use std::path::PathBuf;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::client::Client;
use syncer_tests::cluster::{Cluster, ClusterOptions};
use syncer_tests::load::under_load;
use syncer_tests::members::{forget, join, metadata, newcomer, status, takes_writes};
use syncer_tests::nodes::until_rewritten;
use syncer_tests::server::{Server, ServerOptions};
use syncer_tests::{dataset, on_all_kinds, on_each_kind, wait};

fn port(cluster: &Cluster, site: u8) -> u16 {
    cluster.site(site).server.port()
}

/// Waits until all metadata at a site is gone: so that what a newcomer brings is not just concurrent to everything.
fn at_rest(cluster: &Cluster) {
    cluster.converged();
    wait::eventually("metadata is gone", || metadata(&mut cluster.client(1)) == 0);
}

/// Waits until several servers hold the same.
fn equal(clients: &mut [&mut Client]) {
    let mut digests = Vec::new();
    let done = wait::within(wait::PATIENCE, || {
        digests = clients.iter_mut().map(|client| client.text("SYNCER.DIGEST")).collect();
        digests.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
    });
    assert!(done.is_some(), "they differ: {digests:#?}");
}

on_all_kinds! {
    /// Two sites join by different sponsors at the same time, while both sponsors' clients write.
    fn two_sites_join_at_once(cluster: 2) {
        cluster.client(1).ok("SET before 1");
        at_rest(cluster);
        let kinds = [1, 2].map(|site| cluster.site(site).server.kind());
        let ports = [port(cluster, 1), port(cluster, 2)];
        let (third, three) = newcomer(kinds[0], 3, &[(1, ports[0]), (2, ports[1])]);
        let (fourth, four) = newcomer(kinds[1], 4, &[(2, ports[1]), (1, ports[0])]);
        let (three, four) = (three.peer(4, fourth.port()), four.peer(3, third.port()));
        let beside = |site: u8| AgentOptions::beside(ports[usize::from(site) - 1]).peer(3, third.port()).peer(4, fourth.port());
        let _agents = under_load(cluster, |_, load| {
            load.advance(20);
            let said = std::thread::scope(|scope| {
                [&three, &four].map(|flags| scope.spawn(|| join(flags, &[]))).map(|thread| thread.join().expect("no panic"))
            });
            said.iter().for_each(|(done, said)| assert!(done, "{said}"));
            let agents = [three.clone(), four.clone(), beside(1), beside(2)].map(Agent::start);
            [&third, &fourth].iter().for_each(|server| takes_writes(&mut server.client()));
            load.advance(20);
            agents
        });
        let mut clients = [cluster.client(1), cluster.client(2), third.client(), fourth.client()];
        for (site, client) in (1..).zip(&mut clients) {
            wait::eventually("all are members", || status(client, "members") == "[1, 2, 3, 4]");
            client.ok(&format!("SADD here {site}"));
            client.ok("INCR count");
        }
        for client in &mut clients {
            wait::eventually("all have it", || client.text("SCARD here") == "4" && client.text("GET count") == "4");
        }
        equal(&mut clients.iter_mut().collect::<Vec<_>>());
    }

    /// While a site joins its clients read, and every way to write is refused with the reason.
    fn a_joining_site_refuses_writes_in_every_way(cluster: 2) {
        cluster.client(1).ok("SET k 1");
        at_rest(cluster);
        let (server, flags) = newcomer(cluster.site(1).server.kind(), 3, &[(1, port(cluster, 1)), (2, port(cluster, 2))]);
        let mut three = server.client();
        // Functions are no writes, they stay.
        three.args(&["FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('put', function(keys) return redis.call('SET', keys[1], 'v') end)"]);
        let (done, said) = join(&flags, &["--data", "replace"]);
        assert!(done, "{said}");
        let refused = |answer: String| assert!(answer.contains("SYNCERJOINING this instance is joining"), "{answer}");
        for line in ["SET k 3", "INCR n", "LPUSH l a", "SPOP s", "XADD x * f v", "DEL k", "FLUSHALL", "BLPOP l 1", "EXPIRE k 10", "RENAME k m", "SORT l STORE m",
            "EVAL return(redis.call('SET',KEYS[1],'v')) 1 k", "EVAL return(redis.pcall('INCR',KEYS[1]).err) 1 k"] {
            refused(three.text(line));
        }
        three.ok("MULTI");
        for line in ["SET k 3", "GET k", "INCR n"] {
            assert_eq!(three.text(line), "QUEUED");
        }
        let answer = three.text("EXEC");
        assert_eq!(answer.matches("SYNCERJOINING").count(), 2, "{answer}");
        assert_eq!(three.text("MGET k n"), "[(nil), (nil)]", "reads are served, and nothing was written");
        let _agents = [Agent::start(flags), Agent::start(AgentOptions::beside(port(cluster, 1)).peer(3, server.port())),
            Agent::start(AgentOptions::beside(port(cluster, 2)).peer(3, server.port()))];
        takes_writes(&mut three);
        assert_eq!(three.text("GET k"), "1");
        three.ok("SET k 3");
        let mut two = cluster.client(2);
        wait::eventually("the others have it", || two.text("GET k") == "3");
    }

    /// `--data replace`: what the site had goes. `--wins group`: it stays where the group has nothing.
    fn a_site_with_data_gives_it_up_or_fills_the_gaps(cluster: 2) {
        cluster.client(1).ok("MSET k group both group");
        cluster.client(1).ok("HSET h f group");
        at_rest(cluster);
        let peers = [(1, port(cluster, 1)), (2, port(cluster, 2))];
        let kind = cluster.site(1).server.kind();
        let (third, three) = newcomer(kind, 3, &peers);
        let (fourth, four) = newcomer(kind, 4, &peers);
        for (server, own) in [(&third, "three"), (&fourth, "four")] {
            let mut client = server.client();
            client.ok(&format!("MSET {own} v both {own}"));
            client.ok(&format!("HSET h f {own} g {own}"));
        }
        for (flags, further) in [(&three, &["--data", "replace"][..]), (&four, &["--data", "merge", "--wins", "group"])] {
            let (done, said) = join(flags, further);
            assert!(done, "{said}");
        }
        let beside = |site: u8| AgentOptions::beside(port(cluster, site)).peer(3, third.port()).peer(4, fourth.port());
        let _agents = [three.peer(4, fourth.port()), four.peer(3, third.port()), beside(1), beside(2)].map(Agent::start);
        let mut clients = [third.client(), fourth.client(), cluster.client(1), cluster.client(2)];
        clients[..2].iter_mut().for_each(takes_writes);
        for client in &mut clients {
            wait::eventually("the gaps are filled", || client.text("MGET k both three four") == "[group, group, (nil), v]");
            wait::eventually("also in a hash", || client.text("HMGET h f g") == "[group, four]");
        }
        equal(&mut clients.iter_mut().collect::<Vec<_>>());
    }
}

/// Enough that a full sync takes a while.
fn fill(client: &mut Client, keys: usize) {
    for from in (0..keys).step_by(1000) {
        let lines: Vec<String> = (from..from + 1000).map(|key| format!("SET k:{key} value")).collect();
        client.pipeline(&lines);
    }
}

on_each_kind! {
    /// Nobody but the sponsor knew of the Join: the site asks another one.
    fn a_sponsor_dies_before_anybody_knows(kind) {
        let mut cluster = Cluster::new(&[kind, kind]);
        fill(&mut cluster.client(2), 2000);
        at_rest(&cluster);
        cluster.cut(1, 2);
        let (server, flags) = newcomer(kind, 3, &[(1, port(&cluster, 1)), (2, port(&cluster, 2))]);
        let (done, said) = join(&flags, &[]);
        assert!(done && said.contains('1'), "{said}");
        cluster.site_mut(1).server.kill();
        cluster.site_mut(1).agent.kill();
        cluster.heal();
        let (done, said) = join(&flags, &[]);
        assert!(done && said.contains('2'), "{said}");
        in_without_site_1(&cluster, &server, flags);
    }

    /// Its snapshot was on the way.
    fn a_sponsor_dies_midway(kind) {
        let options = ClusterOptions { module: vec![("backlog-size", "1mb")], ..ClusterOptions::default() };
        let mut cluster = Cluster::with(&[kind, kind], &options);
        fill(&mut cluster.client(2), 30_000);
        at_rest(&cluster);
        let (server, flags) = newcomer(kind, 3, &[(1, port(&cluster, 1)), (2, port(&cluster, 2))]);
        let (done, said) = join(&flags, &[]);
        assert!(done, "{said}");
        cluster.caught_up(1, 2);
        let only_sponsor = Agent::start(AgentOptions::beside(server.port()).peer(1, port(&cluster, 1)));
        let mut three = server.client();
        wait::eventually("its snapshot comes in", || status(&mut three, "full_sync").contains("source, 1"));
        cluster.site_mut(1).server.kill();
        cluster.site_mut(1).agent.kill();
        drop(only_sponsor);
        assert!(three.text("SET x y").starts_with("-SYNCERJOINING "), "{}", three.text("SET x y"));
        in_without_site_1(&cluster, &server, flags);
    }
}

/// Site 1 is gone for good: site 2 forgets it, and site 3 is in with what site 2 has.
fn in_without_site_1(cluster: &Cluster, server: &Server, flags: AgentOptions) {
    let _agents = [Agent::start(flags), Agent::start(AgentOptions::beside(port(cluster, 2)).peer(3, server.port()))];
    let (mut two, mut three) = (cluster.client(2), server.client());
    let (done, said) = forget(port(cluster, 2), 1);
    assert!(done, "{said}");
    takes_writes(&mut three);
    three.ok("SET from 3");
    two.ok("SET from2 2");
    wait::eventually("both go on", || three.text("GET from2") == "2" && two.text("GET from") == "3");
    equal(&mut [&mut two, &mut three]);
    assert_eq!(status(&mut two, "members"), "[2, 3]");
}

on_each_kind! {
    /// Dead, forgotten, and back with all its data: it is refused with the reason until it joins again.
    fn a_dead_site_that_was_forgotten_comes_back(kind) {
        let options = ClusterOptions { config: vec![("appendonly", "yes"), ("appendfsync", "always")], ..ClusterOptions::default() };
        let mut cluster = Cluster::with(&[kind; 3], &options);
        cluster.client(3).ok("MSET k 3 old 3");
        cluster.converged();
        cluster.site_mut(3).agent.kill();
        cluster.cut(1, 3);
        cluster.cut(2, 3);
        // Nobody gets this before it dies.
        cluster.client(3).ok("SET tail 3");
        cluster.site_mut(3).server.kill();
        cluster.heal();
        let (done, said) = forget(port(&cluster, 1), 3);
        assert!(done, "{said}");
        let (done, said) = forget(port(&cluster, 1), 3);
        assert!(!done && said.contains("is no member"), "{said}");
        let settled = |site| status(&mut cluster.client(site), "forgotten").contains("settled, 1");
        wait::eventually("it is settled", || settled(1) && settled(2));
        cluster.client(1).ok("DEL old");
        cluster.site_mut(3).server.restart();
        cluster.site_mut(3).agent.restart();
        let mut three = cluster.client(3);
        wait::eventually("it is told", || three.text("SET late 3").starts_with("-SYNCERFORGOTTEN instance 3 was forgotten"));
        assert!(status(&mut three, "writes").contains("syncer-agent join"), "{}", status(&mut three, "writes"));
        wait::eventually("its agent says so", || cluster.site(3).agent.log().contains("SYNCERFORGOTTEN instance 3"));
        assert_eq!(three.text("MGET k tail old"), "[3, 3, 3]", "it serves what it has");
        assert_eq!(cluster.client(1).text("MGET tail old"), "[(nil), (nil)]");
        let (done, said) = join(cluster.site(3).agent.options(), &[]);
        assert!(done, "{said}");
        takes_writes(&mut three);
        let log = cluster.site(3).server.log();
        assert!(log.contains("clients' writes are taken here again"), "{log}");
        cluster.converged();
        let mut one = cluster.client(1);
        assert_eq!(one.text("MGET k old"), "[3, (nil)]");
        assert_eq!(one.text("GET tail"), "3", "what nobody had of it was written again");
        three.ok("SET k again");
        cluster.converged();
        assert_eq!(one.text("GET k"), "again");
    }

    /// `syncer.save-state 0`, and the module is left away: a plain dataset, in either kind of file.
    fn who_leaves_has_a_plain_dataset(kind) {
        let options = ClusterOptions { config: vec![("appendonly", "yes"), ("appendfsync", "always")], ..ClusterOptions::default() };
        let mut cluster = Cluster::with(&[kind; 2], &options);
        let mut one = cluster.client(1);
        for line in ["SET k v EX 1000", "HSET h a 1 b 2", "RPUSH l a b c", "LINSERT l BEFORE b x", "SADD s a b", "ZADD z 1.5 a", "XADD x 1-1 f v", "XGROUP CREATE x g 0",
            "PFADD hll a b c", "APPEND text abc", "SETBIT bits 100 1", "INCRBYFLOAT float 0.1"] {
            one.ok(line);
        }
        cluster.client(2).ok("LPUSH l from2");
        cluster.converged();
        let digest = dataset::digest(&mut one);
        one.ok("SAVE");
        cluster.site_mut(1).agent.kill();
        refuses_the_state(&mut cluster.site_mut(1).server);
        let mut one = cluster.client(1);
        assert_eq!(dataset::digest(&mut one), digest, "nothing was lost");
        for line in ["CONFIG SET syncer.save-state 0", "CONFIG SET appendonly no", "SAVE"] {
            one.ok(line);
        }
        cluster.site_mut(1).server.restart_with(ServerOptions::stock());
        let mut one = cluster.client(1);
        assert_eq!(dataset::digest(&mut one), digest);
        assert!(one.text("COMMAND LIST FILTERBY MODULE syncer") == "[]");
        one.ok("CONFIG SET appendonly yes");
        one.ok("SET goes on");
        until_rewritten(&cluster.site(1).server);
        cluster.site_mut(1).server.restart_with(ServerOptions::stock().config("appendonly", "yes"));
        assert_eq!(cluster.client(1).text("MGET goes k"), "[on, v]");
    }
}

/// With the state in it, neither kind of file is loaded without the module: the server says so, ends, and leaves the files as they are.
fn refuses_the_state(server: &mut Server) {
    server.kill();
    let folder = server.folder().to_owned();
    let files = || {
        let names = fs::read_dir(folder.join("appendonlydir"))
            .expect("there is one")
            .map(|entry| entry.expect("readable").path());
        let mut names: Vec<PathBuf> = names.chain([folder.join("dump.rdb")]).collect();
        names.sort();
        names.into_iter().map(|path| (fs::read(&path).expect("readable"), path)).collect::<Vec<_>>()
    };
    let before = files();
    for appendonly in ["no", "yes"] {
        let length = server.log().len();
        let stock = ServerOptions::stock().config("appendonly", appendonly);
        let said = server.try_restart_with(stock).expect_err("it does not start");
        let said = &said[length..];
        assert!(
            said.contains("module 'syncer-aa'") || said.contains("nknown command 'syncer.log'"),
            "appendonly {appendonly}: {said}"
        );
        assert!(files() == before, "the files were touched");
    }
    server.restart_with(ServerOptions::instance(1).config("appendonly", "yes").config("appendfsync", "always"));
}

/// Site 3, a primary with a replica. It was forgotten with writes that nobody else has, and joins again. Site 2 stands still: not all know of the
/// Join yet.
struct Rejoining {
    primary: Server,
    replica: Server,
    agents: Vec<Agent>,
}

impl Rejoining {
    fn begin(cluster: &Cluster) -> Self {
        let kind = cluster.site(1).server.kind();
        let options = ServerOptions::instance(3).config("appendonly", "yes").config("appendfsync", "always");
        let primary = Server::start(kind, options.clone());
        let replica = primary.replica(options);
        let mut site = Self { primary, replica, agents: Vec::new() };
        cluster.client(1).ok("SET k 1");
        let (done, said) = join(&site.flags(cluster), &[]);
        assert!(done, "{said}");
        site.start_agents(cluster, &[1, 2]);
        takes_writes(&mut site.primary.client());
        site.primary.client().ok("INCRBY n 1");
        for server in [1, 2].map(|at| &cluster.site(at).server) {
            wait::eventually("all have it", || server.client().text("MGET k n") == "[1, 1]");
        }
        site.agents.clear();
        for line in ["INCRBY n 5", "SET tail 3", "RPUSH l a b"] {
            site.primary.client().ok(line);
        }
        let (done, said) = forget(port(cluster, 1), 3);
        assert!(done, "{said}");
        for member in [1, 2] {
            wait::eventually("it is settled", || {
                status(&mut cluster.client(member), "forgotten").contains("settled, 1")
            });
        }
        site.start_agents(cluster, &[]);
        wait::eventually("it is told", || site.primary.client().text("SET x y").starts_with("-SYNCERFORGOTTEN "));
        site.agents.clear();
        cluster.site(2).agent.process().pause();
        let (done, said) = join(&site.flags(cluster), &[]);
        assert!(done, "{said}");
        assert_eq!(site.primary.client().text("DBSIZE"), "0");
        site
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{},127.0.0.1:{}", self.replica.port(), self.primary.port())
    }

    fn flags(&self, cluster: &Cluster) -> AgentOptions {
        AgentOptions::at(self.url()).peer(1, port(cluster, 1)).peer(2, port(cluster, 2))
    }

    /// Its own agent, and those that bring its effects to these sites.
    fn start_agents(&mut self, cluster: &Cluster, sites: &[u8]) {
        let back = |site: &u8| Agent::start(AgentOptions::beside(port(cluster, *site)).peer_url(3, self.url()));
        self.agents = sites.iter().map(back).chain([Agent::start(self.flags(cluster))]).collect();
    }

    /// It has what site 1 has, and waits for site 2; so does its replica.
    fn has_the_data(&mut self, cluster: &Cluster) {
        self.start_agents(cluster, &[1]);
        for server in [&self.primary, &self.replica] {
            wait::eventually("it has the data", || server.client().text("GET k") == "1");
        }
        self.replica_knows();
        still_joining(&self.primary);
    }

    fn replica_knows(&self) {
        let [mut primary, mut replica] = [&self.primary, &self.replica].map(Server::client);
        let left = status(&mut primary, "joining");
        assert_ne!(left, "(nil)");
        wait::eventually("its replica knows what is set aside", || status(&mut replica, "joining") == left);
    }

    /// Site 2 goes on: all that the site had written is in, once.
    fn is_in(&mut self, cluster: &Cluster, server: impl Fn(&Self) -> &Server) {
        cluster.site(2).agent.process().resume();
        self.start_agents(cluster, &[1, 2]);
        let mut three = server(self).client();
        takes_writes(&mut three);
        three.ok("INCRBY n 10");
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for client in [&mut one, &mut two, &mut three] {
            wait::eventually("all have all", || client.text("MGET n tail k") == "[16, 3, 1]");
            assert_eq!(client.text("LRANGE l 0 -1"), "[a, b]");
        }
        equal(&mut [&mut one, &mut two, &mut three]);
    }
}

fn still_joining(server: &Server) {
    let answer = server.client().text("SET k 3");
    assert!(answer.starts_with("-SYNCERJOINING "), "{answer}\n{}", server.client().text("SYNCER.STATUS"));
}

on_each_kind! {
    /// Its replica goes on joining where it was, with what was set aside.
    fn a_site_fails_over_while_it_joins(kind) {
        for has_data in [false, true] {
            let cluster = Cluster::new(&[kind; 2]);
            let mut site = Rejoining::begin(&cluster);
            if has_data {
                site.has_the_data(&cluster);
            } else {
                site.replica_knows();
            }
            site.primary.kill();
            site.replica.client().ok("REPLICAOF NO ONE");
            still_joining(&site.replica);
            site.is_in(&cluster, |site| &site.replica);
        }
    }

    /// From its append-only file.
    fn a_site_restarts_while_it_joins(kind) {
        for has_data in [false, true] {
            let cluster = Cluster::new(&[kind; 2]);
            let mut site = Rejoining::begin(&cluster);
            if has_data {
                site.has_the_data(&cluster);
            }
            site.primary.kill();
            site.primary.restart();
            still_joining(&site.primary);
            site.is_in(&cluster, |site| &site.primary);
        }
    }

    /// The sponsor dies before anybody knows, and the site asks another one: what it had set aside for the first is not lost.
    fn a_site_with_a_tail_joins_by_another_sponsor(kind) {
        let mut cluster = Cluster::new(&[kind; 2]);
        let mut site = Rejoining::begin(&cluster);
        cluster.site_mut(1).server.kill();
        cluster.site_mut(1).agent.kill();
        cluster.site(2).agent.process().resume();
        let (done, said) = join(&site.flags(&cluster), &[]);
        assert!(done && said.contains('2'), "{said}");
        site.start_agents(&cluster, &[2]);
        let (done, said) = forget(port(&cluster, 2), 1);
        assert!(done, "{said}");
        let (mut two, mut three) = (cluster.client(2), site.primary.client());
        takes_writes(&mut three);
        for client in [&mut two, &mut three] {
            wait::eventually("what it had set aside is in", || client.text("MGET n tail k") == "[6, 3, 1]");
        }
        equal(&mut [&mut two, &mut three]);
    }
}

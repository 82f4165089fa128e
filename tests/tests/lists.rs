//! Lists are merged element by element: queues, moves, blocked clients, long lists (docs/SEMANTICS.md).

use std::collections::BTreeSet;
use std::time::Duration;

use syncer_tests::bench::cpu;
use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::on_all_kinds;

/// A figure of `INFO syncer`.
fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.text("INFO syncer");
    let found = info.split(&format!("syncer_{name}:")).nth(1);
    let digits = found.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

/// What `SYNCER.KEY q` says of its ids.
fn id_figure(client: &mut Client, name: &str) -> u64 {
    let shown = client.text("SYNCER.KEY q");
    let list = shown.split("list").last().expect("it is a list").replace([',', ':'], " ");
    let mut words = list.split_whitespace().skip_while(|word| !word.ends_with(name));
    words
        .nth(1)
        .and_then(|word| word.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
        .unwrap_or_else(|| panic!("{shown}"))
}

/// Every write was told element by element.
fn nothing_was_written_whole(clients: &mut [Client]) {
    for client in clients {
        for name in ["captured_whole", "lists_rewritten", "writes_lost", "panics"] {
            assert_eq!(figure(client, name), 0, "{name}");
        }
    }
}

/// CPU time of both servers for pushes and pops at both ends of a list, at both sites.
fn cost(cluster: &Cluster, key: &str) -> [Duration; 2] {
    let pids = [1, 2].map(|site| cluster.site(site).server.process().pid());
    let before = pids.map(cpu::used);
    for site in [1, 2] {
        let round = |n: usize| ["LPUSH", "RPUSH"].map(|push| format!("{push} {key} {site}:{n}"));
        let pops = || ["RPOP", "LPOP"].map(|pop| format!("{pop} {key}"));
        let lines: Vec<String> = (0..1000).flat_map(|n| round(n).into_iter().chain(pops())).collect();
        cluster.client(site).pipeline(&lines);
        cluster.caught_up(site, 3 - site);
    }
    let after = pids.map(cpu::used);
    [after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1])]
}

fn elements(client: &mut Client, key: &str) -> Vec<String> {
    client.text_items(&format!("LRANGE {key} 0 -1"))
}

on_all_kinds! {
    fn what_moves_between_lists_one_of_which_is_written_whole_leaves_and_arrives(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("RPUSH a 1 2 3");
        one.ok("RPUSH last 0");
        one.ok("RPUSH b 9");
        cluster.converged();
        one.multi(&["LMOVE a b RIGHT LEFT", "SORT b ALPHA STORE b"]);
        one.multi(&["RPOPLPUSH last b", "SORT b ALPHA STORE b"]);
        cluster.converged();
        assert_eq!((two.text("LRANGE a 0 -1"), two.text("LRANGE b 0 -1")), ("[1, 2]".into(), "[0, 3, 9]".into()));
        one.multi(&["SORT b DESC STORE b", "LMOVE b a LEFT RIGHT"]);
        cluster.converged();
        assert_eq!((two.text("LRANGE a 0 -1"), two.text("LRANGE b 0 -1")), ("[1, 2, 9]".into(), "[3, 0]".into()));
        two.ok("RPOP a");
        cluster.converged();
        assert_eq!((one.text("LRANGE a 0 -1"), one.text("EXISTS last")), ("[1, 2]".into(), "0".into()));
    }

    /// What each site pushes stays together, however often they take turns.
    fn pushes_do_not_mix(cluster: 3) {
        let mut clients: Vec<Client> = (1..=3).map(|id| cluster.client(id)).collect();
        cluster.cut_all();
        for round in 0..20 {
            for (site, client) in clients.iter_mut().enumerate() {
                client.ok(&format!("RPUSH tail {site}:{round} {site}:{round}b"));
                client.ok(&format!("LPUSH head {site}:{round}"));
            }
        }
        cluster.heal();
        cluster.converged();
        for key in ["tail", "head"] {
            let sites: Vec<String> = elements(&mut clients[0], key).iter().map(|e| e[..1].to_owned()).collect();
            let bursts = sites.chunk_by(|a, b| a == b).count();
            assert_eq!(bursts, 3, "{key}: {sites:?}");
        }
        nothing_was_written_whole(&mut clients);
    }
}

on_all_kinds! {
    /// Jobs that two sites push and pop at once, in pipelines, by all commands: each is handed out, and all are gone in the end.
    fn a_queue_under_load_loses_no_job(cluster: 2) {
        const JOBS: usize = 1500;
        let done: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
            let worker = |id: u8| {
                let mut client = cluster.client(id);
                scope.spawn(move || {
                    let mut done = BTreeSet::new();
                    for job in 0..JOBS {
                        let pop = ["RPOP q", "RPOP q 2", "LMPOP 1 q RIGHT COUNT 2", "BRPOP q 0.01"][job % 4];
                        let lines = [format!("LPUSH q {id}:{job}a {id}:{job}b"), pop.to_owned()];
                        done.extend(jobs(&client.pipeline(&lines)[1]));
                    }
                    done
                })
            };
            let workers = [worker(1), worker(2)];
            workers.map(|worker| worker.join().expect("no panic")).into()
        });
        cluster.converged();
        let mut clients = [cluster.client(1), cluster.client(2)];
        let mut done: BTreeSet<String> = done.into_iter().flatten().collect();
        done.extend(elements(&mut clients[0], "q"));
        assert_eq!(done.len(), JOBS * 4, "every job was handed out, or waits");
        nothing_was_written_whole(&mut clients);
        clients[1].ok("DEL q");
        cluster.converged();
        assert_eq!(clients[0].text("EXISTS q"), "0");
    }
}

/// The jobs in the reply of a pop: what looks like one, at whatever depth.
fn jobs(reply: &redis::Value) -> Vec<String> {
    let text = syncer_tests::reply::text(reply);
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
    words.filter(|word| word.contains(':')).map(str::to_owned).collect()
}

on_all_kinds! {
    /// A client blocked at one site gets what another site pushes; the element is gone everywhere, once.
    fn blocked_clients_are_served_from_elsewhere(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        let waits = [
            ("BLPOP l 0", "[[l, a], [b, c]]"),
            ("BRPOP l 0", "[[l, c], [a, b]]"),
            ("BLMOVE l to LEFT LEFT 0", "[a, [b, c]]"),
            ("BLMPOP 0 1 l RIGHT COUNT 2", "[[l, [c, b]], [a]]"),
        ];
        for (wait, expected) in waits {
            let mut waiter = cluster.client(2);
            waiter.block(wait, &mut two);
            one.ok("RPUSH l a b c");
            let got = syncer_tests::reply::text(&waiter.receive().expect("it is served"));
            cluster.converged();
            let rest = elements(&mut one, "l");
            assert_eq!(format!("[{got}, [{}]]", rest.join(", ")), expected, "{wait}");
            one.ok("DEL l to");
            cluster.converged();
        }
        nothing_was_written_whole(&mut [one, two]);
    }
}

on_all_kinds! {
    /// Elements that one site moves on, step by step, while the other pushes: none is lost on the way.
    fn elements_move_from_list_to_list(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        for round in 0..200 {
            one.ok(&format!("RPUSH todo {round}"));
            two.cmd("LMOVE todo doing LEFT RIGHT");
            if round % 3 == 0 {
                two.multi(&["LMOVE doing done LEFT RIGHT", "RPUSH log x"]);
            }
            if round % 5 == 0 {
                two.ok("EVAL redis.call('RPOPLPUSH','doing','doing')return(redis.call('LTRIM','log',-3,-1)) 0");
            }
        }
        cluster.converged();
        let all = ["todo", "doing", "done"].map(|key| elements(&mut one, key)).concat();
        assert_eq!(all.len(), 200, "{all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 200, "only one site moved");
        assert!(elements(&mut two, "log").len() <= 3 + 14);
        nothing_was_written_whole(&mut [one, two]);
    }
}

on_all_kinds! {
    /// A list of a million elements: its ids are small, and what happens at its ends costs no more than in a short one.
    fn a_million_elements_take_little(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        let batch = "local b = {} for i = 1, 500 do b[i] = 'job' .. i end for i = 1, 100 do redis.call('RPUSH', 'q', unpack(b)) end";
        for _ in 0..20 {
            one.args(&["EVAL", batch, "0"]);
        }
        cluster.converged();
        assert_eq!(two.text("LLEN q"), "1000000");
        for client in [&mut one, &mut two] {
            let bytes = id_figure(client, "bytes");
            assert!(bytes <= 6 * 1_000_000, "{bytes} bytes for a million ids");
        }
        let steps = |client: &mut Client| id_figure(client, "steps");
        let before = [steps(&mut one), steps(&mut two)];
        cluster.cut(1, 2);
        for round in 0..300 {
            one.pipeline(&[format!("LPUSH q h{round}"), format!("RPUSH q t{round}")]);
            two.pipeline(&["RPOP q", "LPOP q"]);
        }
        cluster.heal();
        cluster.converged();
        assert_eq!(one.text("LLEN q"), "1000000", "as many pops as pushes, of other elements");
        let (short, long) = (cost(cluster, "short"), cost(cluster, "q"));
        for (short, long) in short.into_iter().zip(long) {
            // A walk over its nodes for each were half a second.
            assert!(long < short * 3 + Duration::from_millis(100), "short {short:?}, long {long:?}");
        }
        for (client, before) in [&mut one, &mut two].into_iter().zip(before) {
            let walked = steps(client) - before;
            assert!(walked < 9200 * 40, "{walked} steps for 9200 pushes and pops at the ends of a million elements");
        }
        nothing_was_written_whole(&mut [one, two]);
    }
}

on_all_kinds! {
    /// A list that goes elsewhere as a whole is a list as before.
    fn a_renamed_list_is_merged_like_any_other(cluster: 2) {
        let (mut one, mut two) = (cluster.client(1), cluster.client(2));
        one.ok("RPUSH l a b c d");
        cluster.converged();
        one.ok("PEXPIRE l 100000");
        cluster.converged();
        two.ok("RENAME l m");
        cluster.converged();
        cluster.cut(1, 2);
        one.ok("LPOP m");
        two.ok("RPUSH m e");
        cluster.heal();
        cluster.converged();
        assert_eq!(elements(&mut one, "m"), ["b", "c", "d", "e"]);
        assert_ne!(two.text("PTTL m"), "-1", "the TTL went along");
    }
}

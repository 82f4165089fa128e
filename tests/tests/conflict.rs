//! The conflict matrix of `conflicts.md` on real servers: every row, in both orders of writing and of arrival.

use std::time::SystemTime;

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::prefix::on_own_keys;
use syncer_tests::{dataset, on_all_kinds, wait};

const TABLE: &str = include_str!("conflicts.md");

/// The keys that rows write to.
const KEYS: [&str; 3] = ["k", "o", "p"];

/// One row of the table.
struct Conflict {
    line: usize,
    before: Vec<&'static str>,
    writes: [Vec<&'static str>; 2],
    /// Expected when the second write is later, and when the first is.
    results: [&'static str; 2],
}

fn conflicts() -> Vec<Conflict> {
    let rows = (1..).zip(TABLE.lines()).filter(|(_, line)| line.starts_with('|') && line.contains('`'));
    let conflicts: Vec<Conflict> = rows.map(|(number, line)| row(number, line)).collect();
    assert!(conflicts.len() > 100, "the table has {} rows", conflicts.len());
    conflicts
}

fn row(line: usize, text: &'static str) -> Conflict {
    let cells: Vec<&str> = text.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
    let commands = |cell: &'static str| cell.split(" ; ").filter(|command| !command.is_empty()).collect();
    let &[before, one, another, second_later, first_later] = cells.as_slice() else {
        panic!("conflicts.md:{line} has {} columns", cells.len())
    };
    let first_later = if first_later == "=" { second_later } else { first_later };
    let writes = [one, another].map(commands);
    Conflict { line, before: commands(before), writes, results: [second_later, first_later] }
}

/// One way to play a row: who writes which side, and which side writes later.
#[derive(Clone, Copy)]
struct Play {
    /// Instance that writes each side.
    authors: [u8; 2],
    later: usize,
}

impl Play {
    const ALL: [Self; 4] = [
        Self { authors: [1, 2], later: 1 },
        Self { authors: [1, 2], later: 0 },
        Self { authors: [2, 1], later: 1 },
        Self { authors: [2, 1], later: 0 },
    ];

    /// Prefix of the keys of a row in this play.
    fn prefix(self, round: &str, conflict: &Conflict) -> String {
        let [one, another] = self.authors;
        format!("{round}:{}:{one}{another}{}:", conflict.line, self.later)
    }

    fn expected(self, conflict: &Conflict) -> &'static str {
        conflict.results[1 - self.later]
    }
}

fn each_play(conflicts: &[Conflict], mut visit: impl FnMut(&Conflict, Play)) {
    for conflict in conflicts {
        for play in Play::ALL {
            visit(conflict, play);
        }
    }
}

/// Plays every row in every way, with `heal` to bring the sites together afterwards, and checks what every site shows.
fn play_all(cluster: &mut Cluster, round: &str, heal: impl FnOnce(&mut Cluster)) {
    let conflicts = conflicts();
    let mut clients: Vec<Client> = cluster.sites().iter().map(|site| site.client()).collect();
    let write = |client: &mut Client, prefix: &str, lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| on_own_keys(line, prefix, &KEYS)).collect();
        // Several commands of a side are one write: a transaction.
        let errors = if lines.len() > 1 { vec![client.multi(&lines)] } else { client.pipeline(&lines) };
        assert!(!errors.iter().any(syncer_tests::reply::is_error), "{lines:?}: {errors:?}");
    };
    each_play(&conflicts, |conflict, play| {
        if !conflict.before.is_empty() {
            write(&mut clients[0], &play.prefix(round, conflict), &conflict.before);
        }
    });
    cluster.converged();
    cluster.cut_all();
    for is_later in [false, true] {
        // So that "later" is later by the clock of every site, in milliseconds.
        wait_for_next_millisecond();
        each_play(&conflicts, |conflict, play| {
            let side = if is_later { play.later } else { 1 - play.later };
            let author = usize::from(play.authors[side]) - 1;
            write(&mut clients[author], &play.prefix(round, conflict), &conflict.writes[side]);
        });
    }
    heal(cluster);
    cluster.converged();
    check(&conflicts, round, &mut clients);
    delete_all(cluster, round, &mut clients);
}

fn check(conflicts: &[Conflict], round: &str, clients: &mut [Client]) {
    let mut complaints = Vec::new();
    each_play(conflicts, |conflict, play| {
        for (instance, client) in (1..).zip(clients.iter_mut()) {
            let shown = shown(client, &play.prefix(round, conflict));
            let expected = play.expected(conflict);
            if shown != expected {
                let [one, another] = &conflict.writes;
                let (authors, later) = (play.authors, play.authors[play.later]);
                complaints.push(format!(
                    "conflicts.md:{}: {:?}, then {one:?} at {} || {another:?} at {}, {later} later:\n  \
                     instance {instance} shows `{shown}`, expected `{expected}`",
                    conflict.line, conflict.before, authors[0], authors[1]
                ));
            }
        }
    });
    assert!(
        complaints.is_empty(),
        "{} of the results are not as in the table:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// What a site shows of a row, in the words of the table.
fn shown(client: &mut Client, prefix: &str) -> String {
    let entry = |key: &&str| {
        let entry = dataset::entry(client, format!("{prefix}{key}").as_bytes())?;
        Some(if *key == "k" { entry.to_string() } else { format!("{key}: {entry}") })
    };
    let entries: Vec<String> = KEYS.iter().filter_map(entry).collect();
    if entries.is_empty() { "nothing".to_owned() } else { entries.join("; ") }
}

/// Who has seen everything and deletes it leaves nothing: nothing parked comes back.
fn delete_all(cluster: &Cluster, round: &str, clients: &mut [Client]) {
    let keys = clients[1].text_items(&format!("KEYS {round}:*"));
    for key in &keys {
        clients[1].ok(&format!("DEL {key}"));
    }
    cluster.converged();
    for client in clients {
        assert_eq!(client.text(&format!("KEYS {round}:*")), "[]");
    }
}

fn wait_for_next_millisecond() {
    let now_ms = || SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis();
    let before_ms = now_ms();
    // Two, as servers cache the time for a moment.
    wait::eventually("the clock moves on", || now_ms() > before_ms + 1);
}

on_all_kinds! {
    fn two_sites(cluster: 2) {
        play_all(cluster, "two", |cluster| cluster.heal());
    }

    /// The third site gets the effects of 1 first in one round, those of 2 first in the other.
    fn three_sites(cluster: 3) {
        for (round, first, second) in [("first1", 1, 2), ("first2", 2, 1)] {
            play_all(cluster, round, |cluster| {
                cluster.heal_between(first, 3);
                cluster.caught_up(first, 3);
                cluster.heal_between(second, 3);
                cluster.caught_up(second, 3);
                cluster.heal();
            });
        }
    }
}

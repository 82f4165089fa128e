//! The conflict matrix of `conflicts.md` on real servers: every row, in both orders of writing and of arrival.

use std::collections::BTreeSet;
use std::time::SystemTime;

use syncer_tests::client::Client;
use syncer_tests::cluster::Cluster;
use syncer_tests::prefix::on_own_keys;
use syncer_tests::{dataset, on_all_kinds, wait};

const TABLE: &str = include_str!("conflicts.md");

const SEMANTICS: &str = include_str!("../../docs/SEMANTICS.md");

/// The worked cases of SEMANTICS.md that are no rows of the table, by what is in their line: the test that plays each, and its file.
const ELSEWHERE: [(&str, &str, &str); 10] = [
    ("`PFADD h b`", "hyperloglogs_merge_by_union", include_str!("strings.rs")),
    (
        "| the key expires | `EXPIRE k 500`",
        "an_extended_key_outlives_its_expiry_elsewhere",
        include_str!("converge.rs"),
    ),
    ("| the key expires | `INCR n`", "a_rate_limiter_keeps_its_expiry", include_str!("converge.rs")),
    ("`FLUSHALL`", "a_write_survives_a_concurrent_flush", include_str!("converge.rs")),
    (
        "`HEXPIRE h 50 FIELDS 1 f`",
        "of_two_ttls_set_at_once_the_latest_time_stays_and_none_wins",
        include_str!("field_ttls.rs"),
    ),
    ("`HSET h f w`", "a_write_of_the_field_wins_over_a_concurrent_ttl", include_str!("field_ttls.rs")),
    ("`HINCRBY h f 5`", "increments_add_up_beside_a_ttl", include_str!("field_ttls.rs")),
    ("| the field expires |", "an_expiry_does_not_take_what_was_extended", include_str!("field_ttls.rs")),
    ("`HDEL h f`", "a_ttl_counts_as_a_write_against_a_removal", include_str!("field_ttls.rs")),
    ("`XADD s *", "generated_ids_differ_between_sites_and_entries_are_in_order", include_str!("streams.rs")),
];

/// The effects on a value of one type, and the commands of rows that have them.
type Effects = &'static [(&'static str, &'static [&'static str])];

/// What is in these sections of the table.
const TYPES: [(&[&str], Effects); 6] = [
    (
        &["Strings and counters", "Strings in part"],
        &[
            ("assign", &["SET", "GETSET", "SETNX", "MSET"]),
            ("increment", &["INCR", "INCRBY", "DECR", "DECRBY", "INCRBYFLOAT"]),
            ("patch", &["APPEND", "SETRANGE", "SETBIT", "BITFIELD"]),
            ("clear", &["DEL", "GETDEL", "UNLINK"]),
        ],
    ),
    (
        &["Hashes"],
        &[
            ("assign", &["HSET", "HMSET", "HSETNX"]),
            ("increment", &["HINCRBY", "HINCRBYFLOAT"]),
            ("remove", &["HDEL"]),
            ("clear", &["DEL"]),
        ],
    ),
    (
        &["Sets"],
        &[
            ("assign", &["SADD"]),
            ("remove", &["SREM", "SPOP", "SMOVE"]),
            ("clear and assign", &["SUNIONSTORE", "SINTERSTORE"]),
            ("clear", &["DEL"]),
        ],
    ),
    (
        &["Sorted sets"],
        &[
            ("assign", &["ZADD", "GEOADD"]),
            ("increment", &["ZINCRBY"]),
            ("remove", &["ZREM", "ZPOPMIN", "ZPOPMAX", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK"]),
            ("clear", &["DEL"]),
        ],
    ),
    (
        &["Lists"],
        &[
            ("insert", &["LPUSH", "RPUSH", "LINSERT"]),
            ("assign", &["LSET"]),
            ("remove", &["LPOP", "RPOP", "LMPOP", "LREM", "LTRIM"]),
            ("clear", &["DEL"]),
        ],
    ),
    // Deliveries and acknowledgements are conversations, not rows: streams.rs.
    (
        &["Streams"],
        &[
            ("entry", &["XADD"]),
            ("remove", &["XDEL", "XTRIM"]),
            ("last id", &["XSETID"]),
            ("group", &["XGROUP"]),
            ("clear", &["DEL"]),
        ],
    ),
];

/// Of TTLs, with those on values that they meet.
const EXPIRY: Effects = &[
    ("expire", &["PEXPIREAT"]),
    ("persist", &["PERSIST", "GETEX"]),
    ("assign", &["SET", "HSET", "SADD", "LPUSH"]),
    ("increment", &["INCR"]),
    ("remove", &["SREM", "LPOP"]),
    ("clear", &["DEL"]),
];

/// By what they make of a key that is not there.
const KINDS: Effects = &[
    ("string", &["SET", "INCR", "SETBIT"]),
    ("hash", &["HSET"]),
    ("set", &["SADD"]),
    ("sorted set", &["ZADD"]),
    ("list", &["RPUSH", "LPUSH"]),
    ("stream", &["XADD"]),
];

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

/// The pairs of effects that rows of these sections (all, if none is named) have, in either order.
fn pairs(sections: &[&str], effects: Effects) -> BTreeSet<[&'static str; 2]> {
    let effect = |side: &[&str]| {
        let command = side[0].split(' ').next().unwrap_or_default();
        effects.iter().find(|(_, commands)| commands.contains(&command)).map(|(effect, _)| *effect)
    };
    let head = |line: usize| TABLE.lines().take(line).filter_map(|line| line.strip_prefix("## ")).last();
    let is_there = |row: &&Conflict| sections.is_empty() || head(row.line).is_some_and(|head| sections.contains(&head));
    let pair = |row: Conflict| Some([effect(&row.writes[0])?, effect(&row.writes[1])?]);
    let rows = conflicts().into_iter().filter(|row| is_there(&row));
    rows.filter_map(pair).flat_map(|[one, another]| [[one, another], [another, one]]).collect()
}

/// So a row cannot be missing without a word.
#[test]
fn every_pair_of_effects_is_a_row() {
    let mut missing = Vec::new();
    let mut demand = |sections: &[&str], effects: Effects, wanted: &dyn Fn(&str, &str) -> bool| {
        let there = pairs(sections, effects);
        let all = effects.iter().flat_map(|(one, _)| effects.iter().map(|(another, _)| [*one, *another]));
        missing.extend(all.filter(|[one, another]| wanted(one, another) && !there.contains(&[*one, *another])));
    };
    TYPES.iter().for_each(|(sections, effects)| demand(sections, effects, &|_, _| true));
    let is_ttl = |effect: &str| ["expire", "persist"].contains(&effect);
    demand(&["Expiry"], EXPIRY, &|one, another| is_ttl(one) || is_ttl(another));
    demand(&[], KINDS, &|one, another| one != another);
    assert!(missing.is_empty(), "conflicts.md has no row for {missing:?}");
}

/// The lines of worked cases in SEMANTICS.md.
fn worked_cases() -> Vec<&'static str> {
    const HEAD: &str = "| before | one site | another, at the same time |";
    let tables = SEMANTICS.split("\n\n").filter(|block| block.starts_with(HEAD));
    tables.flat_map(|table| table.lines().skip(2)).collect()
}

/// The writes of a row, with keys named by their order, and times instead of seconds, as the table has them.
fn plain(cells: &[&str]) -> [Vec<String>; 3] {
    let mut keys: Vec<String> = Vec::new();
    let mut cell = |text: &str| -> Vec<String> {
        let quoted = text.split('`').skip(1).step_by(2).flat_map(|code| code.split(" ; "));
        quoted.map(|command| plain_command(command, &mut keys)).collect()
    };
    [cell(cells[0]), cell(cells[1]), cell(cells[2])]
}

fn plain_command(command: &str, keys: &mut Vec<String>) -> String {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let (first, count) = match words[0].as_str() {
        "LMOVE" | "RENAME" | "COPY" => (1, 2),
        "BITOP" => (2, 3),
        _ => (1, 1),
    };
    for word in words.iter_mut().skip(first).take(count) {
        let key = keys.iter().position(|key| key == word).unwrap_or_else(|| {
            keys.push(word.clone());
            keys.len() - 1
        });
        *word = KEYS[key].to_owned();
    }
    let at_seconds = |seconds: &str| format!("40000000{:05}", seconds.parse::<u64>().expect("seconds") * 1000);
    if words[0] == "EXPIRE" {
        words[0] = "PEXPIREAT".to_owned();
        words[2] = at_seconds(&words[2]);
    } else if let Some(at) = words.iter().position(|word| word == "EX") {
        words[at] = "PXAT".to_owned();
        words[at + 1] = at_seconds(&words[at + 1]);
    }
    words.join(" ")
}

#[test]
fn every_worked_case_is_played() {
    let split = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let rows: Vec<[Vec<String>; 3]> = TABLE
        .lines()
        .filter(|line| line.starts_with('|') && line.contains('`'))
        .map(|line| plain(&split(line)))
        .collect();
    let cases = worked_cases();
    assert!(cases.len() > 35, "{} worked cases", cases.len());
    let mut used = [false; ELSEWHERE.len()];
    for case in cases {
        let elsewhere = ELSEWHERE.iter().position(|(words, ..)| case.contains(words));
        if let Some(at) = elsewhere {
            let (_, test, file) = ELSEWHERE[at];
            assert!(file.contains(&format!("fn {test}(")), "{case}: no test {test}");
            used[at] = true;
            continue;
        }
        let [before, one, another] = plain(&split(case));
        let is_row = |row: &[Vec<String>; 3]| {
            row[0] == before
                && (row[1..] == [one.clone(), another.clone()] || row[1..] == [another.clone(), one.clone()])
        };
        assert!(
            rows.iter().any(is_row),
            "SEMANTICS.md: {case} is no row of conflicts.md: {before:?} | {one:?} | {another:?}"
        );
    }
    assert!(used.iter().all(|used| *used), "a worked case that is played elsewhere is no longer there: {used:?}");
}

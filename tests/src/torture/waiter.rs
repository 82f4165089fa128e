//! Clients that wait for elements, while others write.

use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;

use super::command::{Command, Way};
use super::history::History;
use super::plan::Plan;
use crate::client::Client;

/// Group, and a command that waits for a moment.
const COMMANDS: [(&str, &str); 9] = [
    ("list", "BLPOP list1 list2 0.05"),
    ("list", "BRPOP list2 any list1 0.05"),
    ("list", "BLMOVE list1 list2 RIGHT LEFT 0.05"),
    ("list", "BLMPOP 0.05 2 list2 list1 LEFT COUNT 2"),
    ("zset", "BZPOPMIN zset1 zset2 0.05"),
    ("zset", "BZPOPMAX zset2 any 0.05"),
    ("zset", "BZMPOP 0.05 2 zset1 zset2 MAX COUNT 2"),
    ("stream", "XREADGROUP GROUP g1 u1 BLOCK 50 STREAMS stream1 >"),
    ("stream", "XREADGROUP GROUP g2 u2 BLOCK 50 STREAMS stream1 stream2 > >"),
];

/// Waits again and again until the writers have ended. What it was given.
pub fn run(mut client: Client, instance: u8, plan: &Plan, rng: &mut Rng, ended: &AtomicBool) -> History {
    let mut history = History::default();
    let commands: Vec<&str> =
        COMMANDS.iter().filter(|(group, _)| plan.groups.contains(group)).map(|(_, line)| *line).collect();
    while !commands.is_empty() && !ended.load(Ordering::Relaxed) {
        let line = commands[rng.usize(..commands.len())];
        let reply = client.text(line);
        if reply != "(nil)" {
            history.command(instance, Command { lines: vec![line.to_owned()], way: Way::Plain, db: 0 }, reply);
        }
    }
    history
}

//! What was done, in order, for the message of a failure.

use std::collections::BTreeSet;

use super::command::{Command, Way};

/// Something that happened.
#[derive(Clone, Debug)]
enum Event {
    /// A command at a site, and what it answered.
    Command { instance: u8, command: Command, reply: String },
    /// Anything else.
    Note(String),
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// A command was run.
    pub fn command(&mut self, instance: u8, command: Command, reply: String) {
        self.events.push(Event::Command { instance, command, reply });
    }

    /// Something else happened.
    pub fn note(&mut self, text: impl Into<String>) {
        self.events.push(Event::Note(text.into()));
    }

    /// Goes on with what another has noted.
    pub fn append(&mut self, mut other: Self) {
        self.events.append(&mut other.events);
    }

    /// How many commands were run.
    pub fn len(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Command { .. })).count()
    }

    /// Everything.
    pub fn all(&self) -> String {
        self.where_any(|_| true)
    }

    /// The commands on these keys, or on all, and everything else.
    pub fn of(&self, keys: &BTreeSet<String>) -> String {
        let concerns = |line: &String| {
            let is_global = line.starts_with("FLUSH") || line.starts_with("SWAP");
            is_global || line.split(' ').any(|word| keys.contains(word))
        };
        self.where_any(concerns)
    }

    fn where_any(&self, concerns: impl Fn(&String) -> bool) -> String {
        let lines = self.events.iter().filter_map(|event| match event {
            Event::Note(text) => Some(format!("  -- {text}")),
            Event::Command { command, .. } if !command.lines.iter().any(&concerns) => None,
            Event::Command { instance, command, reply } => {
                let way = match command.way {
                    Way::Plain => "",
                    Way::Transaction => "MULTI ",
                    Way::Script { aborts: true } => "EVAL ",
                    Way::Script { aborts: false } => "EVAL (goes on after errors) ",
                };
                Some(format!("  {instance}[{}] {way}{} -> {reply}", command.db, command.lines.join(" ; ")))
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

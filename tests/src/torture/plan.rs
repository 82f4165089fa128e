//! What a seed means.

use std::fmt;

use fastrand::Rng;

use crate::server::ServerKind;

/// Groups of commands that are drawn together, so that keys are few and conflicts many.
const GROUPS: [&str; 8] = ["string", "bitmap", "hll", "hash", "set", "zset", "list", "stream"];

/// How the sites hear of each other while commands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Commands run one after the other, and a site hears of others only when it is its turn: a seed replays exactly, but
    /// for timestamps.
    Stepped,
    /// Everything at once, links cut and healed meanwhile: how the sites interleave is up to the machine.
    Free,
}

/// What survives a crash of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What it had when it last saved.
    Saved,
    /// Everything: it appends each write to a file before it answers.
    Appended,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers.
    pub kinds: Vec<ServerKind>,
    /// How they hear of each other.
    pub delivery: Delivery,
    /// Of what the commands are.
    pub groups: Vec<&'static str>,
    /// After so many rounds of commands the sites are healed and compared.
    pub rounds: usize,
    /// Commands of a round.
    pub commands: usize,
    /// With servers that load what they have saved, crash, and are sent everything, if this is said.
    pub faults: Option<Durability>,
    /// Values are stored as large ones are from a few elements on.
    pub small: bool,
    /// What has expired is not deleted, but hidden, until a round is over.
    pub hides: bool,
    /// Each server has a replica.
    pub replicas: bool,
    /// Clients wait for elements, where all sites write at once.
    pub waits: bool,
}

impl Plan {
    /// Everything is drawn from the seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let sites = [2, 2, 3, 3, 4][rng.usize(..5)];
        let kinds: Vec<ServerKind> = if rng.u8(..3) == 0 {
            vec![ServerKind::ALL[rng.usize(..3)]; sites]
        } else {
            (0..sites).map(|_| ServerKind::ALL[rng.usize(..3)]).collect()
        };
        let delivery = if rng.bool() { Delivery::Stepped } else { Delivery::Free };
        let mut groups: Vec<&str> = GROUPS.to_vec();
        if kinds.iter().all(|kind| *kind != ServerKind::Valkey8) {
            groups.push("field-ttl");
        }
        if kinds.iter().all(|kind| *kind == ServerKind::Redis8) {
            groups.push("vector");
        }
        rng.shuffle(&mut groups);
        groups.truncate(rng.usize(1..=4));
        let (rounds, commands) = (rng.usize(2..=5), rng.usize(20..=200));
        let faults = match rng.u8(..6) {
            0 => Some(Durability::Saved),
            1 => Some(Durability::Appended),
            _ => None,
        };
        let [small, hides, replicas, waits] = std::array::from_fn(|_| rng.u8(..3) == 0);
        Self { kinds, delivery, groups, rounds, commands, faults, small, hides, replicas, waits }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.folder()).collect();
        let (kinds, groups) = (kinds.join(" "), self.groups.join(" "));
        write!(out, "{kinds}, {:?}, {groups}, {} x {} commands", self.delivery, self.rounds, self.commands)?;
        self.faults.map_or(Ok(()), |durability| write!(out, ", faults ({durability:?})"))?;
        let more = [(self.small, "small"), (self.hides, "hides"), (self.replicas, "replicas"), (self.waits, "waits")];
        more.iter().filter(|(is_so, _)| *is_so).try_for_each(|(_, name)| write!(out, ", {name}"))
    }
}

//! Who had which writes, and what was lost where: so which of them must be there in the end.
//!
//! A write is on the safe side as long as *one* site has it that does not lose it: that site gives it to all others, its author included, however the author
//! lost it (DESIGN 4: "a primary that lost its last second gets its own writes back from its peers"). So for every site it is known at some moments how
//! many writes of each connection it has (a *sighting*; a prefix survives, I-2, so one number says it): of its own those that it acknowledged, of all those
//! that a [sample](super::sample) found there. What a fault takes away is a [`Loss`]; how much, depends on its kind ([`Keeps`]). Let *generation* be
//! the time of one process as the primary of a site; a hand-over loses nothing, and whoever is promoted after a `promote` or `crash` had its link up, hence all of
//! earlier generations. A loss at the end of generation g of a site then leaves, of what was seen there,
//!
//! | fault | of earlier generations | of g itself |
//! |---|---|---|
//! | `promote`, `crash` | all | what was seen at the replica |
//! | `kill-primary`, `appendfsync always` | all | what was seen at the primary: the file is written before any reply, but perhaps behind what a replica gets |
//! | `kill-primary`, `appendfsync everysec` | all, if g began before the moment s | what was seen at the primary before s (see [`written_before`]) |
//! | `kill-primary`, RDB files | nothing that is known | nothing that is known |
//! | `kill-primary` while an AOF is rewritten | nothing that is known | nothing that is known |
//!
//! and nothing of what was seen at *other* sites. (A rewrite may be the first of a server that was a replica and took a whole dataset: until it is done, an older file
//! is loaded.) Of each connection as many writes must be there as the highest sighting says that no loss has taken away; besides, what
//! `SYNCER.WAIT` had confirmed at all other sites (it goes by what is durable there), and all that was there when a round ended: then every node
//! had it, and a replica that has it is promoted, or a file that has it is loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::history::Epoch;
use super::sample::Sample;
use super::write::WriteId;

/// With `everysec` a server writes its file before it replies, too, but while an fsync runs it puts that off, at most this long and the second that its clock counts in.
const POSTPONED_MAX: Duration = Duration::from_secs(3);

/// What a server had at this moment is in its file if it has answered a command that was sent at `asked`.
pub fn written_before(asked: Instant) -> Option<Instant> {
    asked.checked_sub(POSTPONED_MAX)
}

/// Which server of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one that takes writes.
    Primary,
    /// The one that follows it, and did when it was looked at.
    Replica,
}

/// Where something was seen.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Instance id.
    pub site: u8,
    /// Its generation, before it was looked at and after.
    pub generation: u64,
    /// Which server.
    pub role: Role,
}

/// So many writes of a connection were there.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    count: u32,
    place: Place,
    /// When the server said so.
    at: Instant,
}

/// What is left of a site's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// What its replica had.
    Replica,
    /// A file that is written before every reply.
    File,
    /// A file in which everything is that was there at this moment, if one is known.
    FileOf(Option<Instant>),
    /// Some older file.
    Old,
}

/// The end of a generation that may have taken something away.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Instance id.
    pub site: u8,
    /// The generation that ended.
    pub generation: u64,
    /// When it began.
    pub since: Instant,
    /// What is left.
    pub keeps: Keeps,
}

impl Loss {
    /// Whether an acknowledged write may be gone from the site.
    pub fn is_lossy(&self) -> bool {
        self.keeps != Keeps::File
    }

    fn takes(&self, sighting: &Sighting) -> bool {
        let Sighting { place, at, .. } = sighting;
        if place.site != self.site || place.generation > self.generation {
            return false;
        }
        let is_earlier = place.generation < self.generation;
        match self.keeps {
            Keeps::Replica => !is_earlier && place.role == Role::Primary,
            Keeps::File => !is_earlier && place.role == Role::Replica,
            Keeps::FileOf(None) | Keeps::Old => true,
            Keeps::FileOf(Some(written)) if is_earlier => self.since > written,
            Keeps::FileOf(Some(written)) => *at > written || place.role == Role::Replica,
        }
    }
}

/// So many writes of a connection must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Least {
    /// From its first on.
    pub count: u32,
    /// Why.
    pub why: String,
    /// Of them, those that only samples know of.
    pub guarded: u32,
}

/// What is known of all connections.
#[derive(Debug)]
pub struct Survival {
    begun: Instant,
    /// Of the round that goes on.
    sightings: BTreeMap<WriteId, Vec<Sighting>>,
    losses: Vec<Loss>,
    /// What was there when a round ended.
    settled: BTreeMap<WriteId, u32>,
}

impl Survival {
    /// Of a run that began then, for messages.
    pub fn new(begun: Instant) -> Self {
        Self { begun, sightings: BTreeMap::new(), losses: Vec::new(), settled: BTreeMap::new() }
    }

    /// So much was found there. Returns how many connections had something.
    pub fn saw(&mut self, place: Place, sample: &Sample) -> u64 {
        let found = sample.counts.iter().filter(|(_, count)| **count > 0);
        found.clone().for_each(|(first, count)| {
            self.sightings.entry(*first).or_default().push(Sighting { count: *count, place, at: sample.at });
        });
        found.count() as u64
    }

    /// A generation has ended.
    pub fn lost(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    /// Everything is everywhere, and so much of this connection.
    pub fn settled(&mut self, first: WriteId, count: u32) {
        self.settled.insert(first, count);
    }

    /// From now on it counts what has settled.
    pub fn next_round(&mut self) {
        self.sightings.clear();
    }

    /// How many writes of a connection must be there.
    pub fn least(&self, epoch: &Epoch) -> Least {
        let Epoch { first, generation, acked, confirmed, ref marks, last, .. } = *epoch;
        let place = Place { site: first.site, generation, role: Role::Primary };
        let acks = marks.iter().map(|mark| (mark.sent, mark.at)).chain([(acked, last)]);
        let own = acks.map(|(count, at)| Sighting { count, place, at });
        let kept = |sighting: &Sighting| !self.losses.iter().any(|loss| loss.takes(sighting));
        let highest = |sightings: &mut dyn Iterator<Item = Sighting>| {
            sightings.filter(|sighting| kept(sighting)).max_by_key(|sighting| sighting.count)
        };
        let settled = self.settled.get(&first).copied().unwrap_or(0);
        let mut least = Least { count: settled, why: "were everywhere when a round ended".to_owned(), guarded: 0 };
        if confirmed > least.count {
            least = Least { count: confirmed, why: "were confirmed at all other sites".to_owned(), ..least };
        }
        if let Some(own) = highest(&mut own.into_iter()).filter(|own| own.count > least.count) {
            let why = format!("were acknowledged by {}, and it lost nothing of that", self.tell(&own));
            least = Least { count: own.count, why, ..least };
        }
        let sampled = highest(&mut self.sightings.get(&first).into_iter().flatten().copied());
        if let Some(seen) = sampled.filter(|seen| seen.count > least.count) {
            let why = format!("were seen at {}, and it lost nothing of that", self.tell(&seen));
            least = Least { count: seen.count, why, guarded: seen.count - least.count };
        }
        least
    }

    fn tell(&self, sighting: &Sighting) -> String {
        format!("{} at {:.3}", sighting.place, sighting.at.duration_since(self.begun).as_secs_f64())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.role == Role::Primary { "primary" } else { "replica" };
        write!(out, "the {role} of site {} (generation {})", self.site, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: WriteId = WriteId { site: 1, writer: 0, epoch: 0, n: 0 };

    fn at(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    fn place(site: u8, generation: u64, role: Role) -> Place {
        Place { site, generation, role }
    }

    /// A connection of site 1 in its generation 3 that ended after 50 seconds with 100 acknowledged writes.
    fn epoch(begun: Instant) -> Epoch {
        let last = at(begun, 50);
        Epoch { first: FIRST, generation: 3, sent: 101, acked: 100, confirmed: 0, last, round: 1, marks: Vec::new() }
    }

    /// How many of them must be there after these sightings (where, how many, when) and losses (where, of which generation since when).
    fn least(sightings: &[(Place, u32, u64)], losses: &[(u8, u64, Keeps)]) -> Least {
        let begun = Instant::now();
        least_of(begun, &epoch(begun), sightings, losses)
    }

    fn least_of(begun: Instant, epoch: &Epoch, sightings: &[(Place, u32, u64)], losses: &[(u8, u64, Keeps)]) -> Least {
        let mut survival = Survival::new(begun);
        for (place, count, seconds) in sightings {
            survival.saw(*place, &Sample { counts: [(FIRST, *count)].into(), at: at(begun, *seconds) });
        }
        for (site, generation, keeps) in losses {
            survival.lost(Loss { site: *site, generation: *generation, since: at(begun, 10), keeps: *keeps });
        }
        survival.least(epoch)
    }

    #[test]
    fn what_was_acknowledged_stays_where_nothing_is_lost() {
        assert_eq!(least(&[], &[]).count, 100);
        assert_eq!(least(&[], &[(2, 3, Keeps::Old), (1, 3, Keeps::File)]).count, 100, "elsewhere, and nothing");
        assert_eq!(least(&[], &[(1, 3, Keeps::Replica)]).count, 0);
        assert_eq!(least(&[], &[(1, 4, Keeps::Replica)]).count, 100, "the replica of the next primary had it");
        assert_eq!(least(&[], &[(1, 4, Keeps::Old)]).count, 0, "who knows from when the file is");
    }

    #[test]
    fn what_another_site_had_survives_its_author() {
        let crash = (1, 3, Keeps::Replica);
        let seen = [(place(2, 7, Role::Primary), 40, 20), (place(3, 1, Role::Replica), 30, 30)];
        let found = least(&seen, &[crash]);
        assert_eq!((found.count, found.guarded), (40, 40));
        assert!(found.why.contains("the primary of site 2 (generation 7) at 20.000"), "{}", found.why);
        assert_eq!(least(&seen, &[crash, (2, 7, Keeps::Replica)]).count, 30, "site 2 lost it, site 3 did not");
        assert_eq!(least(&seen, &[crash, (2, 6, Keeps::Old)]).count, 40, "it was seen after that");
        assert_eq!(least(&seen, &[crash, (2, 8, Keeps::Old)]).count, 30, "an older file");
        assert_eq!(least(&seen, &[crash, (2, 7, Keeps::File)]).count, 40, "a file with everything");
        let all = [crash, (2, 7, Keeps::Replica), (3, 1, Keeps::File)];
        assert_eq!(least(&seen, &all).count, 0, "the replica of site 3 was ahead of the file of its primary");
        assert_eq!(least(&seen, &[]).guarded, 0, "it has not left its author");
    }

    #[test]
    fn what_a_replica_had_survives_its_primary() {
        let seen = [(place(1, 3, Role::Replica), 90, 20)];
        assert_eq!(least(&seen, &[(1, 3, Keeps::Replica)]).count, 90);
        assert_eq!(least(&seen, &[(1, 3, Keeps::Replica), (1, 4, Keeps::Replica)]).count, 90);
        assert_eq!(least(&seen, &[(1, 3, Keeps::Replica), (1, 4, Keeps::Old)]).count, 0);
    }

    #[test]
    fn a_file_that_is_written_late_lacks_what_was_last() {
        let begun = Instant::now();
        let keeps = |seconds: u64| Keeps::FileOf(Some(at(begun, seconds)));
        let mark = |seconds: u64, sent: u32| super::super::history::Mark { at: at(begun, seconds), sent, confirmed: 0 };
        let epoch = Epoch { marks: vec![mark(20, 0), mark(30, 50), mark(40, 80)], ..epoch(begun) };
        let least = |losses: &[(u8, u64, Keeps)]| least_of(begun, &epoch, &[], losses).count;
        assert_eq!(least(&[(1, 3, keeps(50))]), 100);
        assert_eq!(least(&[(1, 3, keeps(45))]), 80);
        assert_eq!(least(&[(1, 3, keeps(29))]), 0);
        assert_eq!(least(&[(1, 3, Keeps::FileOf(None))]), 0, "it did not answer any more");
        assert_eq!(least(&[(1, 4, keeps(9))]), 0, "the next one had begun later");
        assert_eq!(least(&[(1, 4, keeps(10))]), 100);
    }

    #[test]
    fn what_was_confirmed_or_everywhere_is_not_lost() {
        let begun = Instant::now();
        let crash = Loss { site: 1, generation: 3, since: begun, keeps: Keeps::Replica };
        let mut survival = Survival::new(begun);
        survival.lost(crash);
        assert_eq!(survival.least(&Epoch { confirmed: 60, ..epoch(begun) }).count, 60);
        survival.settled(FIRST, 70);
        assert_eq!(survival.least(&Epoch { confirmed: 60, ..epoch(begun) }).count, 70);
    }
}

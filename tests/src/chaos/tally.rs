//! What a run did: a run that claims to exercise something must have done it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::fault::Fault;
use super::figures::Logged;

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Faults that were done, by kind. Not those that did not fit, or were given up.
    pub faults: BTreeMap<Fault, u64>,
    /// Acknowledged transactions.
    pub acked: u64,
    /// Of them, lost where a crash may lose what only one server had.
    pub lost: u64,
    /// Transactions that had to be there only because another site had been seen to have them when their own may have lost them.
    pub guarded: u64,
    /// How often a connection was looked up at a server while it failed.
    pub sightings: u64,
    /// Rounds that ended with everything compared.
    pub rounds: u64,
    /// Write commands in acknowledged transactions.
    pub commands: u64,
    /// How long there were writers.
    pub writing: Duration,
    /// What the servers logged.
    pub logged: Logged,
}

/// What has to happen in a longer run, and which faults are for it.
const DEMANDED: [(&str, &[Fault]); 9] = [
    ("killed a primary", &[Fault::KillPrimary, Fault::Crash]),
    ("handed over", &[Fault::HandOver]),
    ("promoted a replica", &[Fault::Promote, Fault::Crash]),
    ("killed an agent", &[Fault::KillAgent]),
    ("killed a child", &[Fault::KillChild]),
    ("cut a link", &[Fault::Cut, Fault::Hang]),
    ("slowed a link", &[Fault::Slow]),
    ("paused an agent", &[Fault::PauseAgent]),
    ("paused a server", &[Fault::PauseServer]),
];

impl Tally {
    /// All faults.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// What a run with these faults has not done although it was long enough.
    pub fn lacks(&self, duration: Duration, demanded_after: Duration, faults: &[Fault]) -> Option<String> {
        if duration < demanded_after {
            return None;
        }
        let chosen = |kinds: &[Fault]| kinds.iter().any(|kind| faults.contains(kind));
        let done = |kinds: &[Fault]| kinds.iter().any(|kind| self.faults.contains_key(kind));
        let undone = DEMANDED.iter().filter(|(_, kinds)| chosen(kinds) && !done(kinds));
        let mut lacking: Vec<String> = undone.map(|(what, _)| format!("this run never {what}")).collect();
        if self.logged.forced == 0 {
            let how = "a smaller backlog (--backlog 256kb), more writes (--rate) or the faults cut and hang bring some";
            lacking.push(format!("no backlog was too small, so that it forced a full sync: {how}"));
        }
        if self.logged.full_syncs == 0 {
            lacking.push("no full sync was complete".to_owned());
        }
        if chosen(&[Fault::KillSnapshot]) && self.logged.snapshots_killed == 0 {
            lacking.push("this run never killed the child of a snapshot".to_owned());
        }
        (!lacking.is_empty()).then(|| format!("not exercised: {}", lacking.join("; ")))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, lost, guarded, sightings, rounds, commands, .. } = self;
        let Logged { full_syncs, forced, snapshots_killed } = self.logged;
        let rate = (*commands as f64 / self.writing.as_secs_f64().max(1.0)).round();
        write!(
            out,
            "{rounds} rounds, {acked} acknowledged transactions with {commands} write commands ({rate} a second), {lost} lost where they may be, {guarded} that had to be \
             there since other sites had them, {sightings} sightings, {full_syncs} full syncs ({forced} begun since a backlog was too small, {snapshots_killed} snapshots \
             killed), {} faults:",
            self.faults()
        )?;
        self.faults.iter().try_for_each(|(fault, count)| write!(out, " {fault} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_must_have_done_what_it_is_for() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let all: Vec<Fault> = Fault::ALL.iter().map(|(_, fault)| *fault).collect();
        let mut tally = Tally::default();
        assert_eq!(tally.lacks(minutes(1), minutes(2), &all), None, "it was short");
        let lacking = tally.lacks(minutes(2), minutes(2), &all).unwrap_or_default();
        assert!(
            lacking.contains("no full sync")
                && lacking.contains("no backlog was too small")
                && lacking.contains("never handed over"),
            "{lacking}"
        );
        tally.logged.full_syncs = 1;
        assert!(tally.lacks(minutes(2), minutes(2), &[Fault::Resync]).is_some(), "that was asked for by hand");
        tally.logged.forced = 1;
        assert_eq!(tally.lacks(minutes(2), minutes(2), &[Fault::Save]), None, "nothing else was asked for");
        all.iter().for_each(|fault| *tally.faults.entry(*fault).or_default() += 1);
        assert!(
            tally.lacks(minutes(2), minutes(2), &all).unwrap_or_default().contains("child of a snapshot"),
            "its attempts may all have been late"
        );
        tally.logged.snapshots_killed = 1;
        assert_eq!(tally.lacks(minutes(2), minutes(2), &all), None);
        for fault in [Fault::HandOver, Fault::PauseAgent, Fault::PauseServer, Fault::Slow] {
            let mut without = tally.clone();
            without.faults.remove(&fault);
            assert!(without.lacks(minutes(2), minutes(2), &all).is_some(), "{fault}");
        }
    }
}

//! What a run did: a run that claims to exercise something must have done it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::fault::Fault;

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
    /// Full syncs between sites.
    pub full_syncs: u64,
}

/// What has to happen in a longer run, and which faults are for it.
const DEMANDED: [(&str, &[Fault]); 6] = [
    ("killed a primary", &[Fault::KillPrimary, Fault::Crash]),
    ("handed over", &[Fault::HandOver]),
    ("promoted a replica", &[Fault::Promote, Fault::Crash]),
    ("killed an agent", &[Fault::KillAgent]),
    ("killed a child", &[Fault::KillChild]),
    ("cut a link", &[Fault::Cut, Fault::Hang]),
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
        if self.full_syncs == 0 {
            let how = "a smaller backlog (--backlog 256kb), more writes (--rate) or the faults resync, cut and hang bring some";
            lacking.push(format!("there was no full sync: {how}"));
        }
        (!lacking.is_empty()).then(|| format!("not exercised: {}", lacking.join("; ")))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, lost, guarded, sightings, rounds, full_syncs, .. } = self;
        write!(
            out,
            "{rounds} rounds, {acked} acknowledged transactions, {lost} lost where they may be, {guarded} that had to be there since other sites had them, \
             {sightings} sightings, {full_syncs} full syncs, {} faults:",
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
        assert!(lacking.contains("no full sync") && lacking.contains("never handed over"), "{lacking}");
        tally.full_syncs = 1;
        assert_eq!(tally.lacks(minutes(2), minutes(2), &[Fault::Save]), None, "nothing else was asked for");
        all.iter().for_each(|fault| *tally.faults.entry(*fault).or_default() += 1);
        assert_eq!(tally.lacks(minutes(2), minutes(2), &all), None);
        tally.faults.remove(&Fault::HandOver);
        assert!(tally.lacks(minutes(2), minutes(2), &all).is_some());
    }
}

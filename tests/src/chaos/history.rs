//! What was acknowledged, and what must therefore be there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::order::Order;
use super::sample::Sample;
use super::sequence;
use super::survival::{Least, Loss, Place, Survival};
use super::value;
use super::write::{COUNTERS, Deed, LOG_SPAN, WriteId};
use crate::client::Client;
use crate::reply;

/// One connection of one writer: its writes 0, 1, 2, ... came to one server, in order.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Write 0 of it.
    pub first: WriteId,
    /// What the site was when it began: see [`super::survival`].
    pub generation: u64,
    /// So many were sent.
    pub sent: u32,
    /// So many were acknowledged.
    pub acked: u32,
    /// So many were known to be at every other site, as `SYNCER.WAIT` said.
    pub confirmed: u32,
    /// When the last of these was.
    pub last: Instant,
    /// In which round, from 1.
    pub round: u64,
    /// What was so at some moments, rising.
    pub marks: Vec<Mark>,
}

/// A moment of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When.
    pub at: Instant,
    /// So many had been sent.
    pub sent: u32,
    /// So many were known to be at every other site.
    pub confirmed: u32,
}

/// All of them.
#[derive(Debug)]
pub struct History {
    epochs: Mutex<Vec<Epoch>>,
    /// The connections of this round, and how many writes were sent over each.
    open: Mutex<BTreeMap<WriteId, Arc<AtomicU32>>>,
    /// Which site had what.
    survival: Mutex<Survival>,
    /// Sites (by instance) that may have lost something in a round.
    lossy: Mutex<BTreeSet<(u8, u64)>>,
    /// What was wrong at once.
    wrong: Mutex<Vec<String>>,
    /// The round that goes on. Between two all is healed and compared.
    round: AtomicU64,
    /// What acknowledged writes took.
    popped: Mutex<Popped>,
    sightings: AtomicU64,
    guarded: AtomicU64,
    commands: AtomicU64,
    begun: Instant,
}

/// By the write that took something from a queue, set or group: what.
pub(super) type Popped = BTreeMap<WriteId, Vec<WriteId>>;

/// Which writes survived.
pub(super) type Survivors = BTreeSet<WriteId>;

impl History {
    /// Of a run that began then.
    pub fn new(begun: Instant) -> Self {
        Self {
            epochs: Mutex::default(),
            open: Mutex::default(),
            survival: Mutex::new(Survival::new(begun)),
            lossy: Mutex::default(),
            wrong: Mutex::default(),
            round: AtomicU64::default(),
            popped: Mutex::default(),
            sightings: AtomicU64::default(),
            guarded: AtomicU64::default(),
            commands: AtomicU64::default(),
            begun,
        }
    }

    /// A connection begins, perhaps once more after one over which nothing came to be sent. To be told how many writes are sent over it.
    pub fn begins(&self, first: WriteId) -> Arc<AtomicU32> {
        Arc::clone(lock(&self.open).entry(first).or_default())
    }

    /// A connection has ended.
    pub fn ended(&self, epoch: Epoch) {
        lock(&self.epochs).push(epoch);
    }

    /// The connections of this round, and how many writes were sent over each.
    pub fn connections(&self) -> Vec<(WriteId, u32)> {
        lock(&self.open).iter().map(|(first, sent)| (*first, sent.load(Ordering::SeqCst))).collect()
    }

    /// A site was seen to have so much.
    pub fn saw(&self, place: Place, sample: &Sample) {
        self.sightings.fetch_add(lock(&self.survival).saw(place, sample), Ordering::SeqCst);
    }

    /// The generation of a site ends in a way that may lose something.
    pub fn lost(&self, loss: Loss) {
        if loss.is_lossy() {
            lock(&self.lossy).insert((loss.site, self.round()));
        }
        lock(&self.survival).lost(loss);
    }

    /// Something is wrong, whatever is there in the end.
    pub fn is_wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    /// The next round begins.
    pub fn next_round(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
        lock(&self.open).clear();
        lock(&self.survival).next_round();
    }

    /// The round that goes on, from 1.
    pub fn round(&self) -> u64 {
        self.round.load(Ordering::SeqCst)
    }

    /// A write was acknowledged that takes something: this.
    pub fn popped(&self, by: WriteId, what: Vec<WriteId>) {
        lock(&self.popped).insert(by, what);
    }

    /// So many commands of an acknowledged write were carried out.
    pub fn wrote(&self, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
    }

    /// How many write commands were carried out.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Acknowledged writes.
    pub fn acked(&self) -> u64 {
        lock(&self.epochs).iter().map(|epoch| u64::from(epoch.acked)).sum()
    }

    /// How often a connection was seen at a server.
    pub fn sightings(&self) -> u64 {
        self.sightings.load(Ordering::SeqCst)
    }

    /// How many writes had to be there only because they had been seen at another site.
    pub fn guarded(&self) -> u64 {
        self.guarded.load(Ordering::SeqCst)
    }

    /// Compares with a node that has everything, as all others do. What is wrong, at most a screenful; and how many acknowledged writes
    /// were lost where that may happen.
    pub fn check(&self, client: &mut Client) -> (Vec<String>, u64) {
        let epochs = lock(&self.epochs).clone();
        let mut wrong = std::mem::take(&mut *lock(&self.wrong));
        let (survivors, lost) = self.check_survival(&epochs, |epoch| present(client, epoch), &mut wrong);
        check_counters(client, &survivors, &mut wrong);
        check_sets(client, &survivors, &mut wrong);
        let lossy = lock(&self.lossy).clone();
        check_registers(client, &survivors, &Order::new(&epochs, lossy), &mut wrong);
        let popped = lock(&self.popped).clone();
        sequence::check(client, &survivors, &popped, &mut wrong);
        value::check(client, &survivors, self.begun.elapsed(), &mut wrong);
        let expiring = client.args(&["KEYS", "tmp:*"]);
        if !reply::items(&expiring).is_empty() {
            wrong.push(format!("keys that should have expired: {}", reply::text(&expiring)));
        }
        wrong.truncate(40);
        (wrong, lost)
    }

    fn check_survival(
        &self,
        epochs: &[Epoch],
        mut present: impl FnMut(&Epoch) -> BTreeSet<u32>,
        wrong: &mut Vec<String>,
    ) -> (Survivors, u64) {
        let mut survival = lock(&self.survival);
        let (mut survivors, mut lost) = (Survivors::new(), 0);
        for epoch in epochs {
            let present = present(epoch);
            let least = survival.least(epoch);
            if epoch.round == self.round() {
                self.guarded.fetch_add(u64::from(least.guarded), Ordering::SeqCst);
            }
            lost += check_epoch(epoch, &present, &least, wrong);
            survival.settled(epoch.first, present.len() as u32);
            survivors.extend(present.iter().map(|n| WriteId { n: *n, ..epoch.first }));
        }
        (survivors, lost)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers in the logs of an epoch.
fn present(client: &mut Client, epoch: &Epoch) -> BTreeSet<u32> {
    let mut present = BTreeSet::new();
    for n in (0..=epoch.sent).step_by(LOG_SPAN as usize) {
        let members = client.args(&["SMEMBERS", &WriteId { n, ..epoch.first }.log()]);
        present.extend(reply::text_items(&members).iter().filter_map(|n| n.parse::<u32>().ok()));
    }
    present
}

/// The writes of a connection survive up to some point and no further (I-2), and that is behind all that may not be lost.
/// Returns how many were lost that may.
fn check_epoch(epoch: &Epoch, present: &BTreeSet<u32>, least: &Least, wrong: &mut Vec<String>) -> u64 {
    let Epoch { first, sent, acked, generation, .. } = *epoch;
    let survived = present.len() as u32;
    let hole = (0..survived).find(|n| !present.contains(n));
    if let Some(hole) = hole {
        let last = present.last().copied().unwrap_or_default();
        wrong.push(format!(
            "of {first}... write {hole} is lost and {last} is not (I-2); {acked} acknowledged of {sent}"
        ));
    }
    if survived > sent {
        wrong.push(format!("of {first}... {survived} writes are there, but only {sent} were sent"));
    }
    if survived < least.count {
        let [from, to] = [survived, least.count - 1].map(|n| WriteId { n, ..first });
        wrong.push(format!("{from} to {to} are lost (sent in generation {generation}), and {}", least.why));
    }
    u64::from(acked.saturating_sub(survived))
}

fn check_counters(client: &mut Client, survivors: &Survivors, wrong: &mut Vec<String>) {
    let mut expected: BTreeMap<u32, u64> = (0..COUNTERS).map(|counter| (counter, 0)).collect();
    survivors.iter().for_each(|id| *expected.entry(id.counter()).or_default() += 1);
    for (counter, count) in expected {
        for (line, factor) in [
            (format!("GET count:{counter}"), 1),
            (format!("HGET counts f{counter}"), 2),
            (format!("ZSCORE board m{counter}"), 3),
        ] {
            let found = client.text(&line);
            let number = if found == "(nil)" { Some(0) } else { found.parse::<u64>().ok() };
            if number != Some(count * factor) {
                wrong.push(format!("{line}: {found}, but the writes that survived add up to {}", count * factor));
            }
        }
    }
}

fn check_sets(client: &mut Client, survivors: &Survivors, wrong: &mut Vec<String>) {
    let mut expected: BTreeMap<String, BTreeSet<WriteId>> = BTreeMap::new();
    for id in survivors {
        let removed = WriteId { n: id.n + super::write::REMOVED_AFTER, ..*id };
        if !survivors.contains(&removed) {
            expected.entry(id.removal_set()).or_default().insert(*id);
        }
        if let Deed::Add(key) = id.deed() {
            expected.entry(key).or_default().insert(*id);
        }
    }
    for (key, ids) in expected {
        let members = client.args(&["SMEMBERS", &key]);
        let found: BTreeSet<WriteId> = reply::text_items(&members).iter().filter_map(|id| id.parse().ok()).collect();
        if let Some(id) = ids.difference(&found).next() {
            let more = ids.difference(&found).count() - 1;
            wrong.push(format!("{key} lacks {id}, whose write survived (and {more} more)"));
        }
        if let Some(id) = found.difference(&ids).next() {
            let more = found.difference(&ids).count() - 1;
            wrong.push(format!("{key} has {id}, which was removed or never survived (and {more} more)"));
        }
    }
}

/// A register shows a write that survived, and none that another one which survived had seen.
fn check_registers(client: &mut Client, survivors: &Survivors, order: &Order, wrong: &mut Vec<String>) {
    let mut writes: BTreeMap<(String, String), Vec<WriteId>> = BTreeMap::new();
    for id in survivors {
        match id.deed() {
            Deed::Register(key) => writes.entry((key, String::new())).or_default().push(*id),
            Deed::Field(key, field) => writes.entry((key, field)).or_default().push(*id),
            _ => {}
        }
    }
    for ((key, field), ids) in writes {
        let found = if field.is_empty() {
            client.text(&format!("GET {key}"))
        } else {
            client.text(&format!("HGET {key} {field}"))
        };
        let shown = found.parse::<WriteId>().ok().filter(|id| ids.contains(id));
        let Some(shown) = shown else {
            wrong.push(format!("{key} {field}: {found}, which is no write that survived"));
            continue;
        };
        let same = |id: &&WriteId| (id.site, id.writer, id.epoch) == (shown.site, shown.writer, shown.epoch);
        if let Some(later) = ids.iter().filter(same).find(|id| id.n > shown.n) {
            wrong.push(format!("{key} {field}: {shown}, which {later} of the same connection had replaced"));
        }
        if let Some(later) = ids.iter().find(|id| order.has_seen(id, &shown)) {
            wrong.push(format!("{key} {field}: {shown}, which was at every site before {later} was sent"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::survival::{Keeps, Role};
    use super::*;

    fn judge(present: &[u32], least: u32) -> (usize, u64) {
        let first = WriteId { site: 1, writer: 0, epoch: 0, n: 0 };
        let (last, marks) = (Instant::now(), Vec::new());
        let epoch = Epoch { first, generation: 0, sent: 10, acked: 3, confirmed: 0, last, round: 1, marks };
        let least = Least { count: least, why: "were planted".to_owned(), guarded: 0 };
        let mut wrong = Vec::new();
        let lost = check_epoch(&epoch, &present.iter().copied().collect(), &least, &mut wrong);
        (wrong.len(), lost)
    }

    #[test]
    fn what_survives_is_a_prefix_behind_what_may_not_be_lost() {
        assert_eq!(judge(&[0, 1, 2], 3), (0, 0));
        assert_eq!(judge(&[0, 1, 2, 3], 3), (0, 0), "sent, not acknowledged, and there");
        assert_eq!(judge(&[0, 1], 2), (0, 1));
        assert_eq!(judge(&[0, 1], 3).0, 1, "lost without a cause");
        assert_eq!(judge(&[0, 2], 0).0, 1, "a hole");
    }

    /// What is wrong when of 100 acknowledged writes of site 1, which then crashed, site 2 was seen to have 40, and so many are there in the end.
    fn judge_crash(survived: u32, peer_keeps: Option<Keeps>) -> Vec<String> {
        let now = Instant::now();
        let (history, first) = (History::new(now), WriteId { site: 1, writer: 0, epoch: 0, n: 0 });
        history.next_round();
        history.begins(first).store(100, Ordering::SeqCst);
        assert_eq!(history.connections(), [(first, 100)]);
        let place = Place { site: 2, generation: 7, role: Role::Primary };
        history.saw(place, &Sample { counts: [(first, 40)].into(), at: now });
        history.lost(Loss { site: 1, generation: 0, since: now, keeps: Keeps::Replica });
        if let Some(keeps) = peer_keeps {
            history.lost(Loss { site: 2, generation: 7, since: now, keeps });
        }
        let epoch =
            Epoch { first, generation: 0, sent: 100, acked: 100, confirmed: 0, last: now, round: 1, marks: Vec::new() };
        let mut wrong = Vec::new();
        history.check_survival(&[epoch], |_| (0..survived).collect(), &mut wrong);
        wrong
    }

    #[test]
    fn a_write_that_a_peer_had_may_not_be_lost_with_its_author() {
        let wrong = judge_crash(30, None);
        let told = "1.0.0.30 to 1.0.0.39 are lost (sent in generation 0), and were seen at the primary of site 2 (generation 7) at";
        assert!(wrong.len() == 1 && wrong[0].starts_with(told), "{wrong:?}");
        assert!(judge_crash(40, None).is_empty(), "the others had not left their author");
        assert!(judge_crash(30, Some(Keeps::Replica)).is_empty(), "the peer lost them, too");
        assert_eq!(judge_crash(30, Some(Keeps::File)).len(), 1, "the peer was killed and had them in its file");
    }
}

//! `syncer-agent verify`: do the sites hold the same? In three steps, each closer and of less:
//!
//! 1. every site walks over its keyspace and gives a digest of each hash slot;
//! 2. of the slots that differ, the sites name the keys with their digests;
//! 3. the keys that differ are looked at at once, again and again, each site having all that the other one had before
//!    it was asked: what then differs twice, unchanged, is a difference. Nothing is ever reported for a key that is being written.

mod background;
mod case;
mod link;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use syncer_shared::instance::InstanceId;
use syncer_shared::slot::SlotDigests;
use tokio::task::JoinSet;

use crate::config::{Config, Site};
pub use background::{Verification, verify_every};
use case::{Case, Round};
use link::{KeyId, Link, Listing, Side};
pub use report::{Difference, Outcome};

/// Keys of suspect slots that are listed in one walk.
const BATCH_KEYS: u64 = 20_000;
/// Most keys that one listing may have; a slot with more is named as not looked at.
const LISTING_MAX: usize = 100_000;
/// Keys looked at in one round.
const ROUND_KEYS: usize = 256;
/// Rounds until a key that keeps changing is left alone.
const ROUNDS: usize = 6;
/// How often a site is waited for, 5 s each, before it is taken for one that will not come to have what the local one has.
const MEET_ATTEMPTS: u32 = 4;
/// What is said of such a site.
const NEVER_MEETS: &str =
    "it does not come to have what the local site has, or the other way round: see SYNCER.PEERS at both for why";
/// Between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// How thoroughly, at what cost.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// After each half millisecond of its main thread a server pauses so long: 1 costs a third of it, 10 a twentieth.
    pub pause_ms: u32,
    /// So many differing keys are named; then it ends.
    pub differences_max: usize,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A site cannot be asked.
    #[error("{whose}: {cause}")]
    Site {
        /// Which one.
        whose: String,
        /// Why.
        cause: String,
    },
    /// No other site can be asked.
    #[error("no other site can be asked: {0}")]
    Alone(String),
}

/// Compares the local site with every peer that can be reached.
///
/// # Errors
/// When the local site or all peers cannot be reached, or one goes away meanwhile.
pub async fn verify(config: &Config, options: VerifyOptions) -> Result<Outcome, VerifyError> {
    let begun = Instant::now();
    let timeout = config.settings.connect_timeout;
    let local = Link::open(&config.local, None, timeout).await?;
    let (links, mut unreachable) = open_peers(&config.peers, timeout).await;
    if links.is_empty() {
        return Err(VerifyError::Alone(unreachable.values().cloned().collect::<Vec<_>>().join("; ")));
    }
    let mut sites = Sites { links: std::iter::once(local).chain(links).collect() };
    unreachable.extend(sites.meet().await?.into_iter().map(|apart| (apart, NEVER_MEETS.to_owned())));
    if sites.links.len() < 2 {
        let why = |(id, cause): (&InstanceId, &String)| format!("instance {id}: {cause}");
        return Err(VerifyError::Alone(unreachable.iter().map(why).collect::<Vec<_>>().join("; ")));
    }
    let mut outcome = Outcome { sites: sites.instances(), unreachable, ..Outcome::default() };
    let digests = sites.each(move |mut link| async move { (link.slots(options.pause_ms).await, link) }).await?;
    outcome.keys = digests.first().map(|slots| slots.iter().map(|(_, slot)| slot.keys).sum()).unwrap_or(0);
    for batch in batches(&suspects(&digests)) {
        if outcome.differences.len() >= options.differences_max {
            outcome.is_cut = true;
            break;
        }
        sites.look_into(batch, options, &mut outcome).await?;
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}

async fn open_peers(
    peers: &BTreeMap<InstanceId, Site>,
    timeout: Duration,
) -> (Vec<Link>, BTreeMap<InstanceId, String>) {
    let (mut links, mut unreachable) = (Vec::new(), BTreeMap::new());
    for (id, site) in peers {
        match Link::open(site, Some(*id), timeout).await {
            Ok(link) => links.push(link),
            Err(error) => {
                unreachable.insert(*id, error.to_string());
            }
        }
    }
    (links, unreachable)
}

/// Slots whose digests differ, each with the keys that it has where it has most.
fn suspects(digests: &[SlotDigests]) -> Vec<(u16, u64)> {
    let Some((first, others)) = digests.split_first() else { return Vec::new() };
    let mut suspects = Vec::new();
    let mut others: Vec<_> = others.iter().map(SlotDigests::iter).collect();
    for (slot, digest) in first.iter() {
        let theirs: Vec<_> = others.iter_mut().filter_map(Iterator::next).map(|(_, digest)| digest).collect();
        if theirs.iter().any(|other| *other != digest) {
            suspects.push((slot, theirs.iter().fold(digest.keys, |most, other| most.max(other.keys))));
        }
    }
    suspects
}

/// Slots that are listed together.
fn batches(suspects: &[(u16, u64)]) -> Vec<Vec<u16>> {
    let mut batches: Vec<(Vec<u16>, u64)> = Vec::new();
    for (slot, keys) in suspects {
        match batches.last_mut().filter(|(_, held)| held + keys <= BATCH_KEYS) {
            Some((slots, held)) => {
                slots.push(*slot);
                *held += keys;
            }
            None => batches.push((vec![*slot], *keys)),
        }
    }
    batches.into_iter().map(|(slots, _)| slots).collect()
}

/// Keys that are not listed alike.
fn unequal(listings: &[Listing]) -> Vec<KeyId> {
    let maps: Vec<BTreeMap<&KeyId, &String>> =
        listings.iter().map(|listing| listing.keys.iter().map(|(key, digest)| (key, digest)).collect()).collect();
    let keys: BTreeSet<&KeyId> = maps.iter().flat_map(|map| map.keys().copied()).collect();
    let differs = |key: &&KeyId| maps.windows(2).any(|pair| matches!(pair, [a, b] if a.get(key) != b.get(key)));
    keys.into_iter().filter(differs).cloned().collect()
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// All sites that are compared, the local one first.
struct Sites {
    links: Vec<Link>,
}

impl Sites {
    fn instances(&self) -> Vec<InstanceId> {
        self.links.iter().map(|link| link.instance).collect()
    }

    /// Asks every site at the same time; the answers in their order.
    async fn each<T, F>(&mut self, ask: impl Fn(Link) -> F) -> Result<Vec<T>, VerifyError>
    where
        T: Send + 'static,
        F: Future<Output = (Result<T, VerifyError>, Link)> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for (index, link) in std::mem::take(&mut self.links).into_iter().enumerate() {
            let answer = ask(link);
            asked.spawn(async move { (index, answer.await) });
        }
        let mut answers = BTreeMap::new();
        // A task that panicked has none.
        while let Some(done) = asked.join_next().await {
            if let Ok((index, (answer, link))) = done {
                answers.insert(index, (answer?, link));
            }
        }
        let (answers, links) = answers.into_values().unzip();
        self.links = links;
        Ok(answers)
    }

    /// Waits, a while, until the local site and each other one have what the other has at this moment: what is on its way is no difference.
    /// Sites that do not come to it are left out, and given back: none of their keys could be judged, were there millions that differ.
    async fn meet(&mut self) -> Result<Vec<InstanceId>, VerifyError> {
        let clocks = self.each(|mut link| async move { (link.clock().await, link) }).await?;
        let local = clocks.first().cloned().unwrap_or_default();
        let meet = |mut link: Link| {
            let local = local.clone();
            async move { (link.comes_to_have(&local, MEET_ATTEMPTS).await, link) }
        };
        let mut met = self.each(meet).await?;
        for (clock, met) in clocks.iter().zip(&mut met).skip(1) {
            let Some(link) = self.links.first_mut() else { break };
            // As much time as that has gone by for the others already.
            *met = *met && link.comes_to_have(clock, 1).await?;
        }
        let links = std::mem::take(&mut self.links);
        let (links, apart): (Vec<_>, Vec<_>) = links.into_iter().zip(met).partition(|(_, met)| *met);
        self.links = links.into_iter().map(|(link, _)| link).collect();
        Ok(apart.into_iter().map(|(link, _)| link.instance).collect())
    }

    /// Steps 2 and 3 for some slots.
    async fn look_into(
        &mut self,
        slots: Vec<u16>,
        options: VerifyOptions,
        outcome: &mut Outcome,
    ) -> Result<(), VerifyError> {
        let text = slots.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let list = |mut link: Link| {
            let text = text.clone();
            async move { (link.keys(&text, LISTING_MAX, options.pause_ms).await, link) }
        };
        let listings = self.each(list).await?;
        if listings.iter().any(|listing| listing.is_cut) {
            outcome.slots_skipped.extend(slots);
            return Ok(());
        }
        for keys in unequal(&listings).chunks(ROUND_KEYS) {
            self.judge(keys, options, outcome).await?;
            if outcome.differences.len() >= options.differences_max {
                break;
            }
        }
        Ok(())
    }

    /// Looks at some keys until it is known whether they differ.
    async fn judge(
        &mut self,
        keys: &[KeyId],
        options: VerifyOptions,
        outcome: &mut Outcome,
    ) -> Result<(), VerifyError> {
        let others = self.links.len() - 1;
        let mut cases: Vec<Case> = keys.iter().map(|key| Case::new(key.clone(), others)).collect();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            let (closed, open): (Vec<_>, Vec<_>) =
                self.round(cases).await?.into_iter().partition(|(case, _)| case.is_closed());
            for (case, sides) in closed.into_iter().filter(|(case, _)| case.differs()) {
                if outcome.differences.len() >= options.differences_max {
                    outcome.is_cut = true;
                    return Ok(());
                }
                let sides = self.instances().into_iter().zip(sides).collect();
                outcome.differences.push(Difference { key: case.key, sides });
            }
            cases = open.into_iter().map(|(case, _)| case).collect();
            if cases.is_empty() {
                return Ok(());
            }
        }
        outcome.undecided += cases.len() as u64;
        Ok(())
    }

    /// The local site, the others, the local site again; each knowing what the ones before knew.
    async fn round(&mut self, mut cases: Vec<Case>) -> Result<Vec<(Case, Vec<Side>)>, VerifyError> {
        let keys: Vec<KeyId> = cases.iter().map(|case| case.key.clone()).collect();
        let Some(local) = self.links.first_mut() else { return Ok(Vec::new()) };
        let before = local.look(&keys).await?;
        let clock = local.clock().await?;
        let ask = |link: Link| look_after(link, clock.clone(), keys.clone());
        // The local site has its own clock: it only looks once more.
        let mut told = self.each(ask).await?.into_iter().skip(1).collect::<Vec<_>>();
        let Some(local) = self.links.first_mut() else { return Ok(Vec::new()) };
        for told in &mut told {
            told.meets = told.meets && local.has_all_of(std::slice::from_ref(&told.clock)).await?;
        }
        let after = local.look(&keys).await?;
        let now_ms = now_ms();
        for (index, case) in cases.iter_mut().enumerate() {
            let Some((before, after)) = before.get(index).zip(after.get(index)) else { continue };
            for (verdict, told) in case.verdicts.iter_mut().zip(&told) {
                let other = told.sides.get(index).filter(|_| told.meets);
                *verdict = verdict.after(Round { before, other, after }, now_ms);
            }
        }
        let sides = |index: usize| {
            let others = told.iter().filter_map(move |told| told.sides.get(index).cloned());
            after.get(index).cloned().into_iter().chain(others).collect()
        };
        Ok(cases.into_iter().enumerate().map(|(index, case)| (case, sides(index))).collect())
    }
}

/// What another site says in a round.
struct Told {
    sides: Vec<Side>,
    /// What it had afterwards.
    clock: Bytes,
    /// It had what it was asked to have first.
    meets: bool,
}

async fn look_after(mut link: Link, clock: Bytes, keys: Vec<KeyId>) -> (Result<Told, VerifyError>, Link) {
    let told = async {
        let meets = link.has_all_of(std::slice::from_ref(&clock)).await?;
        let sides = link.look(&keys).await?;
        Ok(Told { sides, clock: link.clock().await?, meets })
    };
    let told = told.await;
    (told, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_differ_anywhere_are_suspect() {
        let digests = |keys: &[(&str, u128)]| {
            let mut digests = SlotDigests::default();
            keys.iter().for_each(|(key, digest)| digests.add(key.as_bytes(), *digest));
            digests
        };
        let all = [digests(&[("foo", 1), ("bar", 2)]), digests(&[("foo", 1), ("bar", 2)]), digests(&[("foo", 1)])];
        assert_eq!(suspects(&all), [(5_061, 1)]);
        assert_eq!(suspects(&all[..2]), []);
    }

    #[test]
    fn a_batch_holds_a_bounded_number_of_keys() {
        let all = batches(&[(1, 15_000), (2, 5_000), (3, 1), (4, 90_000), (5, 1)]);
        assert_eq!(all, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn keys_listed_twice_or_nowhere_else() {
        let key = |name: &'static str| KeyId { db: 0, name: Bytes::from_static(name.as_bytes()) };
        let listing = |keys: &[(&'static str, &str)]| Listing {
            keys: keys.iter().map(|(name, digest)| (key(name), (*digest).to_owned())).collect(),
            is_cut: false,
        };
        let listings = [listing(&[("a", "1"), ("b", "1"), ("a", "1")]), listing(&[("b", "2"), ("a", "1"), ("c", "3")])];
        assert_eq!(unequal(&listings), [key("b"), key("c")]);
    }
}

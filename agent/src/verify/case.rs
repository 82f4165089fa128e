//! One key under suspicion: what the sites said of it, round by round, until it is known whether they differ.

use super::link::{KeyId, Side};

/// The local site's word in one round, before and after that of the others. In between it takes in what they have, and they
/// what it has.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Before.
    pub before: &'a Side,
    /// Another site; `None` when it did not come to have what the local one has, or the other way round.
    pub other: Option<&'a Side>,
    /// After.
    pub after: &'a Side,
}

/// What is known of one key at one other site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: it changes all the time, or a site is behind.
    #[default]
    Open,
    /// The sites had it alike.
    Equal,
    /// They differed in the last round, while nothing changed: these digests.
    Suspect(String, String),
    /// And in the next one in the same way.
    Differs,
}

/// A key and the verdict on each other site, in their order.
#[derive(Clone, Debug)]
pub struct Case {
    /// Which key.
    pub key: KeyId,
    /// One for each other site.
    pub verdicts: Vec<Verdict>,
}

/// Keys that expire within so many milliseconds are not judged: the sites' wall clocks may differ that much.
const EXPIRY_MARGIN_MS: i64 = 10_000;

impl Case {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(key: KeyId, others: usize) -> Self {
        Self { key, verdicts: vec![Verdict::Open; others] }
    }

    /// Whether there is nothing more to find out.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.differs() || self.verdicts.iter().all(|verdict| *verdict == Verdict::Equal)
    }

    /// Whether some sites are known to differ.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.verdicts.contains(&Verdict::Differs)
    }
}

impl Verdict {
    /// Takes in another round. Two sites differ when both have all that the other had, and the key did not change
    /// meanwhile (I-5): the digest alone could have changed and come back, but not without a newer dot, and hardly twice.
    #[must_use]
    pub fn after(&self, round: Round<'_>, now_ms: i64) -> Self {
        let Round { before, other: Some(other), after } = round else { return self.clone() };
        let unchanged = before.digest == after.digest && after.newest <= before.newest;
        let expires = |side: &Side| side.expire_at_ms.is_some_and(|at| at < now_ms + EXPIRY_MARGIN_MS);
        if other.digest == before.digest || other.digest == after.digest {
            return Self::Equal;
        }
        if *self == Self::Equal || *self == Self::Differs {
            return self.clone();
        }
        if !unchanged || expires(before) || expires(other) {
            return Self::Open;
        }
        let now = Self::Suspect(after.digest.clone(), other.digest.clone());
        if *self == now { Self::Differs } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(digest: &str, newest: u64) -> Side {
        Side { digest: digest.into(), newest, ..Side::default() }
    }

    fn judge(verdict: &Verdict, before: &Side, other: Option<&Side>, after: &Side) -> Verdict {
        verdict.after(Round { before, other, after }, 1_000)
    }

    #[test]
    fn a_difference_that_stays_is_one() {
        let (a, b) = (side("a", 0), side("b", 0));
        let first = judge(&Verdict::Open, &a, Some(&b), &a);
        assert_eq!(first, Verdict::Suspect("a".into(), "b".into()));
        assert_eq!(judge(&first, &a, Some(&b), &a), Verdict::Differs);
        assert_eq!(judge(&first, &a, Some(&side("c", 0)), &a), Verdict::Suspect("a".into(), "c".into()));
    }

    #[test]
    fn what_changes_is_not_judged() {
        let (a, b) = (side("a", 5), side("b", 5));
        assert_eq!(judge(&Verdict::Open, &a, Some(&b), &side("c", 6)), Verdict::Open);
        assert_eq!(judge(&Verdict::Open, &a, Some(&b), &side("a", 6)), Verdict::Open, "changed and came back");
        assert_eq!(judge(&Verdict::Open, &a, None, &a), Verdict::Open, "a site is behind");
        assert_eq!(judge(&Verdict::Open, &a, Some(&b), &b), Verdict::Equal, "it has just arrived");
        assert_eq!(
            judge(&Verdict::Open, &a, Some(&b), &side("a", 0)),
            Verdict::Suspect("a".into(), "b".into()),
            "pruned"
        );
    }

    #[test]
    fn what_expires_soon_is_not_judged() {
        let expiring = Side { expire_at_ms: Some(5_000), ..side("a", 0) };
        assert_eq!(judge(&Verdict::Open, &expiring, Some(&side("", 0)), &expiring), Verdict::Open);
    }
}

//! Which write had certainly seen which other one.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Epoch, Mark};
use super::write::WriteId;

/// By what the connections noted: a write that `SYNCER.WAIT` had confirmed at all sites was seen by all that were sent later, wherever. But not at a
/// site that has lost something since then, or just before it: the answer may have counted what was lost.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By site, writer and number of the connection.
    epochs: BTreeMap<(u8, u8, u32), (u64, Vec<Mark>)>,
    /// Sites and rounds in which they may have lost something.
    lossy: BTreeSet<(u8, u64)>,
}

impl Order {
    pub(super) fn new(epochs: &[Epoch], lossy: BTreeSet<(u8, u64)>) -> Self {
        let of = |epoch: &Epoch| (connection(&epoch.first), (epoch.round, epoch.marks.clone()));
        Self { epochs: epochs.iter().map(of).collect(), lossy }
    }

    /// Whether the server that took `later` had `earlier` then, for sure.
    pub(super) fn has_seen(&self, later: &WriteId, earlier: &WriteId) -> bool {
        let Some((round, marks)) = self.epochs.get(&connection(earlier)) else { return false };
        let Some((later_round, later_marks)) = self.epochs.get(&connection(later)) else { return false };
        let Some(confirmed) = marks.iter().find(|mark| earlier.n < mark.confirmed) else { return false };
        let is_after = later_marks.iter().any(|mark| mark.at >= confirmed.at && mark.sent <= later.n);
        is_after && !(*round..=*later_round).any(|round| self.lossy.contains(&(later.site, round)))
    }
}

fn connection(id: &WriteId) -> (u8, u8, u32) {
    (id.site, id.writer, id.epoch)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Marks at so many seconds: sent, confirmed.
    fn epoch(begun: Instant, site: u8, round: u64, marks: &[(u64, u32, u32)]) -> Epoch {
        let first = WriteId { site, writer: 0, epoch: 0, n: 0 };
        let mark = |&(seconds, sent, confirmed): &_| Mark { at: begun + Duration::from_secs(seconds), sent, confirmed };
        let marks = marks.iter().map(mark).collect();
        Epoch { first, generation: 0, sent: 100, acked: 100, confirmed: 100, last: begun, round, marks }
    }

    #[test]
    fn what_was_confirmed_before_is_seen() {
        let begun = Instant::now();
        let [one, two] = [1, 2].map(|site| WriteId { site, writer: 0, epoch: 0, n: 10 });
        let shown = epoch(begun, 1, 1, &[(0, 0, 0), (5, 50, 50)]);
        let seen = |marks: &[(u64, u32, u32)], round: u64, lossy: &[(u8, u64)]| {
            let epochs = [shown.clone(), epoch(begun, 2, round, marks)];
            Order::new(&epochs, lossy.iter().copied().collect()).has_seen(&two, &one)
        };
        assert!(seen(&[(0, 0, 0), (6, 10, 0)], 1, &[]), "10 was sent after the sixth second");
        assert!(!seen(&[(0, 0, 0), (6, 11, 0)], 1, &[]), "11 had been sent then: 10 was perhaps sent earlier");
        assert!(!seen(&[(4, 0, 0)], 1, &[]), "nothing is known of its time after the fourth");
        assert!(!seen(&[(6, 10, 0)], 1, &[(2, 1)]), "its site may have lost it again");
        assert!(!seen(&[(6, 0, 0)], 3, &[(2, 2)]));
        assert!(seen(&[(6, 0, 0)], 3, &[(2, 4), (1, 1)]), "elsewhere, and later");
        let unconfirmed = WriteId { n: 50, ..one };
        assert!(
            !Order::new(&[shown.clone(), epoch(begun, 2, 1, &[(9, 0, 0)])], BTreeSet::new())
                .has_seen(&two, &unconfirmed)
        );
    }
}

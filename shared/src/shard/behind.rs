//! What this instance once promised to have and lacks now (DESIGN 2.2 rule 5): it came back from an old file, or lost its tail.
//!
//! Members pass on each other's reports, so also a member's own. What it reported as durable bounds what anybody counts as stable on its
//! account: as long as it has all of that, it has all of S. If not, it catches up before clients write. Their writes would be regressed:
//! nothing would be lost, but much would have to be asserted again.

use super::Shard;
use crate::instance::InstanceId;
use crate::report::MemberReport;
use crate::timestamp::Timestamp;
use crate::token::ClockToken;

/// A peer is given up as a source of what is lacking here when nothing was heard of it for so long.
const SILENCE_MS_MAX: u64 = 5_000;

/// For so long the word of an agent counts that another server is the primary; it gives it every 5 s.
const REPLACED_MS_MAX: u64 = 15_000;

/// What a peer has and this instance had.
#[derive(Clone, Debug)]
pub(super) struct Lacking {
    from: InstanceId,
    clock: ClockToken,
    heard_ms: u64,
}

impl Shard {
    /// A peer tells what it has, and what this instance last reported: what of that it could bring back.
    pub(super) fn hear_of_itself(&mut self, from: InstanceId, reports: &[MemberReport], now_ms: u64) {
        let of = |instance| reports.iter().find(|report| report.instance == instance);
        let (Some(own), Some(peer)) = (of(self.config.instance), of(from)) else { return };
        let both = own.durable.lower(&peer.applied);
        let clock: ClockToken = both.entries().iter().filter(|(.., ts)| *ts > Timestamp::ZERO).copied().collect();
        if !self.covers(&clock) {
            self.lacking = Some(Lacking { from, clock, heard_ms: now_ms });
        }
    }

    /// Who has something that this instance promised to have and lacks.
    #[must_use]
    pub fn behind(&self) -> Option<InstanceId> {
        self.lacking.as_ref().filter(|lacking| !self.covers(&lacking.clock)).map(|lacking| lacking.from)
    }

    /// Gives up waiting for a peer that is silent, and forgets what has come, and what an agent does not say any more. Now and then.
    pub fn recheck_behind(&mut self, now_ms: u64) {
        self.told_replaced.take_if(|(_, told_ms)| now_ms.saturating_sub(*told_ms) > REPLACED_MS_MAX);
        let is_silent = |lacking: &Lacking| now_ms.saturating_sub(lacking.heard_ms) > SILENCE_MS_MAX;
        if self.behind().is_none() || self.lacking.as_ref().is_some_and(is_silent) {
            self.lacking = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replid::ReplId;
    use crate::shard::{ShardConfig, Start, WritesRefused};

    fn id(instance: u8) -> InstanceId {
        InstanceId::new(instance).expect("an id")
    }

    fn token(ms: u64) -> ClockToken {
        [(ReplId::from_bytes([9; 20]), id(2), Timestamp::from_bits(ms << 16))].into_iter().collect()
    }

    fn report(instance: u8, ms: u64) -> MemberReport {
        MemberReport { instance: id(instance), durable: token(ms), applied: token(ms) }
    }

    fn shard() -> Shard {
        Shard::new(ShardConfig::new(id(1)), ReplId::from_bytes([1; 20]), Start::Empty, 1_000)
    }

    #[test]
    fn who_lacks_what_it_reported_takes_no_writes_while_a_peer_can_bring_it() {
        let mut shard = shard();
        shard.hear_of_itself(id(2), &[report(1, 500), report(2, 700)], 2_000);
        assert_eq!(shard.check_writes(), Err(WritesRefused::CatchingUp(id(2))));
        shard.recheck_behind(2_000 + SILENCE_MS_MAX);
        assert_eq!(shard.behind(), Some(id(2)), "it may still come");
        shard.recheck_behind(2_001 + SILENCE_MS_MAX);
        assert_eq!(shard.check_writes(), Ok(()), "nobody is there to bring it");
    }

    #[test]
    fn who_is_replaced_takes_no_writes_as_long_as_an_agent_says_so() {
        let (mut shard, by) = (shard(), ReplId::from_bytes([2; 20]));
        shard.begin_reign(ReplId::from_bytes([1; 20]), 1_000);
        shard.tell_replaced(ReplId::from_bytes([1; 20]), 2_000);
        assert_eq!(shard.check_writes(), Ok(()), "it is the one");
        shard.tell_replaced(by, 2_000);
        shard.recheck_behind(2_000 + REPLACED_MS_MAX);
        assert_eq!(shard.check_writes(), Err(WritesRefused::Superseded(by)));
        shard.recheck_behind(2_001 + REPLACED_MS_MAX);
        assert_eq!(shard.check_writes(), Ok(()), "the other one may be gone");
        shard.tell_replaced(by, 20_000);
        shard.begin_reign(ReplId::from_bytes([3; 20]), 20_001);
        assert_eq!(shard.check_writes(), Ok(()), "it was promoted");
    }

    #[test]
    fn what_the_peer_does_not_have_either_is_not_waited_for() {
        let mut shard = shard();
        let other = MemberReport { instance: id(2), durable: ClockToken::default(), applied: ClockToken::default() };
        shard.hear_of_itself(id(2), &[report(1, 500), other], 2_000);
        shard.hear_of_itself(id(2), &[report(2, 700)], 2_000);
        assert_eq!(shard.check_writes(), Ok(()));
    }
}

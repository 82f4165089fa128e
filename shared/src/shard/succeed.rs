//! A newcomer takes the whole state of another instance, loaded with its dataset from an RDB file (DESIGN 5).
//!
//! What it was before is its own beginnings: reigns that others may have heard of, and the Join that it waits for. They go on.

use super::replay::ReplayError;
use super::{Shard, Standing};
use crate::dot::{Dot, Seen};
use crate::group::{self, Frame, GroupView};
use crate::instance::InstanceSet;

impl Shard {
    /// Whether this instance has only begun: then another state may take this one's place. Whether the dataset is empty, too, is for the
    /// caller to see. What it has applied of others so far, without any data, comes again.
    #[must_use]
    pub fn is_newcomer(&self) -> bool {
        self.is_primary()
            && self.standing() == Standing::Blank
            && self.check_forgotten(self.config.instance).is_ok()
            && self.metadata.before_tail().is_empty()
            && self.metadata.waiting() == 0
            && self.aside.is_empty()
            && self.syncing.is_none()
            && !self.backlog.evicted_any()
    }

    /// Goes on with what the newcomer `before` had begun, which this state of another instance takes the place of: whoever has heard of
    /// its reigns knows it again by them. The next reign begins behind.
    ///
    /// # Errors
    /// See [`ReplayError`]; then this state is of no use.
    pub fn succeed(&mut self, before: &mut Self) -> Result<(), ReplayError> {
        let all = before.backlog.read(before.backlog.first_offset(), usize::MAX, InstanceSet::ALL);
        let bytes = all.map_or_else(|_| bytes::Bytes::new(), |chunk| chunk.assemble());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (frame, tail) = Frame::parse(rest)?;
            rest = tail;
            if let Frame::Group(group) = frame
                && group.instance == self.config.instance
                && !self.is_known(&group)?
            {
                self.take_beginning(&group)?;
            }
        }
        self.hlc.observe(before.hlc.last());
        self.joining = before.joining.take();
        for (instance, replids) in std::mem::take(&mut before.introduced) {
            self.introduced.entry(instance).or_insert(replids);
        }
        self.counters = before.counters;
        self.counters.sync_full_in += 1;
        Ok(())
    }

    /// One of its own groups, as any other instance takes it: with its context. They change no data.
    pub(super) fn take_beginning(&mut self, group: &GroupView<'_>) -> Result<(), ReplayError> {
        let origin = self.intern(group.replid, group.instance)?;
        self.update_stream(group, origin);
        let context = self.streams.get(origin.index()).map(|stream| stream.clock.clone()).unwrap_or_default();
        let seen = Seen::Context { clock: &context, group: (origin, group.ts), lacks: None };
        for (index, effect) in (0_u32..).zip(group::effects(group.body)) {
            self.control_effect(&effect, Dot { ts: group.ts, index, origin }, &seen);
        }
        self.advance_clock(origin, group.ts);
        self.backlog.append(group.frame, origin, group.instance, group.ts);
        self.defer_control(group.frame.len(), origin, group.ts);
        Ok(())
    }
}

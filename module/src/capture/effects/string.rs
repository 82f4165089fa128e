//! Strings: whole, and in part.

use syncer_shared::effect::{Op, Path, TtlNote, Value};
use syncer_shared::hyperloglog::{self, DENSE_SHOWN_BY, HEADER, Registers};
use syncer_shared::keyspace::Keyspace;
use syncer_shared::patch::{Patch, Prior};

use super::{Resolver, Sink, Write};
use crate::capture::arguments::StageArgs;
use crate::capture::patch;

impl<'a, D: Keyspace, S: Sink> Resolver<'a, D, S> {
    /// A change of a string in part; as the whole string where that is out of reach, or makes it look like a HyperLogLog.
    pub(super) fn patch(&mut self, write: Write<'_>, patch: Option<Patch<'_>>, prior: Option<&[u8]>) {
        self.patches(write, || std::iter::once(patch), prior);
    }

    /// The same of what one command has changed in several places: if one of them calls for the whole string, that has the others, too, and comes alone. Beside
    /// them it would be taken for what was there before them.
    pub(super) fn patches<'p, I: Iterator<Item = Option<Patch<'p>>>>(
        &mut self,
        write: Write<'_>,
        patches: impl Fn() -> I,
        prior: Option<&[u8]>,
    ) {
        let prior = if write.created { Some(Prior::NONE) } else { patch::prior(prior) };
        let travels_whole = |patch: Option<Patch<'_>>| match (patch, prior) {
            (Some(patch), Some(prior)) => self.travels_whole(write, &patch, prior),
            _ => true,
        };
        if patches().any(travels_whole) {
            return self.assign_string(write);
        }
        let Some(prior) = prior else { return };
        for patch in patches().flatten() {
            let note = self.note(write);
            self.push(write, note, Op::Patch { patch, prior });
        }
    }

    fn travels_whole(&mut self, write: Write<'_>, patch: &Patch<'_>, prior: Prior<'_>) -> bool {
        let mut is_claimed =
            || hyperloglog::is_claimed(&self.dataset.string_range(write.db, write.key, 0, hyperloglog::HEADER));
        !patch.is_in_reach() || (patch.is_at_start(prior) && is_claimed())
    }

    /// Registers of a HyperLogLog. A broken one, which the server has raised all the same, is no HyperLogLog to others: it travels whole.
    pub(super) fn raise(&mut self, write: Write<'_>, registers: &[u8]) {
        let registers = Registers::new(registers).filter(|_| !self.is_broken_hyperloglog(write));
        let Some(registers) = registers else { return self.assign_string(write) };
        let note = self.note(write);
        self.push(write, note, Op::Patch { patch: Patch::Registers(registers), prior: Prior::NONE });
    }

    fn is_broken_hyperloglog(&mut self, write: Write<'_>) -> bool {
        let beginning = self.dataset.changed_string(write.db, write.key, DENSE_SHOWN_BY);
        // What is gone again, its own event tells.
        if beginning.is_empty() || hyperloglog::is_whole(&beginning) {
            return false;
        }
        let len = self.dataset.string_len(write.db, write.key);
        !hyperloglog::is_canonical_dense(beginning.get(..HEADER).unwrap_or_default(), len)
            && !self.dataset.string(write.db, write.key).is_some_and(|text| hyperloglog::is_whole(&text))
    }

    /// The string as it is now; its TTL stays.
    pub(super) fn assign_string(&mut self, write: Write<'_>) {
        let Some(value) = self.dataset.string(write.db, write.key) else { return };
        let note = self.note(write);
        let op = Op::Assign { path: Path::String, value: Value::Bytes(&value), reasserted: false };
        self.push(write, note, op);
    }

    /// `SET`, `MSETEX`: with KEEPTTL the TTL stays, else it is replaced. Where the value is, and where options begin.
    pub(super) fn set(
        &mut self,
        stage: usize,
        args: &StageArgs<'a>,
        (value, options): (usize, usize),
        write: Write<'a>,
    ) {
        let Some(value) = args.get(value) else { return };
        if args.len() > options && args.from(options).any(|option| option.eq_ignore_ascii_case(b"keepttl")) {
            let note = self.note(write);
            let op = Op::Assign { path: Path::String, value: Value::Bytes(value), reasserted: false };
            self.push(write, note, op);
        } else {
            self.replace(stage, Some(value), write);
        }
    }

    pub(super) fn replace(&mut self, stage: usize, value: Option<&[u8]>, write: Write<'a>) {
        let Some(value) = value else { return };
        let expire_at = if self.unit.has_ttl(stage) { self.dataset.expire_at(write.db, write.key) } else { None };
        self.push(write, TtlNote::None, Op::Set { value, expire_at });
    }
}

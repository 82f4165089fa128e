//! `XDEL`, `XDELEX`, `XACKDEL`, `XTRIM`.

use syncer_shared::effect::{Op, StreamOp, Value};
use syncer_shared::stream::{Part, StreamId};

use super::{Changes, id, is, number};
use crate::keyspace::ServerKeyspace;
use crate::redis::Args;
use crate::redis::passthrough::{Leaf, Outcome};

/// What `XTRIM` spares.
pub struct Trimming {
    /// Entries that groups have not acknowledged: then it is no range that goes.
    sparing: bool,
}

impl Trimming {
    /// Looks.
    pub fn look(args: Args<'_>) -> Self {
        Self { sparing: (2..args.len()).any(|at| is(args, at, b"acked")) }
    }

    /// What is gone.
    pub fn changes(
        self,
        keyspace: &mut ServerKeyspace<'_>,
        db: u32,
        args: Args<'_>,
        outcome: &Outcome,
    ) -> Option<Changes> {
        let mut changes = removed_any(outcome).then(|| Changes::new(1))?;
        if !self.sparing {
            let below = keyspace.first_entry(db, args.bytes(1)?).unwrap_or(StreamId::MAX);
            changes.push(Op::Stream(StreamOp::Trim { below }));
        }
        Some(changes)
    }
}

fn removed_any(outcome: &Outcome) -> bool {
    let mut any = false;
    outcome.leaves(&mut |leaf| any |= matches!(leaf, Leaf::Integer(1..)));
    any
}

/// `XDEL key id ...`
pub fn deleted(args: Args<'_>, outcome: &Outcome) -> Option<Changes> {
    let mut changes = removed_any(outcome).then(|| Changes::new(1))?;
    for id in args.from(2).iter().filter_map(|text| id(text.as_bytes())) {
        changes.remove(Part::Entry(id));
    }
    Some(changes)
}

/// `XDELEX key [option] IDS count id ...`, `XACKDEL key group [option] IDS count id ...`: the reply has, for each id, 1 (gone), 2 (spared,
/// or only acknowledged) or -1 (was not there). What is pending of an entry that is gone counts nowhere, so DELREF makes no difference.
pub fn each_deleted(args: Args<'_>, outcome: &Outcome) -> Option<Changes> {
    let group = if is(args, 0, b"xackdel") { Some(args.bytes(2)?) } else { None };
    let first = (2..args.len()).find(|at| is(args, *at, b"ids") && number(args, at + 1).is_some())? + 2;
    let mut codes = Vec::new();
    outcome.leaves(&mut |leaf| {
        if let Leaf::Integer(code) = leaf {
            codes.push(code);
        }
    });
    let mut changes = Changes::new(1);
    for (text, code) in args.from(first).iter().zip(codes) {
        let Some(id) = id(text.as_bytes()).filter(|_| code > 0) else { continue };
        if let Some(group) = group {
            changes.assign(Part::Delivery { group, id }, Value::Acked);
        }
        if code == 1 {
            changes.remove(Part::Entry(id));
        }
    }
    (!changes.effects.is_empty()).then_some(changes)
}

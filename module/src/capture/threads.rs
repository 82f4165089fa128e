//! Commands that go on in a thread of their own when a client calls them.

use smallvec::SmallVec;

use crate::redis::{Args, Text};

/// The arguments without what makes the command block its client: the server asserts that what a module calls does not, and ends.
/// `None`: there is none of that.
///
/// `VADD ... CAS` looks for neighbours in a thread, and is the same without: Redis (8.2, vset.c) leaves it out itself in
/// transactions and scripts, but not where a module calls.
#[must_use]
pub fn without(args: Args<'_>) -> Option<SmallVec<[Text<'_>; 8]>> {
    if !adds_vector(args) {
        return None;
    }
    let first = options(args)?;
    if !(first..args.len()).any(|at| is(args, at, b"cas")) {
        return None;
    }
    let (mut kept, mut at): (SmallVec<[Text<'_>; 8]>, usize) = (args.iter().take(first).collect(), first);
    while let Some(option) = args.get(at) {
        let has_value = [&b"ef"[..], b"setattr", b"m"].iter().any(|with_value| is(args, at, with_value));
        // It may be there twice.
        if !is(args, at, b"cas") {
            kept.push(option);
            kept.extend(args.get(at + 1).filter(|_| has_value));
        }
        at += if has_value { 2 } else { 1 };
    }
    (kept.len() < args.len()).then_some(kept)
}

/// Whether it is `VADD`.
#[must_use]
pub fn adds_vector(args: Args<'_>) -> bool {
    is(args, 0, b"vadd")
}

/// Where the options begin in `VADD key [REDUCE dim] (FP32 blob | VALUES num value ...) element [option ...]`.
fn options(args: Args<'_>) -> Option<usize> {
    let vector = if is(args, 2, b"reduce") { 4 } else { 2 };
    let element = if is(args, vector, b"values") {
        let count = args.get(vector + 1).and_then(Text::as_integer).and_then(|count| usize::try_from(count).ok())?;
        vector.checked_add(2)?.checked_add(count)?
    } else {
        vector + 2
    };
    element.checked_add(1)
}

fn is(args: Args<'_>, at: usize, word: &[u8]) -> bool {
    args.bytes(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

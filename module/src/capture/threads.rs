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
    if !is(args, 0, b"vadd") {
        return None;
    }
    let at = cas(args)?;
    Some(args.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, text)| text).collect())
}

/// Where `CAS` is in `VADD key [REDUCE dim] (FP32 blob | VALUES num value ...) element [option ...]`.
fn cas(args: Args<'_>) -> Option<usize> {
    let vector = if is(args, 2, b"reduce") { 4 } else { 2 };
    let element = if is(args, vector, b"values") {
        let count = args.get(vector + 1).and_then(Text::as_integer).and_then(|count| usize::try_from(count).ok())?;
        vector.checked_add(2)?.checked_add(count)?
    } else {
        vector + 2
    };
    let mut at = element.checked_add(1)?;
    while at < args.len() && !is(args, at, b"cas") {
        let has_value = [&b"ef"[..], b"setattr", b"m"].iter().any(|option| is(args, at, option));
        at += if has_value { 2 } else { 1 };
    }
    (at < args.len()).then_some(at)
}

fn is(args: Args<'_>, at: usize, word: &[u8]) -> bool {
    args.bytes(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

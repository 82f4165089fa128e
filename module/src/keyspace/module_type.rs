//! Types of other modules in serialised values: whether this server has them.
//!
//! A server that reads a value of a type it does not have answers with an error, but **exits** when that happens while it loads its
//! append-only file, since it takes the file for corrupt. So then we must know beforehand. (What a module itself refuses to read cannot be known.)

use crate::redis::{Context, Element, OwnedText, call};

/// `RDB_TYPE_MODULE_2`.
pub const RDB_MODULE_TYPE: u8 = 7;
/// A 64-bit number follows, big endian.
const RDB_64_BITS: u8 = 0x81;
/// Of the name of a type, six bits each, above ten bits of encoding version.
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NAME_LEN: usize = 9;

/// The name of the module type of a serialised value; `None`: it is of a type that servers have by themselves.
#[must_use]
pub fn of(dump: &[u8]) -> Option<String> {
    let (kind, rest) = dump.split_first()?;
    let id = rest.strip_prefix(&[RDB_64_BITS]).and_then(|rest| rest.first_chunk::<8>());
    let id = (*kind == RDB_MODULE_TYPE).then_some(u64::from_be_bytes(*id?) >> 10)?;
    let character = |at: usize| CHARACTERS.get((id >> (6 * (NAME_LEN - 1 - at)) & 63) as usize);
    (0..NAME_LEN).map(|at| character(at).map(|byte| char::from(*byte))).collect()
}

/// Whether a module is loaded that such a type may be of: types are named after their modules, more or less. When in doubt, no.
#[must_use]
pub fn is_known(context: &Context, name: &str) -> bool {
    let list = OwnedText::new(b"LIST");
    let mut known = false;
    call(context, c"MODULE", &[list.text()]).each(|module: Element<'_>| {
        let at = (0..module.len()).step_by(2).find(|at| module.get(*at).and_then(Element::bytes) == Some(b"name"));
        let module = at.and_then(|at| module.get(at + 1)).and_then(Element::bytes);
        known |= module.is_some_and(|module| is_named_after(name, &String::from_utf8_lossy(module)));
    });
    known
}

fn is_named_after(name: &str, module: &str) -> bool {
    let name = name.trim_end_matches(['-', '_']).to_ascii_lowercase();
    let module = module.to_ascii_lowercase();
    !module.is_empty() && (name.starts_with(&module) || module.starts_with(&name))
}

#[cfg(test)]
mod tests {
    use super::{is_named_after, of};

    #[test]
    fn names_are_read_as_servers_write_them() {
        // The first bytes of what DUMP gives for a vector set.
        let id = "vectorset".bytes().fold(0_u64, |id, byte| {
            let at = super::CHARACTERS.iter().position(|character| *character == byte).expect("a letter");
            id << 6 | at as u64
        });
        let dump = [&[7, 0x81][..], &(id << 10 | 1).to_be_bytes(), b"rest"].concat();
        assert_eq!(of(&dump).as_deref(), Some("vectorset"));
        assert_eq!(of(&[21, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(of(&[7, 0x81, 0]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn types_are_named_after_their_modules() {
        assert!(is_named_after("vectorset", "vectorset") && is_named_after("ReJSON-RL", "ReJSON"));
        assert!(!is_named_after("vectorset", "syncer") && !is_named_after("vectorset", "lua"));
    }
}

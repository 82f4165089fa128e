//! Names of commands and events as machine words: one comparison instead of many.

/// Up to 32 bytes of a name in lower case, padded with spaces; equal words are equal names, but for case and
/// trailing spaces.
pub type Word = (u128, u128);

const SPACES: u128 = u128::from_le_bytes([b' '; 16]);

/// The word of a command's name. Letters differ from their capitals in bit 5 only, which spaces, digits and
/// `-`, `.`, `|` have set; `_` becomes DEL, which no name has. `None` when it is empty or longer than 32 bytes.
#[must_use]
pub fn word(name: &[u8]) -> Option<Word> {
    match name.len() {
        1..=16 => Some((lower(name), SPACES)),
        17..=32 => Some((lower(&name[..16]), lower(&name[16..]))),
        _ => None,
    }
}

/// 1 to 16 bytes in lower case.
fn lower(bytes: &[u8]) -> u128 {
    let len = bytes.len();
    let eight = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let four = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let value = if len >= 8 {
        // The last eight overlap the first: shift out what is in them already.
        u128::from(eight(0)) | (u128::from(eight(len - 8)) >> (8 * (16 - len))) << 64
    } else if len >= 4 {
        u128::from(four(0)) | (u128::from(four(len - 4)) >> (8 * (8 - len))) << 32
    } else {
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
    };
    value | SPACES
}

/// The word of a name known at compile time, of at most 16 bytes.
#[must_use]
pub const fn short(name: &[u8]) -> u128 {
    assert!(name.len() <= 16 && !name.is_empty());
    let mut value = 0;
    let mut at = name.len();
    while at > 0 {
        at -= 1;
        value = value << 8 | name[at] as u128;
    }
    value | SPACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_keeps_its_bytes() {
        let name = b"abcdefghijklmnopqrstuvwxyz-01234";
        for len in 1..=16 {
            assert_eq!(word(&name[..len]), Some((short(&name[..len]), SPACES)), "{len}");
        }
        for len in 17..=32 {
            assert_eq!(word(&name[..len]), Some((short(&name[..16]), short(&name[16..len]))), "{len}");
        }
        assert_eq!((word(b""), word(&[b'x'; 33])), (None, None));
    }

    #[test]
    fn case_does_not_matter_and_names_stay_apart() {
        assert_eq!(word(b"ZRemRangeByScore"), word(b"zremrangebyscore"));
        assert_eq!(word(b"JSON.SET"), word(b"json.set"));
        let names = ["set", "setex", "setnx", "get", "getset", "zadd", "sadd", "hset", "mset", "restore-asking"];
        for (i, a) in names.iter().enumerate() {
            for b in &names[i + 1..] {
                assert_ne!(word(a.as_bytes()), word(b.as_bytes()));
            }
        }
    }
}

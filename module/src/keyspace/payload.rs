//! Whole values of the types that are not merged by element (yet), in a form that every server reads.
//!
//! - `D` version body: what `DUMP` gives without its footer (RDB version and CRC64), the version little-endian.
//!   `RESTORE` refuses a dump of a newer RDB version than its own, though streams and module values are encoded
//!   alike since version 11 (Redis 7.2, Valkey 8.0): these get a footer that says 11.
//!
//! Nobody sends a value of a type that servers have by themselves: those are merged by element. So one that comes is broken, and is not read:
//! servers do not look closely at what they restore (`sanitize-dump-payload`), and some would crash over it later.

use super::module_type::RDB_MODULE_TYPE;

/// The RDB version of Redis 7.2 and Valkey 8.0, which every supported server reads.
const PORTABLE_VERSION: u16 = 11;
/// RDB types up to this one (`RDB_TYPE_STREAM_LISTPACKS_3`) exist since that version.
const PORTABLE_TYPE_MAX: u8 = 21;
/// The highest RDB type of the servers there are. Below and up to it are their own, but for one.
const OWN_TYPE_MAX: u8 = 25;
/// Version and CRC64 at the end of a dump.
const FOOTER_LEN: usize = 10;

/// A decoded payload.
#[derive(Debug, PartialEq)]
pub enum Payload {
    /// What `RESTORE` takes.
    Dump(Vec<u8>),
}

/// The payload of what `DUMP` answered; `None` when that is no dump.
pub fn encode_dump(dump: &[u8]) -> Option<Vec<u8>> {
    let (body, footer) = dump.split_at_checked(dump.len().checked_sub(FOOTER_LEN)?)?;
    let version = footer.first_chunk::<2>()?;
    let mut payload = Vec::with_capacity(body.len() + 3);
    payload.push(b'D');
    payload.extend_from_slice(version);
    payload.extend_from_slice(body);
    Some(payload)
}

/// Decodes a payload from a peer; `None` when it is broken.
pub fn decode(payload: &[u8]) -> Option<Payload> {
    match payload.split_first()? {
        (b'D', dump) => decode_dump(dump).map(Payload::Dump),
        _ => None,
    }
}

fn decode_dump(dump: &[u8]) -> Option<Vec<u8>> {
    let (version, body) = dump.split_first_chunk::<2>()?;
    let version = u16::from_le_bytes(*version);
    let kind = *body.first()?;
    if kind <= OWN_TYPE_MAX && kind != RDB_MODULE_TYPE {
        return None;
    }
    let version = if kind <= PORTABLE_TYPE_MAX { version.min(PORTABLE_VERSION) } else { version };
    let mut restore = Vec::with_capacity(body.len() + FOOTER_LEN);
    restore.extend_from_slice(body);
    restore.extend_from_slice(&version.to_le_bytes());
    let crc = crc64(&restore);
    restore.extend_from_slice(&crc.to_le_bytes());
    Some(restore)
}

/// CRC-64 "Jones" as in the servers' crc64.c: reflected, no initial or final inversion.
fn crc64(bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc64_is_that_of_the_servers() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn broken_payloads_are_refused() {
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"D\x0b"), None);
        assert_eq!(decode(b"D\x0b\0"), None);
        assert_eq!(decode(b"X1234"), None);
        assert_eq!(encode_dump(b"short"), None);
    }

    #[test]
    fn what_servers_have_by_themselves_is_not_read() {
        for kind in (0..=OWN_TYPE_MAX).filter(|kind| *kind != RDB_MODULE_TYPE) {
            let dump = [&[kind, 1, 2, 3][..], &11_u16.to_le_bytes(), &[0; 8]].concat();
            assert_eq!(decode(&encode_dump(&dump).unwrap()), None, "{kind}");
        }
    }

    #[test]
    fn a_dump_of_a_portable_type_gets_the_portable_version() {
        let dump = [&[7_u8, 1, 2, 3][..], &80_u16.to_le_bytes(), &[0; 8]].concat();
        let payload = encode_dump(&dump).unwrap();
        let Some(Payload::Dump(restore)) = decode(&payload) else { panic!("no dump") };
        assert_eq!(restore[..6], [7, 1, 2, 3, 11, 0]);
        assert_eq!(restore[6..], crc64(&restore[..6]).to_le_bytes());
    }

    #[test]
    fn a_dump_of_a_new_type_keeps_its_version() {
        let dump = [&[26_u8, 1][..], &80_u16.to_le_bytes(), &[0; 8]].concat();
        let payload = encode_dump(&dump).unwrap();
        let Some(Payload::Dump(restore)) = decode(&payload) else { panic!("no dump") };
        assert_eq!(restore[2..4], 80_u16.to_le_bytes());
    }
}

//! Replies: RESP2 in.

use bytes::{Buf, Bytes, BytesMut};

/// Deepest nesting of arrays; our commands answer at most 3 deep.
const DEPTH_MAX: usize = 8;
/// Most elements of one reply, nested ones included. `SYNCER.STATUS` has some hundreds.
const ELEMENTS_MAX: usize = 1 << 20;
/// Longest bulk string, in bytes: a frame is at most 1 GiB, and a `READ` adds less than another batch.
const BULK_BYTES_MAX: usize = 2 << 30;
/// Room for so much is made on the word of a server alone; for more as it comes.
const RESERVED_MAX: usize = 128 << 20;
/// Longest status, error or header line, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One reply of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(Bytes),
    /// `-CODE text`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`, sharing the connection's read buffer.
    Bulk(Bytes),
    /// `*2`
    Array(Vec<Reply>),
    /// `$-1` or `*-1`
    Nil,
}

/// The peer does not speak RESP2, or beyond our limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// Not RESP at all: often an HTTP server or a TLS port.
    #[error("the answer is not RESP (byte 0x{0:02x}): check that the address is that of a Redis or Valkey server")]
    Kind(u8),
    /// A header without a number.
    #[error("the answer has a broken RESP header")]
    Header,
    /// Too deep, too long or too many.
    #[error("the answer exceeds the limit on {0}")]
    Limit(&'static str),
}

impl Reply {
    /// The text of a status or bulk string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Status(bytes) | Self::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Error(_) | Self::Integer(_) | Self::Array(_) | Self::Nil => None,
        }
    }

    /// The number, be it an integer or decimal text.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// The elements of an array; nothing for anything else.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }
}

/// Takes one whole reply off `input`. `Ok(None)` means that more bytes are needed; room for them is then reserved.
///
/// # Errors
/// When `input` isn't RESP2 or exceeds a limit. The connection is then of no more use.
pub fn decode(input: &mut BytesMut) -> Result<Option<Reply>, RespError> {
    match measure(input)? {
        Extent::Whole(len) => {
            let mut bytes = input.split_to(len).freeze();
            take(&mut bytes).map(Some)
        }
        Extent::Needs(len) => {
            input.reserve(len.saturating_sub(input.len()).min(RESERVED_MAX));
            Ok(None)
        }
    }
}

/// How far the first reply of a buffer reaches.
enum Extent {
    /// It ends here.
    Whole(usize),
    /// The buffer must be at least this long to know more.
    Needs(usize),
}

/// Finds the end of the first reply without allocating or recursing, checking every limit.
fn measure(input: &[u8]) -> Result<Extent, RespError> {
    let mut at = 0;
    let mut elements = 0;
    // How many replies are still expected at each level.
    let mut expected = [0_usize; DEPTH_MAX];
    let mut depth = 0;
    expected[0] = 1;
    loop {
        while expected[depth] == 0 {
            if depth == 0 {
                return Ok(Extent::Whole(at));
            }
            depth -= 1;
        }
        expected[depth] -= 1;
        let Some(header) = Header::parse(&input[at..])? else { return Ok(Extent::Needs(input.len() + 1)) };
        at += header.bytes;
        match header.follows {
            Follows::Nothing => {}
            Follows::Bulk(len) => {
                at += len + 2;
                if at > input.len() {
                    return Ok(Extent::Needs(at));
                }
            }
            Follows::Elements(count) => {
                elements += count;
                if elements > ELEMENTS_MAX {
                    return Err(RespError::Limit("elements"));
                }
                depth += 1;
                *expected.get_mut(depth).ok_or(RespError::Limit("nesting"))? = count;
            }
        }
    }
}

struct Header {
    /// Length of the line, CR and LF included.
    bytes: usize,
    follows: Follows,
}

enum Follows {
    Nothing,
    Bulk(usize),
    Elements(usize),
}

impl Header {
    fn parse(input: &[u8]) -> Result<Option<Self>, RespError> {
        let Some(&kind) = input.first() else { return Ok(None) };
        if !b"+-:$*".contains(&kind) {
            return Err(RespError::Kind(kind));
        }
        let Some(line) = line(input)? else { return Ok(None) };
        let follows = match kind {
            b'$' => length(line)?.map_or(Ok(Follows::Nothing), |len| match len <= BULK_BYTES_MAX {
                true => Ok(Follows::Bulk(len)),
                false => Err(RespError::Limit("the length of a bulk string")),
            })?,
            b'*' => length(line)?.map_or(Follows::Nothing, Follows::Elements),
            b':' => number(line).map(|_| Follows::Nothing)?,
            _ => Follows::Nothing,
        };
        Ok(Some(Self { bytes: line.len() + 3, follows }))
    }
}

/// What stands between the kind byte and CR LF.
fn line(input: &[u8]) -> Result<Option<&[u8]>, RespError> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(0) => Err(RespError::Header),
        Some(end) => Ok(Some(&window[1..end])),
        None if window.len() == LINE_BYTES_MAX => Err(RespError::Limit("the length of a line")),
        None => Ok(None),
    }
}

fn number(line: &[u8]) -> Result<i64, RespError> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(RespError::Header)
}

/// `None` for the nil that -1 stands for.
fn length(line: &[u8]) -> Result<Option<usize>, RespError> {
    match number(line)? {
        -1 => Ok(None),
        number => usize::try_from(number).map(Some).map_err(|_| RespError::Header),
    }
}

/// Takes the first reply off bytes that [`measure`] found whole; the recursion is limited by [`DEPTH_MAX`].
fn take(bytes: &mut Bytes) -> Result<Reply, RespError> {
    let kind = bytes.first().copied().ok_or(RespError::Header)?;
    let header = line(bytes)?.ok_or(RespError::Header)?.len();
    let text = bytes.slice(1..1 + header);
    bytes.advance(header + 3);
    Ok(match kind {
        b'+' => Reply::Status(text),
        b'-' => Reply::Error(String::from_utf8_lossy(&text).into_owned()),
        b':' => Reply::Integer(number(&text)?),
        b'$' => match length(&text)? {
            Some(len) => {
                let bulk = bytes.split_to(len);
                bytes.advance(2);
                Reply::Bulk(bulk)
            }
            None => Reply::Nil,
        },
        _ => match length(&text)? {
            Some(count) => Reply::Array((0..count).map(|_| take(bytes)).collect::<Result<_, _>>()?),
            None => Reply::Nil,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(reply: &Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Status(text) => out.extend([b"+", &text[..], b"\r\n"].concat()),
            Reply::Error(text) => out.extend(format!("-{text}\r\n").bytes()),
            Reply::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
            Reply::Bulk(bulk) => out.extend([format!("${}\r\n", bulk.len()).as_bytes(), bulk, b"\r\n"].concat()),
            Reply::Nil => out.extend(b"$-1\r\n"),
            Reply::Array(elements) => {
                out.extend(format!("*{}\r\n", elements.len()).bytes());
                elements.iter().for_each(|element| encode(element, out));
            }
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            "[a-z]{0,9}".prop_map(|text| Reply::Status(text.into())),
            "[A-Z]{1,9} [a-z ]{0,9}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bulk| Reply::Bulk(bulk.into())),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Reply::Array))
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded_however_it_is_cut(replies in proptest::collection::vec(any_reply(), 1..5), cut in 1_usize..40) {
            let mut wire = Vec::new();
            replies.iter().for_each(|reply| encode(reply, &mut wire));
            let (mut input, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(reply) = decode(&mut input).unwrap() {
                    decoded.push(reply);
                }
            }
            prop_assert_eq!(decoded, replies);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-'), Just(b':'), Just(b'+'), any::<u8>()], 0..200)) {
            let mut input = BytesMut::from(&noise[..]);
            while let Ok(Some(_)) = decode(&mut input) {}
        }
    }

    #[test]
    fn refuses_what_exceeds_the_limits() {
        let decode = |text: &str| decode(&mut BytesMut::from(text));
        assert_eq!(decode(&"*1\r\n".repeat(100_000)), Err(RespError::Limit("nesting")));
        assert_eq!(decode("*2000000\r\n"), Err(RespError::Limit("elements")));
        assert_eq!(decode("$99999999999\r\n"), Err(RespError::Limit("the length of a bulk string")));
        assert_eq!(decode(&format!("+{}", "x".repeat(70_000))), Err(RespError::Limit("the length of a line")));
        assert_eq!(decode("HTTP/1.1 400"), Err(RespError::Kind(b'H')));
        assert_eq!(decode("$-2\r\n"), Err(RespError::Header));
    }

    #[test]
    fn reserves_room_for_a_long_bulk_string_at_once() {
        let mut input = BytesMut::from("$70000000\r\n");
        assert_eq!(decode(&mut input), Ok(None));
        assert!(input.capacity() >= 70_000_000);
    }

    #[test]
    fn reserves_no_more_than_some_on_the_word_of_a_server() {
        let mut input = BytesMut::from("$2000000000\r\n");
        assert_eq!(decode(&mut input), Ok(None));
        assert!(input.capacity() < 2 * RESERVED_MAX, "{}", input.capacity());
    }
}

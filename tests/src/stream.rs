//! The data plane spoken by hand: what an agent does, one step at a time, for tests that break it.

use redis::{RedisResult, Value};

use crate::client::Client;
use crate::reply;

/// A stretch of a source's Active-Active backlog, as SYNCER.READ answers it and SYNCER.APPLY takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Instance that it was read from.
    pub instance: u8,
    /// Replication ID of the source.
    pub replid: String,
    /// Offset of its first byte in the source's backlog.
    pub from: i64,
    /// Offset behind its last byte.
    pub next: i64,
    /// Where the source's backlog ended.
    pub end: i64,
    /// The source's clock, Unix milliseconds.
    pub now_ms: i64,
    /// Groups, one behind the other.
    pub frames: Vec<u8>,
}

/// A handshake that the source has answered with CONTINUE.
pub struct Source {
    client: Client,
    instance: u8,
    replid: String,
}

/// What a target says of itself and of its position in a peer's backlog (SYNCER.PEER … INFO).
#[derive(Clone, Debug)]
pub struct Position {
    /// Instance of the target.
    pub instance: u8,
    /// Replication ID of the target.
    pub own_replid: String,
    /// Replication ID of the peer up to which it has applied.
    pub replid: String,
    /// Offset in the peer's backlog up to which it has applied.
    pub offset: i64,
    /// The target's clock, as a token.
    pub clock: Vec<u8>,
}

impl Position {
    /// Asks the target for its position in the backlog of `peer`.
    ///
    /// # Panics
    /// When it answers with an error.
    pub fn of(target: &mut Client, peer: u8) -> Self {
        let answer = target.ok(&format!("SYNCER.PEER {peer} INFO"));
        let [instance, own_replid, replid, offset, clock, _standing] = reply::items(&answer) else {
            panic!("SYNCER.PEER INFO answers {}", reply::text(&answer))
        };
        Self {
            instance: u8::try_from(reply::integer(instance)).expect("an instance id is small"),
            own_replid: reply::text(own_replid),
            replid: reply::text(replid),
            offset: reply::integer(offset),
            clock: reply::bytes(clock).to_vec(),
        }
    }
}

impl Source {
    /// Shakes hands with the source for `target`, and tells the target where reading begins.
    ///
    /// # Panics
    /// When the source does not answer CONTINUE.
    pub fn handshake(mut source: Client, peer: u8, target: &mut Client) -> Self {
        let position = Position::of(target, peer);
        let asked = psync(&mut source, &position);
        let [verdict, instance, replid, offset, ..] = reply::items(&asked) else {
            panic!("SYNCER.PSYNC answers {}", reply::text(&asked))
        };
        assert_eq!(reply::text(verdict), "CONTINUE", "{}", reply::text(&asked));
        assert_eq!(reply::integer(instance), i64::from(peer));
        let replid = reply::text(replid);
        target.ok(&format!("SYNCER.PEER {peer} POSITION {replid} {}", reply::integer(offset)));
        Self { client: source, instance: peer, replid }
    }

    /// The next stretch of the backlog; empty when nothing came within a tenth of a second.
    ///
    /// # Panics
    /// When the source answers with an error.
    pub fn read(&mut self) -> Chunk {
        self.read_up_to(1 << 20)
    }

    /// As [`Source::read`], at most so many bytes if there is more than one group.
    pub fn read_up_to(&mut self, bytes: usize) -> Chunk {
        let answer = self.client.ok(&format!("SYNCER.READ {bytes} 100"));
        let [from, next, end, now_ms, _flags, frames] = reply::items(&answer) else {
            panic!("SYNCER.READ answers {}", reply::text(&answer))
        };
        Chunk {
            instance: self.instance,
            replid: self.replid.clone(),
            from: reply::integer(from),
            next: reply::integer(next),
            end: reply::integer(end),
            now_ms: reply::integer(now_ms),
            frames: reply::bytes(frames).to_vec(),
        }
    }
}

/// Sends a PSYNC for a target at this position, and returns the answer, an error or not.
pub fn psync(source: &mut Client, position: &Position) -> Value {
    let (instance, offset) = (position.instance.to_string(), position.offset.to_string());
    let unknown = position.replid.bytes().all(|digit| matches!(digit, b'0' | b'?'));
    let (replid, offset) = if unknown { ("?", "-1") } else { (position.replid.as_str(), offset.as_str()) };
    let words = ["SYNCER.PSYNC", "1", "*", &instance, &position.own_replid, "*", replid, offset];
    let args: Vec<&[u8]> = words.into_iter().map(str::as_bytes).chain([position.clock.as_slice()]).collect();
    source.args(&args)
}

impl Chunk {
    /// Sends it to the target; the answer may be an error.
    ///
    /// # Panics
    /// When the connection breaks: no input may cost the server its life (I-10).
    pub fn apply(&self, target: &mut Client) -> Value {
        self.try_apply(target).unwrap_or_else(|error| panic!("SYNCER.APPLY broke the connection: {error}"))
    }

    /// Drops what lies before `offset`: the target has it.
    pub fn skip_to(&mut self, offset: i64) {
        let applied = usize::try_from(offset - self.from).expect("offsets only rise");
        self.frames.drain(..applied);
        self.from = offset;
    }

    /// Sends it to the target; `Err` when the connection breaks.
    pub fn try_apply(&self, target: &mut Client) -> RedisResult<Value> {
        let numbers = [self.from, self.next, self.end, self.now_ms].map(|number| number.to_string());
        let mut args: Vec<Vec<u8>> = vec![b"SYNCER.APPLY".to_vec(), self.instance.to_string().into_bytes()];
        args.push(self.replid.clone().into_bytes());
        args.extend(numbers.map(String::into_bytes));
        args.push(self.frames.clone());
        target.try_args(&args)
    }
}

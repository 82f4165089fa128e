//! What the writers write, as a function of who writes it: so a history needs no list of writes, only how far each writer came.
//!
//! Every write is one transaction that also adds its number to a log set. Transactions are atomic everywhere (I-1), so the logs that
//! are there in the end say exactly which writes survived, and those say exactly what counters, sets and registers must be.

use std::fmt;

/// How many counters, registers, sets and so on there are: few, so that writers meet.
pub const COUNTERS: u32 = 20;
/// See [`COUNTERS`].
pub const REGISTERS: u64 = 40;
/// See [`COUNTERS`].
pub const SETS: u64 = 20;
/// Numbers in one log set: few enough for the servers' compact encoding of integers.
pub const LOG_SPAN: u32 = 500;
/// Bits of a bitmap.
pub const BITS: u64 = 1 << 16;
/// A member that is added is removed so many writes later.
pub const REMOVED_AFTER: u32 = 40;

/// One write: of which site, of which of its writers, over which of its connections, the how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId {
    /// Instance id.
    pub site: u8,
    /// Writer at the site.
    pub writer: u8,
    /// Connection of the writer.
    pub epoch: u32,
    /// Number on the connection.
    pub n: u32,
}

impl fmt::Display for WriteId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}.{}", self.site, self.writer, self.epoch, self.n)
    }
}

impl std::str::FromStr for WriteId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self { site: next().parse()?, writer: next().parse()?, epoch: next().parse()?, n: next().parse()? })
    }
}

/// What a write does besides counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Sets a string to the write's name.
    Register(String),
    /// Sets a hash field to the write's name.
    Field(String, String),
    /// Adds the write's name to a set; nobody removes it.
    Add(String),
    /// Creates a key that expires.
    Expiring,
    /// Pushes the write's name to a list, at its head or tail; nobody pops it.
    Push(String, bool),
    /// Pushes the write's name to a list, and pops one.
    Queue(String),
    /// Adds an entry with the write's name to a stream.
    Entry(String),
    /// Sets a bit of a bitmap; nobody clears it.
    Bit(String, u64),
    /// Appends the write's name and a space to a string.
    Append(String),
    /// Whatever else must be the same everywhere in the end.
    Free(Vec<String>),
}

impl WriteId {
    /// The log set that this write adds its number to.
    pub fn log(&self) -> String {
        let Self { site, writer, epoch, n } = self;
        format!("log:{site}:{writer}:{epoch}:{}", n / LOG_SPAN)
    }

    /// The counter that it increments.
    pub fn counter(&self) -> u32 {
        self.n % COUNTERS
    }

    /// The set to which it adds its name, to be removed by a later write.
    pub fn removal_set(&self) -> String {
        format!("rem:{}", self.n % 8)
    }

    /// The earlier write whose name it removes from its removal set.
    pub fn removes(&self) -> Option<Self> {
        self.n.checked_sub(REMOVED_AFTER).map(|n| Self { n, ..*self })
    }

    /// What else it does.
    pub fn deed(&self) -> Deed {
        let dice = self.dice();
        let pick = |count: u64| (dice >> 8) % count;
        match dice % 24 {
            0..3 => Deed::Register(format!("reg:{}", pick(REGISTERS))),
            3..5 => Deed::Field(format!("hreg:{}", pick(4)), format!("f{}", (dice >> 20) % 20)),
            5..7 => Deed::Add(format!("add:{}", pick(SETS))),
            7 => Deed::Expiring,
            8 => Deed::Free(vec![
                format!("RPUSH list:{0}:{1} {self}", self.site, pick(4)),
                format!("LTRIM list:{0}:{1} -50 -1", self.site, pick(4)),
            ]),
            9 => Deed::Free(vec![format!("XADD stream:{0}:{1} MAXLEN 50 * f {self}", self.site, pick(2))]),
            10 => Deed::Free(vec![format!("SET big:{} {}", pick(12), "x".repeat(20_000))]),
            11 => Deed::Free(vec![format!("DEL big:{} shared:{}", pick(12), (dice >> 20) % 10)]),
            12 => Deed::Free(vec![
                format!("HSET shared:{} f{} {self}", pick(10), (dice >> 20) % 5),
                format!("HDEL shared:{} f{}", pick(10), (dice >> 24) % 5),
            ]),
            13 => Deed::Free(vec![
                format!("ZADD zset:{} {} m{}", pick(6), dice % 1000, (dice >> 20) % 20),
                format!("ZREM zset:{} m{}", pick(6), (dice >> 24) % 20),
                format!("SPOP pop:{}", pick(6)),
                format!("SADD pop:{} {self}", pick(6)),
            ]),
            14 => Deed::Free(vec![
                format!("SET ttl:{} {self} EX 1000", pick(10)),
                format!("PERSIST ttl:{}", (dice >> 20) % 10),
                format!("EXPIRE ttl:{} 2000", (dice >> 24) % 10),
            ]),
            15 | 16 => Deed::Push(format!("push:{}", pick(10)), dice & 128 == 0),
            17 => Deed::Queue(format!("queue:{}", pick(4))),
            18 | 19 => Deed::Entry(format!("entries:{}", pick(6))),
            20 => Deed::Bit(format!("bits:{}", pick(4)), (dice >> 20) % BITS),
            21 => Deed::Append(format!("appended:{}", pick(10))),
            _ => Deed::Free(vec![
                format!("APPEND text:{} {}", pick(10), dice % 10),
                format!("SETRANGE text:{} 100 {}", pick(10), dice % 7),
                format!("PFADD hll:{} {self}", pick(3)),
                format!("INCRBYFLOAT float:{} 0.25", pick(5)),
            ]),
        }
    }

    /// The whole transaction.
    pub fn commands(&self) -> Vec<String> {
        let counter = self.counter();
        let mut lines = vec![
            "MULTI".to_owned(),
            format!("SADD {} {}", self.log(), self.n),
            format!("INCR count:{counter}"),
            format!("HINCRBY counts f{counter} 2"),
            format!("ZINCRBY board 3 m{counter}"),
            format!("SADD {} {self}", self.removal_set()),
        ];
        if let Some(earlier) = self.removes() {
            lines.push(format!("SREM {} {earlier}", earlier.removal_set()));
        }
        match self.deed() {
            Deed::Register(key) => lines.push(format!("SET {key} {self}")),
            Deed::Field(key, field) => lines.push(format!("HSET {key} {field} {self}")),
            Deed::Add(key) => lines.push(format!("SADD {key} {self}")),
            Deed::Expiring => lines.push(format!("SET tmp:{self} x PX {}", EXPIRING_MS)),
            Deed::Push(key, at_head) => {
                lines.push(format!("{} {key} {self}", if at_head { "LPUSH" } else { "RPUSH" }));
            }
            // The pop comes last: its reply is looked for there.
            Deed::Queue(key) => lines.extend([format!("RPUSH {key} {self}"), format!("LPOP {key}")]),
            Deed::Entry(key) => lines.push(format!("XADD {key} * by {self}")),
            Deed::Bit(key, offset) => lines.push(format!("SETBIT {key} {offset} 1")),
            Deed::Append(key) => lines.push(format!("APPEND {key} \"{self} \"")),
            Deed::Free(more) => lines.extend(more),
        }
        lines.push("EXEC".to_owned());
        lines
    }

    /// Different bits for every write, the same every time (SplitMix64).
    fn dice(&self) -> u64 {
        let Self { site, writer, epoch, n } = *self;
        let mut z = (u64::from(site) << 56) ^ (u64::from(writer) << 48) ^ (u64::from(epoch) << 32) ^ u64::from(n);
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How long keys that expire live.
pub const EXPIRING_MS: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_found_again_by_its_name() {
        let id = WriteId { site: 3, writer: 1, epoch: 7, n: 1234 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.commands(), id.commands());
        assert!(("3.1.x.4").parse::<WriteId>().is_err());
    }
}

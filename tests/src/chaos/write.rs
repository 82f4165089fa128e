//! What the writers write, as a function of who writes it: so a history needs no list of writes, only how far each writer came.
//!
//! Every write is one transaction that also adds its number to a log set. Transactions are atomic everywhere (I-1), so the logs that
//! are there in the end say exactly which writes survived, and those say exactly what counters, sets and registers must be.

use std::fmt;

use super::free;

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
    /// Pushes the write's name to a list that is cut to its last [`KEPT`].
    CappedList(String),
    /// The same with a stream.
    CappedStream(String),
    /// Sets a string to the write's name, with a TTL, and changes TTLs of others.
    Ttl(String, [String; 2]),
    /// Adds a quarter to a float.
    Quarter(String),
    /// Adds the write's name to a HyperLogLog.
    Sketch(String),
    /// Adds the write's name to a set; every second takes any one.
    Pool(String),
    /// Puts the write's name into the middle of a list; nobody takes it away.
    Insert(String),
    /// Adds an entry with the write's name to a stream, has a consumer group deliver some; every third acknowledges some.
    Job(String),
    /// Loads a library whose function answers with the write's name.
    Library(String),
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
        match dice % 35 {
            0..4 => Deed::Register(format!("reg:{}", pick(REGISTERS))),
            4..6 => Deed::Field(format!("hreg:{}", pick(4)), format!("f{}", (dice >> 20) % 20)),
            6..8 => Deed::Add(format!("add:{}", pick(SETS))),
            8 => Deed::Expiring,
            9 | 10 => Deed::Push(format!("push:{}", pick(10)), dice & 128 == 0),
            11 => Deed::Queue(format!("queue:{}", pick(4))),
            12 | 13 => Deed::Entry(format!("entries:{}", pick(6))),
            14 => Deed::Bit(format!("bits:{}", pick(4)), (dice >> 20) % BITS),
            15 => Deed::Append(format!("appended:{}", pick(10))),
            16 => Deed::CappedList(format!("list:{}:{}", self.site, pick(4))),
            17 => Deed::CappedStream(format!("stream:{}:{}", self.site, pick(2))),
            18 => Deed::Ttl(
                format!("ttl:{}", pick(10)),
                [(dice >> 20) % 10, (dice >> 24) % 10].map(|other| format!("ttl:{other}")),
            ),
            19 => Deed::Quarter(format!("float:{}", pick(5))),
            20 => Deed::Sketch(format!("hll:{}", pick(3))),
            21 => Deed::Pool(format!("pool:{}", pick(6))),
            22 => Deed::Insert(format!("insert:{}", pick(10))),
            23 | 24 => Deed::Job(format!("jobs:{}", pick(4))),
            // Each has to be compiled at each node.
            25 if pick(8) == 0 => Deed::Library(((dice >> 20) % LIBRARIES).to_string()),
            other => Deed::Free(free::commands(self, other, dice >> 8)),
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
            // What takes something comes last: its reply is looked for there ([`Deed::takes`]).
            Deed::Queue(key) => lines.extend([format!("RPUSH {key} {self}"), format!("LPOP {key}")]),
            Deed::Pool(key) => {
                lines.push(format!("SADD {key} {self}"));
                lines.extend(self.n.is_multiple_of(2).then(|| format!("SPOP {key}")));
            }
            Deed::Job(key) => {
                lines.extend([
                    format!("XGROUP CREATE {key} {GROUP} 0 MKSTREAM"),
                    format!("XADD {key} * by {self}"),
                    format!("XREADGROUP GROUP {GROUP} c{} COUNT 2 STREAMS {key} >", self.site),
                ]);
                let acknowledge = || format!("EVAL \"{WORK}\" 1 {key} {GROUP} c{}", self.writer);
                // Not all: some are always pending.
                lines.extend(self.n.is_multiple_of(3).then(acknowledge));
            }
            Deed::Entry(key) => lines.push(format!("XADD {key} * by {self}")),
            Deed::Bit(key, offset) => lines.push(format!("SETBIT {key} {offset} 1")),
            Deed::Append(key) => lines.push(format!("APPEND {key} \"{self} \"")),
            Deed::CappedList(key) => {
                lines.extend([format!("RPUSH {key} {self}"), format!("LTRIM {key} -{KEPT} -1")]);
            }
            Deed::CappedStream(key) => lines.push(format!("XADD {key} MAXLEN {KEPT} * by {self}")),
            Deed::Ttl(key, [persists, expires]) => lines.extend([
                format!("SET {key} {self} EX {}", TTLS[0]),
                format!("PERSIST {persists}"),
                format!("EXPIRE {expires} {}", TTLS[1]),
            ]),
            Deed::Quarter(key) => lines.push(format!("INCRBYFLOAT {key} 0.25")),
            Deed::Sketch(key) => lines.push(format!("PFADD {key} {self}")),
            Deed::Insert(key) => lines.push(format!("EVAL \"{INSERT}\" 1 {key} {self}")),
            Deed::Library(name) => lines.push(format!(
                "FUNCTION LOAD REPLACE \"#!lua name=library{name}\\nredis.register_function{{function_name='f{name}',\
                 callback=function() return '{self}' end,flags={{'no-writes'}}}}\""
            )),
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

impl Deed {
    /// What it may take at most: names of writes, in the last reply of its transaction.
    pub fn takes(&self) -> usize {
        match self {
            Self::Queue(_) | Self::Pool(_) => 1,
            Self::Job(_) => ACKNOWLEDGED,
            _ => 0,
        }
    }
}

/// How long keys that expire live.
pub const EXPIRING_MS: u64 = 2_000;
/// What capped lists and streams are cut to.
pub const KEPT: usize = 20;
/// Seconds that other keys with a TTL live, as written and as changed.
pub const TTLS: [i64; 2] = [1_000, 2_000];
/// How many libraries there are.
pub const LIBRARIES: u64 = 3;
/// The consumer group of [`Deed::Job`].
pub const GROUP: &str = "workers";
/// Acknowledges the longest pending two, whoever has them, and answers with their names.
const WORK: &str = "local names={} \
    for _,entry in ipairs(redis.call('XAUTOCLAIM',KEYS[1],ARGV[1],ARGV[2],0,'0','COUNT',2)[2]) do \
    redis.call('XACK',KEYS[1],ARGV[1],entry[1]) names[#names+1]=entry[2][2] end return names";
/// So many.
const ACKNOWLEDGED: usize = 2;
/// Before the first mark of a list, which is made first if there is none.
const INSERT: &str = "if redis.call('LINSERT',KEYS[1],'BEFORE','|',ARGV[1])<1 then \
    redis.call('RPUSH',KEYS[1],ARGV[1],'|') end";

/// Errors of single commands that stock servers answer with, too: keys of several types, groups that are there, or are not, and so on.
const STOCK_ERRORS: [&str; 5] = ["WRONGTYPE", "BUSYGROUP", "NOGROUP", "no such key", "index out of range"];

/// Whether this error of a command in a transaction says nothing against Syncer.
pub fn is_stock_error(error: &str) -> bool {
    STOCK_ERRORS.iter().any(|known| error.contains(known))
}

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

//! The commands that throughput is measured with.

/// One command over random keys.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What tables call it.
    pub name: &'static str,
    /// The command, with `__rand_int__` where redis-benchmark puts a number.
    pub command: &'static [&'static str],
    /// Lines of a reply.
    pub lines: u64,
    /// The command that makes, with the same numbers, what this one takes: it runs before, unmeasured, as often.
    pub takes: Option<&'static [&'static str]>,
    /// So many of it in one MULTI and EXEC, which count as one operation; 0 for none.
    pub transaction: usize,
    /// Whether it changes the dataset.
    pub writes: bool,
}

impl Workload {
    /// How many commands one operation sends, and gets replies to.
    #[must_use]
    pub const fn commands(&self) -> usize {
        if self.transaction == 0 { 1 } else { self.transaction + 2 }
    }

    /// What makes what it takes.
    #[must_use]
    pub fn maker(self) -> Option<Self> {
        self.takes.map(|command| Self { command, lines: 1, takes: None, ..self })
    }

    /// The commands of one operation with its random numbers, as redis-benchmark writes them.
    #[must_use]
    pub fn operation(&self, random: &mut fastrand::Rng) -> Vec<Vec<Vec<u8>>> {
        let mut number = |part: &&str| match part.split_once("__rand_int__") {
            Some((name, _)) => format!("{name}{:012}", random.u64(..KEYS)).into_bytes(),
            None => (*part).into(),
        };
        let mut command = || self.command.iter().map(&mut number).collect();
        match self.transaction {
            0 => vec![command()],
            count => {
                let word = |word: &str| vec![vec![word.into()]];
                [word("MULTI"), (0..count).map(|_| command()).collect(), word("EXEC")].concat()
            }
        }
    }
}

/// How many different numbers stand for `__rand_int__`.
pub const KEYS: u64 = 100_000;

/// The value of strings and hash fields, 16 bytes.
pub const VALUE: &str = "0123456789abcdef";

/// Every write makes something new, since a repeated SADD would measure something else.
pub const WORKLOADS: [Workload; 15] = [
    Workload { lines: 2, writes: false, ..write("GET", &["GET", "key:__rand_int__"]) },
    SET,
    write("INCR", &["INCR", "count:__rand_int__"]),
    write("HSET", &["HSET", "hash:__rand_int__", "field:__rand_int__", VALUE]),
    write("SADD", &SADD),
    Workload { takes: Some(&SADD), ..write("SREM", &["SREM", "set:__rand_int__", "member:__rand_int__"]) },
    write("ZADD", &["ZADD", "board:__rand_int__", "__rand_int__", "member:__rand_int__"]),
    Workload { lines: 2, ..write("XADD", &["XADD", "stream:__rand_int__", "*", "field", VALUE]) },
    write("LPUSH", &LPUSH),
    Workload { lines: 2, takes: Some(&LPUSH), ..write("RPOP", &["RPOP", "queue"]) },
    write("PFADD", &["PFADD", "visitors:__rand_int__", "visitor:__rand_int__"]),
    write("SETBIT", &["EVAL", SETBIT, "1", "bitmap", "__rand_int__"]),
    write("HSET10", &HSET10),
    Workload { name: "MULTI10", transaction: 10, ..SET },
    write("LUA10", &["EVAL", LUA10, "1", "key:__rand_int__", VALUE]),
];

/// The plainest write.
pub const SET: Workload = write("SET", &["SET", "key:__rand_int__", VALUE]);

const fn write(name: &'static str, command: &'static [&'static str]) -> Workload {
    Workload { name, command, lines: 1, takes: None, transaction: 0, writes: true }
}

const SADD: [&str; 3] = ["SADD", "set:__rand_int__", "member:__rand_int__"];

/// A queue.
const LPUSH: [&str; 3] = ["LPUSH", "queue", VALUE];

/// In one bitmap of 12 MB. In a script: redis-benchmark's numbers have zeros before them, which SETBIT does not take.
const SETBIT: &str = "return redis.call('SETBIT', KEYS[1], 99999999 - tonumber(ARGV[1]), 1)";

/// A small object.
const HSET10: [&str; 22] = [
    "HSET",
    "object:__rand_int__",
    "f0",
    VALUE,
    "f1",
    VALUE,
    "f2",
    VALUE,
    "f3",
    VALUE,
    "f4",
    VALUE,
    "f5",
    VALUE,
    "f6",
    VALUE,
    "f7",
    VALUE,
    "f8",
    VALUE,
    "f9",
    VALUE,
];

/// Ten writes in one script: they arrive at the peer in one step.
const LUA10: &str = "for i = 1, 10 do redis.call('SET', KEYS[1] .. ':' .. i, ARGV[1]) end";

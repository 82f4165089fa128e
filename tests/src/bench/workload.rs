//! The commands that throughput is measured with.

/// One command over random keys.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What tables call it.
    pub name: &'static str,
    /// The command, with `__rand_int__` where redis-benchmark puts a number.
    pub command: &'static [&'static str],
    /// Whether it changes the dataset.
    pub writes: bool,
}

/// How many different numbers stand for `__rand_int__`.
pub const KEYS: u64 = 100_000;

/// The value of strings and hash fields, 16 bytes.
pub const VALUE: &str = "0123456789abcdef";

/// Every write makes something new, since a repeated SADD would measure something else.
pub const WORKLOADS: [Workload; 13] = [
    Workload { name: "GET", command: &["GET", "key:__rand_int__"], writes: false },
    SET,
    Workload { name: "INCR", command: &["INCR", "count:__rand_int__"], writes: true },
    Workload { name: "HSET", command: &["HSET", "hash:__rand_int__", "field:__rand_int__", VALUE], writes: true },
    Workload { name: "SADD", command: &["SADD", "set:__rand_int__", "member:__rand_int__"], writes: true },
    Workload {
        name: "ZADD",
        command: &["ZADD", "board:__rand_int__", "__rand_int__", "member:__rand_int__"],
        writes: true,
    },
    Workload { name: "XADD", command: &["XADD", "stream:__rand_int__", "*", "field", VALUE], writes: true },
    Workload { name: "LPUSH", command: &["LPUSH", "queue", VALUE], writes: true },
    // Takes what LPUSH has left; then it finds nothing, as on the stock server.
    Workload { name: "RPOP", command: &["RPOP", "queue"], writes: true },
    Workload { name: "PFADD", command: &["PFADD", "visitors:__rand_int__", "visitor:__rand_int__"], writes: true },
    Workload { name: "SETBIT", command: &["EVAL", SETBIT, "1", "bitmap", "__rand_int__"], writes: true },
    Workload { name: "HSET10", command: &HSET10, writes: true },
    Workload { name: "LUA10", command: &["EVAL", LUA10, "1", "key:__rand_int__", VALUE], writes: true },
];

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

/// The plainest write.
pub const SET: Workload = Workload { name: "SET", command: &["SET", "key:__rand_int__", VALUE], writes: true };

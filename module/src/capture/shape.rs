//! What we know about the write commands of the servers: how their arguments say what they change.

use syncer_shared::list::End;
use syncer_shared::number::parse_float;

/// How to read the arguments of a staged command, once its event has told that it did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `SET key value [options]`.
    Set,
    /// `SETEX key ttl value`, `PSETEX`.
    SetEx,
    /// `SETNX key value`, `GETSET`.
    SetPlain,
    /// `MSET key value ...`, `MSETNX`.
    MSet,
    /// `MSETEX count key value ... [options]`.
    MSetEx,
    /// `INCR key` (1), `DECR key` (-1).
    IncrOne(i8),
    /// `INCRBY key delta` (1), `DECRBY key delta` (-1).
    IncrBy(i8),
    /// `INCRBYFLOAT key delta`.
    IncrFloat,
    /// `SETBIT key offset bit`.
    SetBit,
    /// `SETRANGE key offset value`.
    SetRange,
    /// `APPEND key value`.
    Append,
    /// `BITFIELD key operation ...`.
    BitField,
    /// `BITOP operation target source ...`: what it changes of its target is looked at.
    BitOp,
    /// `PFADD key element ...`.
    PfAdd,
    /// `PFMERGE key source ...`.
    PfMerge,
    /// `PFCOUNT key ...`: it writes down what it counted, which is no change.
    PfCount,
    /// `HSET key field value ...`, `HMSET`, `HSETNX`.
    HSet,
    /// `HDEL key field ...`.
    HDel,
    /// `HGETDEL key FIELDS count field ...`.
    HGetDel,
    /// `HEXPIRE key time [condition] FIELDS count field ...`, `HPERSIST`, `HGETEX`: the fields are looked at afterwards.
    HTtl,
    /// `HSETEX key [options] FIELDS count field value ...`: likewise.
    HSetEx,
    /// `HINCRBY key field delta`.
    HIncrBy,
    /// `HINCRBYFLOAT key field delta`.
    HIncrFloat,
    /// `SADD key member ...`.
    SAdd,
    /// `SREM key member ...`.
    SRem,
    /// `SMOVE source target member`.
    SMove,
    /// `SPOP key [count]`.
    SPop,
    /// `ZADD key [flags] score member ...`.
    ZAdd,
    /// `ZINCRBY key delta member`.
    ZIncrBy,
    /// `ZREM key member ...`.
    ZRem,
    /// `ZPOPMIN key [count]`, `ZPOPMAX`; `BZPOPMIN key ... timeout`, `ZMPOP`, ...: whether the reply begins with the key.
    ZPop {
        /// `BZPOPMIN`, `BZPOPMAX`, `ZMPOP`, `BZMPOP`: it does.
        names_key: bool,
    },
    /// `ZREMRANGEBYRANK key start stop`.
    ZRemByRank,
    /// `ZREMRANGEBYSCORE key min max`.
    ZRemByScore,
    /// `ZREMRANGEBYLEX key min max`.
    ZRemByLex,
    /// `GEOADD key [flags] longitude latitude member ...`.
    GeoAdd,
    /// `LPUSH key element ...`, `LPUSHX`; `RPUSH`, `RPUSHX`.
    ListPush(End),
    /// `LPOP key [count]`, `RPOP`.
    ListPop(End),
    /// `BLPOP key ... timeout`, `BRPOP`: one element of one of the keys.
    ListPopOne(End),
    /// `LMPOP count key ... LEFT|RIGHT [COUNT n]` (1), `BLMPOP timeout count key ...` (2): where the number of keys is.
    ListPopMany(u8),
    /// `LTRIM key start stop`.
    ListTrim,
    /// `LSET key index element`.
    ListSet,
    /// `LINSERT key BEFORE|AFTER pivot element`: the place is looked up before.
    ListInsert,
    /// `LREM key count element`: the places are looked up before.
    ListRemove,
    /// `LMOVE source target LEFT|RIGHT LEFT|RIGHT`, `BLMOVE`; without ends `RPOPLPUSH`, `BRPOPLPUSH`. The reply tells the element.
    ListMove,
    /// `EXPIRE key ttl`, `GETEX key [options]`, ...: the event tells all, but for a time in the past.
    Ttl(TtlUnit),
    /// `COPY source target [DB db]`.
    Copy,
    /// `MOVE key db`.
    Move,
    /// `PUBLISH channel message`, `SPUBLISH`.
    Publish {
        /// `SPUBLISH`.
        sharded: bool,
    },
    /// `FUNCTION LOAD`, ...: the libraries are compared before and after.
    Functions,
    /// A command on a stream: see `stream/`.
    Stream,
    /// Events tell nothing, or too little: the keys it may write are compared before and after.
    Whole,
}

impl Shape {
    /// Whether it changes a string in part: what was there before is looked at.
    #[must_use]
    pub const fn is_patch(self) -> bool {
        matches!(self, Self::SetBit | Self::SetRange | Self::Append | Self::BitField)
    }
}

/// What the time argument of a TTL command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlUnit {
    /// From now on: past when not above zero.
    Relative,
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Milliseconds,
    /// In the options `EXAT`, `PXAT`.
    Options,
}

/// What the filter does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes no data.
    Read,
    /// Its events tell all.
    Events,
    /// Its arguments are staged; in MULTI, where the filter does not run, it goes through `SYNCER.CALL`.
    Stage(Shape),
    /// The same, when it has no flags; with flags always through `SYNCER.CALL`.
    StagePlain(Shape),
    /// Its arguments are staged; in MULTI events are enough. `SET` must not go through `SYNCER.CALL`: an argument that
    /// two commands hold is not stored as an integer.
    StageOnly(Shape),
    /// Always through `SYNCER.CALL`.
    Call(Shape),
    /// Through `SYNCER.CALL` when it cannot or need not block.
    Block(Shape),
    /// `COPY`, `MOVE`: events tell all, but Valkey 9.1 gives them the wrong database in MULTI, and Valkey 8.1 leaves the
    /// client in the other one (CAPTURE 6): there they go through `SYNCER.CALL`.
    Between(Shape),
    /// Through `SYNCER.CALL` when messages on its channel travel.
    Publish(Shape),
    /// `FUNCTION`: what changes libraries goes through `SYNCER.CALL` when they travel.
    Functions,
    /// `MULTI`.
    Multi,
    /// `EXEC`, `DISCARD`, `RESET`.
    EndMulti,
    /// `EVAL` and the like: commands of no connection follow.
    Script,
    /// `SELECT`.
    Select,
    /// `CLIENT`.
    Client,
}

impl Class {
    /// How to read the arguments, for commands that `SYNCER.CALL` may run.
    #[must_use]
    pub const fn shape(self) -> Option<Shape> {
        match self {
            Self::Stage(shape) | Self::StagePlain(shape) | Self::StageOnly(shape) => Some(shape),
            Self::Call(shape) | Self::Block(shape) | Self::Between(shape) | Self::Publish(shape) => Some(shape),
            Self::Functions => Some(Shape::Functions),
            Self::Read | Self::Events | Self::Multi | Self::EndMulti => None,
            Self::Script | Self::Select | Self::Client => None,
        }
    }
}

/// The commands of Redis 8 and Valkey 9 that are not captured whole. A write command that is not here is
/// [`Class::Call`] of [`Shape::Whole`], so that no write of a later server or another module is missed.
pub const KNOWN: &[(&str, Class)] = &[
    ("set", Class::StageOnly(Shape::Set)),
    ("setex", Class::StageOnly(Shape::SetEx)),
    ("psetex", Class::StageOnly(Shape::SetEx)),
    ("setnx", Class::StageOnly(Shape::SetPlain)),
    ("getset", Class::StageOnly(Shape::SetPlain)),
    ("mset", Class::StageOnly(Shape::MSet)),
    ("msetnx", Class::StageOnly(Shape::MSet)),
    ("msetex", Class::StageOnly(Shape::MSetEx)),
    ("incr", Class::Stage(Shape::IncrOne(1))),
    ("decr", Class::Stage(Shape::IncrOne(-1))),
    ("incrby", Class::Stage(Shape::IncrBy(1))),
    ("decrby", Class::Stage(Shape::IncrBy(-1))),
    ("incrbyfloat", Class::Call(Shape::IncrFloat)),
    ("append", Class::Stage(Shape::Append)),
    ("setrange", Class::Stage(Shape::SetRange)),
    ("setbit", Class::Stage(Shape::SetBit)),
    ("bitfield", Class::Call(Shape::BitField)),
    ("bitop", Class::Call(Shape::BitOp)),
    ("pfadd", Class::Stage(Shape::PfAdd)),
    ("pfmerge", Class::Call(Shape::PfMerge)),
    ("pfcount", Class::Call(Shape::PfCount)),
    ("getdel", Class::Events),
    ("delifeq", Class::Events),
    ("getex", Class::StageOnly(Shape::Ttl(TtlUnit::Options))),
    ("hset", Class::Stage(Shape::HSet)),
    ("hmset", Class::Stage(Shape::HSet)),
    ("hsetnx", Class::Stage(Shape::HSet)),
    ("hdel", Class::Stage(Shape::HDel)),
    ("hgetdel", Class::Stage(Shape::HGetDel)),
    ("hsetex", Class::Stage(Shape::HSetEx)),
    ("hgetex", Class::Stage(Shape::HTtl)),
    ("hexpire", Class::Stage(Shape::HTtl)),
    ("hpexpire", Class::Stage(Shape::HTtl)),
    ("hexpireat", Class::Stage(Shape::HTtl)),
    ("hpexpireat", Class::Stage(Shape::HTtl)),
    ("hpersist", Class::Stage(Shape::HTtl)),
    ("hincrby", Class::Stage(Shape::HIncrBy)),
    ("hincrbyfloat", Class::Call(Shape::HIncrFloat)),
    ("sadd", Class::Stage(Shape::SAdd)),
    ("srem", Class::Stage(Shape::SRem)),
    ("smove", Class::Stage(Shape::SMove)),
    ("spop", Class::Call(Shape::SPop)),
    ("sinterstore", Class::Events),
    ("sunionstore", Class::Events),
    ("sdiffstore", Class::Events),
    ("zadd", Class::StagePlain(Shape::ZAdd)),
    ("zincrby", Class::Call(Shape::ZIncrBy)),
    ("zrem", Class::Stage(Shape::ZRem)),
    ("zpopmin", Class::Call(Shape::ZPop { names_key: false })),
    ("zpopmax", Class::Call(Shape::ZPop { names_key: false })),
    ("zmpop", Class::Call(Shape::ZPop { names_key: true })),
    ("bzpopmin", Class::Block(Shape::ZPop { names_key: true })),
    ("bzpopmax", Class::Block(Shape::ZPop { names_key: true })),
    ("bzmpop", Class::Block(Shape::ZPop { names_key: true })),
    ("zremrangebyrank", Class::Call(Shape::ZRemByRank)),
    ("zremrangebyscore", Class::Call(Shape::ZRemByScore)),
    ("zremrangebylex", Class::Call(Shape::ZRemByLex)),
    ("zrangestore", Class::Events),
    ("zunionstore", Class::Events),
    ("zinterstore", Class::Events),
    ("zdiffstore", Class::Events),
    ("geoadd", Class::Call(Shape::GeoAdd)),
    ("geosearchstore", Class::Events),
    ("georadius", Class::Events),
    ("georadiusbymember", Class::Events),
    ("del", Class::Events),
    ("unlink", Class::Events),
    ("rename", Class::Events),
    ("renamenx", Class::Events),
    ("copy", Class::Between(Shape::Copy)),
    ("move", Class::Between(Shape::Move)),
    ("restore", Class::Events),
    ("restore-asking", Class::Events),
    ("migrate", Class::Events),
    ("sort", Class::Events),
    ("expire", Class::StageOnly(Shape::Ttl(TtlUnit::Relative))),
    ("pexpire", Class::StageOnly(Shape::Ttl(TtlUnit::Relative))),
    ("expireat", Class::StageOnly(Shape::Ttl(TtlUnit::Seconds))),
    ("pexpireat", Class::StageOnly(Shape::Ttl(TtlUnit::Milliseconds))),
    ("persist", Class::Events),
    ("flushdb", Class::Events),
    ("flushall", Class::Events),
    ("swapdb", Class::Events),
    ("lpush", Class::Stage(Shape::ListPush(End::Head))),
    ("rpush", Class::Stage(Shape::ListPush(End::Tail))),
    ("lpushx", Class::Stage(Shape::ListPush(End::Head))),
    ("rpushx", Class::Stage(Shape::ListPush(End::Tail))),
    ("lpop", Class::Stage(Shape::ListPop(End::Head))),
    ("rpop", Class::Stage(Shape::ListPop(End::Tail))),
    ("ltrim", Class::Stage(Shape::ListTrim)),
    ("linsert", Class::Call(Shape::ListInsert)),
    ("lset", Class::Stage(Shape::ListSet)),
    ("lrem", Class::Call(Shape::ListRemove)),
    ("lmove", Class::Call(Shape::ListMove)),
    ("rpoplpush", Class::Call(Shape::ListMove)),
    ("lmpop", Class::Stage(Shape::ListPopMany(1))),
    ("blpop", Class::Stage(Shape::ListPopOne(End::Head))),
    ("brpop", Class::Stage(Shape::ListPopOne(End::Tail))),
    ("blmove", Class::Block(Shape::ListMove)),
    ("brpoplpush", Class::Block(Shape::ListMove)),
    ("blmpop", Class::Stage(Shape::ListPopMany(2))),
    ("xadd", Class::Call(Shape::Stream)),
    ("xtrim", Class::Call(Shape::Stream)),
    ("xdel", Class::Call(Shape::Stream)),
    ("xdelex", Class::Call(Shape::Stream)),
    ("xack", Class::Call(Shape::Stream)),
    ("xackdel", Class::Call(Shape::Stream)),
    ("xclaim", Class::Call(Shape::Stream)),
    ("xautoclaim", Class::Call(Shape::Stream)),
    ("xgroup", Class::Call(Shape::Stream)),
    ("xsetid", Class::Call(Shape::Stream)),
    ("xreadgroup", Class::Block(Shape::Stream)),
    ("function", Class::Functions),
    // No data, though subcommands have the write flag.
    ("script", Class::Read),
    ("publish", Class::Publish(Shape::Publish { sharded: false })),
    ("spublish", Class::Publish(Shape::Publish { sharded: true })),
    ("eval", Class::Script),
    ("evalsha", Class::Script),
    ("fcall", Class::Script),
    ("multi", Class::Multi),
    ("exec", Class::EndMulti),
    ("discard", Class::EndMulti),
    ("reset", Class::EndMulti),
    ("select", Class::Select),
    ("client", Class::Client),
];

/// Whether the argument after the key of `ZADD` is a flag, and no score.
#[must_use]
pub fn has_flags(argument: Option<&[u8]>) -> bool {
    argument.is_some_and(|text| text.first().is_some_and(u8::is_ascii_alphabetic) && parse_float(text).is_none())
}

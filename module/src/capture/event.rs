//! Keyspace events: what their names say happened to a key.

use super::name::short;

/// What an event says. Those that say nothing by themselves need the staged command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was just created; the event of the command follows.
    New,
    /// The key was replaced or its type changed; the event of the command comes too.
    Ignored,
    /// Deleted, or emptied.
    Del,
    /// Its TTL has passed, or (Valkey) a command set one in the past.
    Expired,
    /// Evicted for memory.
    Evicted,
    /// Got a TTL.
    Expire,
    /// Lost its TTL.
    Persist,
    /// Went elsewhere.
    MovedAway,
    /// A string was replaced.
    Set,
    /// A string was changed in part: the whole new value is looked at.
    Patched,
    /// An integer was added to a string.
    Incr,
    /// A float was added to a string.
    IncrFloat,
    /// Fields were set.
    HSet,
    /// Fields were deleted.
    HDel,
    /// Fields got or lost a TTL.
    HTtl,
    /// Fields have expired; which is not said.
    HExpired,
    /// An integer was added to a field.
    HIncr,
    /// A float was added to a field.
    HIncrFloat,
    /// Members were added to a set.
    SAdd,
    /// Members were removed from a set.
    SRem,
    /// Random members were removed from a set.
    SPop,
    /// Members were added to a sorted set, or got a score.
    ZAdd,
    /// A score was incremented.
    ZIncr,
    /// Members were removed from a sorted set.
    ZRem,
    /// First or last members were removed from a sorted set.
    ZPop,
    /// A range was removed from a sorted set.
    ZRemRange,
    /// Elements came at the left of a list.
    LPush,
    /// Elements came at the right of a list.
    RPush,
    /// Elements went from the left of a list.
    LPop,
    /// Elements went from the right of a list.
    RPop,
    /// Both ends of a list were cut, or nothing.
    LTrim,
    /// An element came into a list.
    LInsert,
    /// An element of a list was replaced.
    LSet,
    /// Elements of a value went from a list.
    LRem,
    /// The whole key was made by the command: `RENAME`, `COPY`, `*STORE`, `RESTORE`.
    Replaced,
    /// Something happened to a stream; what, its command tells.
    Stream,
    /// Anything else: the key is captured whole.
    Other,
}

impl Event {
    /// By the name that the server gives.
    #[must_use]
    pub fn parse(name: &[u8]) -> Self {
        const NEW: u128 = short(b"new");
        const OVERWRITTEN: u128 = short(b"overwritten");
        const TYPE_CHANGED: u128 = short(b"type_changed");
        const DEL: u128 = short(b"del");
        const EXPIRED: u128 = short(b"expired");
        const EVICTED: u128 = short(b"evicted");
        const EXPIRE: u128 = short(b"expire");
        const PERSIST: u128 = short(b"persist");
        const RENAME_FROM: u128 = short(b"rename_from");
        const MOVE_FROM: u128 = short(b"move_from");
        const SET: u128 = short(b"set");
        const APPEND: u128 = short(b"append");
        const SETRANGE: u128 = short(b"setrange");
        const SETBIT: u128 = short(b"setbit");
        const PFADD: u128 = short(b"pfadd");
        const INCRBY: u128 = short(b"incrby");
        const INCRBYFLOAT: u128 = short(b"incrbyfloat");
        const HSET: u128 = short(b"hset");
        const HDEL: u128 = short(b"hdel");
        const HEXPIRE: u128 = short(b"hexpire");
        const HPERSIST: u128 = short(b"hpersist");
        const HEXPIRED: u128 = short(b"hexpired");
        const HINCRBY: u128 = short(b"hincrby");
        const HINCRBYFLOAT: u128 = short(b"hincrbyfloat");
        const SADD: u128 = short(b"sadd");
        const SREM: u128 = short(b"srem");
        const SPOP: u128 = short(b"spop");
        const ZADD: u128 = short(b"zadd");
        const ZINCR: u128 = short(b"zincr");
        const ZREM: u128 = short(b"zrem");
        const ZPOPMIN: u128 = short(b"zpopmin");
        const ZPOPMAX: u128 = short(b"zpopmax");
        const BY_RANK: u128 = short(b"zremrangebyrank");
        const BY_SCORE: u128 = short(b"zremrangebyscore");
        const BY_LEX: u128 = short(b"zremrangebylex");
        const XADD: u128 = short(b"xadd");
        const XTRIM: u128 = short(b"xtrim");
        const XDEL: u128 = short(b"xdel");
        const XSETID: u128 = short(b"xsetid");
        const LPUSH: u128 = short(b"lpush");
        const RPUSH: u128 = short(b"rpush");
        const LPOP: u128 = short(b"lpop");
        const RPOP: u128 = short(b"rpop");
        const LTRIM: u128 = short(b"ltrim");
        const LINSERT: u128 = short(b"linsert");
        const LSET: u128 = short(b"lset");
        const LREM: u128 = short(b"lrem");
        const RENAME_TO: u128 = short(b"rename_to");
        const MOVE_TO: u128 = short(b"move_to");
        const COPY_TO: u128 = short(b"copy_to");
        const RESTORE: u128 = short(b"restore");
        const SORTSTORE: u128 = short(b"sortstore");
        const SINTERSTORE: u128 = short(b"sinterstore");
        const SUNIONSTORE: u128 = short(b"sunionstore");
        const SDIFFSTORE: u128 = short(b"sdiffstore");
        const ZRANGESTORE: u128 = short(b"zrangestore");
        const ZINTERSTORE: u128 = short(b"zinterstore");
        const ZUNIONSTORE: u128 = short(b"zunionstore");
        const ZDIFFSTORE: u128 = short(b"zdiffstore");
        const GEOSEARCHSTORE: u128 = short(b"geosearchstore");
        const GEORADIUSSTORE: u128 = short(b"georadiusstore");
        if name.starts_with(b"xgroup-") {
            return Self::Stream;
        }
        let Some((word, _)) = super::name::word(name).filter(|_| name.len() <= 16) else { return Self::Other };
        match word {
            NEW => Self::New,
            OVERWRITTEN | TYPE_CHANGED => Self::Ignored,
            DEL => Self::Del,
            EXPIRED => Self::Expired,
            EVICTED => Self::Evicted,
            EXPIRE => Self::Expire,
            PERSIST => Self::Persist,
            RENAME_FROM | MOVE_FROM => Self::MovedAway,
            SET => Self::Set,
            APPEND | SETRANGE | SETBIT | PFADD => Self::Patched,
            INCRBY => Self::Incr,
            INCRBYFLOAT => Self::IncrFloat,
            HSET => Self::HSet,
            HDEL => Self::HDel,
            HEXPIRE | HPERSIST => Self::HTtl,
            HEXPIRED => Self::HExpired,
            HINCRBY => Self::HIncr,
            HINCRBYFLOAT => Self::HIncrFloat,
            SADD => Self::SAdd,
            SREM => Self::SRem,
            SPOP => Self::SPop,
            LPUSH => Self::LPush,
            RPUSH => Self::RPush,
            LPOP => Self::LPop,
            RPOP => Self::RPop,
            LTRIM => Self::LTrim,
            LINSERT => Self::LInsert,
            LSET => Self::LSet,
            LREM => Self::LRem,
            ZADD => Self::ZAdd,
            ZINCR => Self::ZIncr,
            ZREM => Self::ZRem,
            ZPOPMIN | ZPOPMAX => Self::ZPop,
            BY_RANK | BY_SCORE | BY_LEX => Self::ZRemRange,
            XADD | XTRIM | XDEL | XSETID => Self::Stream,
            RENAME_TO | MOVE_TO | COPY_TO | RESTORE | SORTSTORE | SINTERSTORE | SUNIONSTORE | SDIFFSTORE
            | ZRANGESTORE | ZINTERSTORE | ZUNIONSTORE | ZDIFFSTORE | GEOSEARCHSTORE | GEORADIUSSTORE => Self::Replaced,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Event;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(Event::parse(b"set"), Event::Set);
        assert_eq!(Event::parse(b"zremrangebyscore"), Event::ZRemRange);
        assert_eq!(Event::parse(b"xgroup-createconsumer"), Event::Stream);
        assert_eq!(Event::parse(b"hexpired"), Event::HExpired);
        assert_eq!(Event::parse(b""), Event::Other);
    }
}

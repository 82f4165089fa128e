//! Commands of which is known only that they leave the same everywhere, and nothing of a write that did not survive.

use super::write::WriteId;

/// Copies a value as a whole, by way of its serialised form: that of one server may be none of another.
const RESTORE: &str =
    "local dump=redis.call('DUMP',KEYS[1]) if dump then redis.call('RESTORE',KEYS[2],0,dump,'REPLACE') end";
/// Of the first three pending entries of a group one is acknowledged, one claimed, one deleted.
const REVIEW: &str = "for at,entry in ipairs(redis.call('XPENDING',KEYS[1],ARGV[1],'-','+',3)) do \
    if at==1 then redis.call('XACK',KEYS[1],ARGV[1],entry[1]) \
    elseif at==2 then redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[2],0,entry[1]) \
    else redis.call('XDEL',KEYS[1],entry[1]) end end";

/// Those of a write, by two dice.
pub fn commands(id: &WriteId, kind: u64, dice: u64) -> Vec<String> {
    let (a, b, c) = (dice % 6, (dice >> 12) % 6, (dice >> 16) % 6);
    match kind {
        26 => vec![if b < 3 {
            format!("SET big:{} {}", dice % 12, "x".repeat(BIG_BYTES))
        } else {
            format!("DEL big:{} shared:{a}", dice % 12)
        }],
        27 => vec![format!("HSET shared:{a} f{b} {id}"), format!("HDEL shared:{a} f{c}")],
        28 => sorted_set(a, b, dice),
        29 => vec![format!("APPEND text:{a} {b}"), format!("SETRANGE text:{a} 100 {c}")],
        30 => list(id, a, dice),
        31 => of_several_types(id, a, b, c),
        32 => elsewhere(id, a, dice),
        33 => whole(a, b, dice),
        34 => groups(id, a % 3, dice),
        _ => vec![format!("PUBLISH news {id}"), stored(a, b, c)],
    }
}

/// The size of all big values.
pub const BIG_BYTES: usize = 20_000;

fn sorted_set(a: u64, b: u64, dice: u64) -> Vec<String> {
    let score = (dice >> 20) % 1_000;
    let removal = match (dice >> 32) % 5 {
        0 => format!("ZREMRANGEBYSCORE zset:{a} {score} {}", score + 100),
        1 => format!("ZREMRANGEBYRANK zset:{a} 2 3"),
        2 => format!("ZREMRANGEBYLEX zset:{a} [m1 [m12"),
        3 => format!("ZPOPMIN zset:{a}"),
        _ => format!("ZREM zset:{a} m{}", (dice >> 24) % 20),
    };
    vec![removal, format!("ZADD zset:{a} {score} m{}", (b + dice) % 20)]
}

/// Edits in the middle of a list that has several of the same.
fn list(id: &WriteId, a: u64, dice: u64) -> Vec<String> {
    let any = |shift: u32| (dice >> shift) % 6;
    let (at, count) = ((dice >> 32) % 11, (dice >> 36) % 3);
    vec![
        format!("RPUSH edited:{a} v{} {id} v{}", any(20), any(22)),
        format!("LINSERT edited:{a} {} v{} {id}", if dice & 1 == 0 { "BEFORE" } else { "AFTER" }, any(24)),
        format!("LSET edited:{a} {} v{}", at as i64 - 5, any(26)),
        format!("LREM edited:{a} {} v{}", count as i64 - 1, any(28)),
        format!("LTRIM edited:{a} -60 -1"),
    ]
}

/// One key that is now this, now that.
fn of_several_types(id: &WriteId, a: u64, b: u64, c: u64) -> Vec<String> {
    let write = [
        format!("SET mixed:{a} {id}"),
        format!("SADD mixed:{a} {id}"),
        format!("HSET mixed:{a} f {id}"),
        format!("RPUSH mixed:{a} {id}"),
        format!("ZADD mixed:{a} 1 {id}"),
        format!("XADD mixed:{a} * by {id}"),
    ];
    // As often, it is still of another type.
    let del = (c < 3).then(|| format!("DEL mixed:{a}"));
    del.into_iter().chain(write.into_iter().nth(b as usize)).collect()
}

/// In another database, that is emptied now and then.
fn elsewhere(id: &WriteId, a: u64, dice: u64) -> Vec<String> {
    let write = match (dice >> 20) % 50 {
        0 => "FLUSHDB".to_owned(),
        1..10 => format!("COPY other:{a} moved:{a} DB 2 REPLACE"),
        10..15 => format!("MOVE others:{a} 2"),
        15..30 => format!("SADD others:{a} {id}"),
        _ => format!("INCR total:{a}"),
    };
    vec!["SELECT 1".to_owned(), format!("SET other:{a} {id}"), write, "SELECT 0".to_owned()]
}

fn whole(a: u64, b: u64, dice: u64) -> Vec<String> {
    let sources = ["shared", "edited", "zset", "work", "mixed", "text", "pool", "list:1"];
    let source = format!("{}:{a}", sources[((dice >> 20) % 8) as usize]);
    match (dice >> 24) % 4 {
        0 => vec![format!("COPY {source} copied:{b} REPLACE")],
        1 => vec![format!("COPY {source} copied:{b} REPLACE"), format!("RENAME copied:{b} renamed:{a}")],
        2 => vec![format!("RENAME copied:{b} renamed:{a}")],
        _ => vec![format!("EVAL \"{RESTORE}\" 2 {source} restored:{b}")],
    }
}

fn groups(id: &WriteId, a: u64, dice: u64) -> Vec<String> {
    let (group, writer) = (format!("work:{a} g{}", (dice >> 20) % 2), id.writer);
    let (key, name) = group.split_once(' ').unwrap_or_default();
    let noack = if (dice >> 30).is_multiple_of(8) { "NOACK" } else { "" };
    let mut lines = vec![
        format!("XGROUP CREATE {group} 0 MKSTREAM"),
        format!("XADD {key} MAXLEN 200 * by {id}"),
        format!("XREADGROUP GROUP {name} c{} COUNT 2 {noack} STREAMS {key} >", id.site),
        format!("EVAL \"{REVIEW}\" 1 {group} c{writer}"),
    ];
    match (dice >> 24) % 20 {
        0 => lines.push(format!("XGROUP DESTROY {group}")),
        1 => lines.push(format!("XGROUP DELCONSUMER {group} c{writer}")),
        2 => lines.push(format!("XGROUP SETID {group} $")),
        3 => lines.push(format!("XTRIM {key} MAXLEN 20")),
        4 => lines.push(format!("DEL {key}")),
        _ => {}
    }
    lines
}

/// What commands make of several keys.
fn stored(a: u64, b: u64, c: u64) -> String {
    match c {
        0 => format!("ZRANGESTORE ranged:{a} zset:{b} 0 5"),
        1 => format!("SUNIONSTORE union:{a} pool:{a} pool:{b}"),
        2 => format!("SORT edited:{a} ALPHA STORE sorted:{b}"),
        3 => format!("BITOP OR bitop:{a} text:{a} text:{b}"),
        4 => format!("PFMERGE merged:{a} hll:{} hll:{}", a % 3, b % 3),
        _ => format!("ZUNIONSTORE added:{a} 2 zset:{a} zset:{b}"),
    }
}

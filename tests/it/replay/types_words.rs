//! The commands and steps of the sequences of every type.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Commands and steps with placeholders, and their frequency: K a key, E an element, F a field, N an integer,
/// A a place in a list, Q a score, X a bound of scores, L a longitude, M a latitude, G a group, C a consumer,
/// I the ID of an entry, B an offset of a bit, T milliseconds, D a database, U a user, R rules, Y a library,
/// V what a restart may use, Z a seed, W a command that adds many parts.
pub const TEMPLATES: &[(usize, &str)] = &[
    (2, "SET K E"),
    (1, "SET K N PX T"),
    (1, "APPEND K E"),
    (1, "SETRANGE K 3 E"),
    (1, "INCRBY K N"),
    (1, "INCRBYFLOAT K 0.5"),
    (1, "GETDEL K"),
    (1, "GETEX K PX T"),
    (1, "MSET K E K N"),
    (1, "HSET K F E F N"),
    (1, "HINCRBY K F N"),
    (1, "HDEL K F F"),
    (1, "HPEXPIRE K T FIELDS 2 F F"),
    (1, "HSETEX K PX T FIELDS 2 F E F E"),
    (1, "HGETDEL K FIELDS 1 F"),
    (4, "RPUSH K E E N"),
    (3, "LPUSH K E N"),
    (1, "RPUSHX K E"),
    (1, "LPUSHX K E"),
    (1, "LPOP K"),
    (1, "RPOP K 2"),
    (1, "LSET K A E"),
    (2, "LINSERT K BEFORE E N"),
    (2, "LINSERT K AFTER E E"),
    (2, "LREM K A E"),
    (1, "LTRIM K A A"),
    (1, "LMOVE K K LEFT RIGHT"),
    (1, "LMOVE K K RIGHT RIGHT"),
    (1, "RPOPLPUSH K K"),
    (1, "LMPOP 2 K K RIGHT COUNT 2"),
    (2, "BLPOP K K 0"),
    (2, "BRPOP K 0"),
    (1, "BLMOVE K K LEFT LEFT 0"),
    (1, "BRPOPLPUSH K K 0"),
    (1, "BLMPOP 0 2 K K LEFT COUNT 3"),
    (4, "SADD K E E N"),
    (2, "SADD K N N N"),
    (2, "SREM K E N"),
    (1, "SPOP K"),
    (1, "SPOP K 2"),
    (2, "SMOVE K K E"),
    (1, "SINTERSTORE K K K"),
    (2, "SUNIONSTORE K K K"),
    (1, "SDIFFSTORE K K K"),
    (4, "ZADD K Q E Q N"),
    (1, "ZADD K GT CH Q E"),
    (1, "ZADD K XX INCR Q E"),
    (1, "ZINCRBY K Q E"),
    (2, "ZREM K E N"),
    (1, "ZREMRANGEBYRANK K A A"),
    (1, "ZREMRANGEBYSCORE K X +inf"),
    (1, "ZREMRANGEBYLEX K [a (c"),
    (1, "ZPOPMIN K 2"),
    (1, "ZPOPMAX K"),
    (1, "ZMPOP 2 K K MAX"),
    (1, "ZUNIONSTORE K 2 K K WEIGHTS 2 Q AGGREGATE MAX"),
    (1, "ZINTERSTORE K 2 K K"),
    (1, "ZDIFFSTORE K 2 K K"),
    (1, "ZRANGESTORE K K X +inf BYSCORE"),
    (2, "BZPOPMIN K K 0"),
    (1, "BZPOPMAX K 0"),
    (1, "BZMPOP 0 2 K K MIN COUNT 2"),
    (2, "GEOADD K L M E L M N"),
    (1, "GEOSEARCHSTORE K K FROMLONLAT L M BYRADIUS 9000 km"),
    (1, "GEOSEARCHSTORE K K FROMLONLAT L M BYBOX 9000 9000 km STOREDIST"),
    (1, "GEORADIUS K L M 9000 km STORE K"),
    (4, "XADD K * F E"),
    (2, "XADD K I F E F N"),
    (2, "XADD K MAXLEN ~ 3 * F E"),
    (1, "XADD K MINID I * F N"),
    (2, "XDEL K I I"),
    (1, "XTRIM K MAXLEN 2"),
    (1, "XTRIM K MINID I"),
    (1, "XSETID K I"),
    (4, "XGROUP CREATE K G 0 MKSTREAM"),
    (1, "XGROUP CREATE K G $ ENTRIESREAD 2"),
    (1, "XGROUP SETID K G I"),
    (1, "XGROUP DESTROY K G"),
    (1, "XGROUP CREATECONSUMER K G C"),
    (1, "XGROUP DELCONSUMER K G C"),
    (6, "XREADGROUP GROUP G C COUNT 2 STREAMS K >"),
    (1, "XREADGROUP GROUP G C NOACK STREAMS K >"),
    (1, "XREADGROUP GROUP G C STREAMS K 0"),
    (3, "XREADGROUP GROUP G C BLOCK 0 STREAMS K >"),
    (4, "XACK K G I I I I"),
    (2, "XCLAIM K G C 0 I I FORCE RETRYCOUNT 7"),
    (1, "XCLAIM K G C 0 I IDLE 500 JUSTID"),
    (2, "XAUTOCLAIM K G C 0 0 COUNT 3"),
    (1, "XDELEX K ACKED IDS 2 I I"),
    (4, "XACKDEL K G DELREF IDS 3 I I I"),
    (3, "PFADD K E N F"),
    (2, "PFMERGE K K K"),
    (2, "SETBIT K B 1"),
    (1, "SETBIT K B 0"),
    (1, "BITOP OR K K K"),
    (1, "BITOP NOT K K"),
    (2, "BITFIELD K SET u8 B N INCRBY i5 #3 N"),
    (1, "BITFIELD K OVERFLOW SAT INCRBY u4 B N"),
    (1, "JSON.SET K $ {\"a\":[1,2,{\"b\":null}]}"),
    (1, "JSON.ARRAPPEND K $.a N"),
    (1, "JSON.NUMINCRBY K $.a[0] 0.5"),
    (2, "SORT K ALPHA STORE K"),
    (1, "SORT K BY nosort GET # LIMIT 0 3 STORE K"),
    (2, "DEL K K"),
    (1, "UNLINK K"),
    (3, "PEXPIRE K T"),
    (1, "PERSIST K"),
    (3, "COPY K K REPLACE"),
    (1, "COPY K K DB D REPLACE"),
    (2, "RENAME K K"),
    (1, "RENAMENX K K"),
    (2, "MOVE K D"),
    (1, "SWAPDB 0 1"),
    (1, "FLUSHDB"),
    (2, "TEST.SETUSER U R"),
    (1, "TEST.DELUSER U"),
    (2, "FUNCTION LOAD REPLACE Y"),
    (1, "FUNCTION DELETE U"),
    (1, "FUNCTION FLUSH"),
    (3, "!clock T"),
    (1, "!back T"),
    (3, "!expire"),
    (1, "!evict D"),
    (2, "!snapshot"),
    (1, "!crash T"),
    (1, "!restart V"),
    (1, "!database D"),
    (4, "!restore K K"),
    (5, "!together Z"),
    (3, "!many W K"),
    (1, "!timeout"),
    (2, "!kill"),
];

const KEYS: &[&str] = &["a", "b", "c", "d", "a key whose name is longer than others"];
const ELEMENTS: &[&str] = &[
    "v",
    "",
    "abc",
    "b",
    "an element that is longer than what lies beside its key, and than sixty-four bytes as well",
    "\0\u{fe}",
];

/// One of the templates by its frequency.
pub fn pick_template(number: usize) -> &'static str {
    let all: usize = TEMPLATES.iter().map(|(times, _)| times).sum();
    let mut place = number % all;
    for (times, template) in TEMPLATES {
        if place < *times {
            return template;
        }
        place -= times;
    }
    unreachable!("the place is below the sum")
}

fn library(random: &mut SmallRng) -> String {
    let name = ["ann", "bob", "lib"][random.random_range(0..3)];
    let number = random.random_range(0..1000);
    format!(
        "#!lua name={name}\nredis.register_function{{function_name='{name}_f', callback=function() return {number} end, \
         flags={{'no-writes'}}}}"
    )
}

/// The words of a template; its name stays as it is.
pub fn fill(template: &str, seed: u64) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let random = &mut random;
    let word = |(place, word): (usize, &str)| -> Vec<u8> {
        let list: &[&str] = match word {
            _ if place == 0 => return word.into(),
            // Few of them, so that types meet, and one more for each type, so that they also last.
            "K" if random.random_bool(0.75) => return own_key(template).into(),
            "K" => KEYS,
            "E" => ELEMENTS,
            "F" => &["f0", "f1", "f2", "another field"],
            "N" => &["1", "-3", "7", "0", "70000", "9223372036854775807"],
            "A" => &["0", "1", "-1", "-2", "2", "5"],
            "Q" => &["0", "1.5", "-2", "inf", "-inf", "1e300", "0.1"],
            "X" => &["-inf", "(0", "1", "2"],
            "L" => &["13.361389", "15.087269", "-179.9", "0"],
            "M" => &["38.115556", "37.502669", "0", "-85"],
            "G" => &["g", "h"],
            "C" => &["alice", "bob"],
            "I" => &["1-1", "1-2", "2-0", "5-1", "2000000000000-0", "2000000000000-1", "2000000000500-0"],
            "B" => &["0", "7", "13", "300", "2049", "40000"],
            "T" => &["1", "30", "999", "1500", "60000"],
            "D" => &["0", "1", "2"],
            "U" => &["ann", "bob", "lib"],
            "R" => &["on nopass ~* &* +@all", "off resetchannels -@all", "on ~a:* +get (%R~b +@read)"],
            "V" => &["0", "1", "2", "3"],
            "W" => &["RPUSH", "SADD", "ZADD", "HSET", "XADD", "PFADD"],
            "Y" => return library(random).into(),
            "Z" => return random.random_range(0..1_000_000_u64).to_string().into(),
            other => return other.into(),
        };
        list[random.random_range(0..list.len())].into()
    };
    template.split(' ').enumerate().map(word).collect()
}

/// A key that holds mostly what a command is about.
fn own_key(template: &str) -> &'static str {
    let name = template.split(' ').next().unwrap_or_default();
    match name {
        "PFADD" | "PFMERGE" => "hll",
        "SETBIT" | "BITOP" | "BITFIELD" => "bits",
        "GEOADD" | "GEOSEARCHSTORE" | "GEORADIUS" => "geo",
        "SADD" | "SREM" | "SPOP" | "SMOVE" | "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" => "set",
        _ if name.starts_with("JSON") => "json",
        _ if name.starts_with('X') => "stream",
        _ if name.starts_with('Z') || name.starts_with("BZ") => "zset",
        _ if name.starts_with('H') => "hash",
        _ if name.starts_with(['L', 'R', 'B']) && !name.starts_with("RENAME") => "list",
        _ => "any",
    }
}

//! Generators: sorted sets and geo.

use super::collections::scan_options;
use super::generate::{Gen, Kind, command, join};
use super::step::{Check, Step};

fn score_bound(g: &mut Gen) -> String {
    match g.below(12) {
        0 => "-inf".into(),
        1 => "+inf".into(),
        2 => g.one_of(&["(", "((1", "a", "[1", "(abc", "nan", ""]).to_string(),
        3..=5 => format!("({}", g.random.between(-10, 20)),
        6 => g.float(),
        _ => g.random.between(-10, 20).to_string(),
    }
}

fn lex_bound(g: &mut Gen) -> String {
    match g.below(10) {
        0 => "-".into(),
        1 => "+".into(),
        2 => g.one_of(&["", "a", "(", "[", "-a", "+1"]).to_string(),
        3..=5 => format!("({}", g.one_of(&["m1", "m2", "1", "2", "m", "z"])),
        _ => format!("[{}", g.one_of(&["m1", "m12", "1", "3", "m", "a", "m3"])),
    }
}

fn limit(g: &mut Gen) -> Vec<Vec<u8>> {
    if g.chance(40) { command!["LIMIT", g.random.between(-1, 4), g.random.between(-1, 6)] } else { Vec::new() }
}

fn with_scores(g: &mut Gen) -> Vec<Vec<u8>> {
    if g.chance(40) { command![g.one_of(&["WITHSCORES", "withscores"])] } else { Vec::new() }
}

pub fn sorted_set(g: &mut Gen) -> Step {
    let key = g.key(Kind::Scored);
    Step::exact(match g.below(if g.quiet { 31 } else { 34 }) {
        0..=5 => zadd(g, key),
        6 => join(vec![command!["ZREM", key], g.members(4)]),
        7 => command!["ZINCRBY", key, g.float(), g.member()],
        8 => command!["ZSCORE", key, g.member()],
        9 => join(vec![command!["ZMSCORE", key], g.members(4)]),
        10 => command!["ZCARD", key],
        11 => command![g.one_of(&["ZRANK", "ZREVRANK"]), key, g.member()],
        12 => command!["ZCOUNT", key, score_bound(g), score_bound(g)],
        13 => command!["ZADD", g.key(Kind::Lexical), "0", g.member(), "0", g.member(), "0", g.member()],
        14 => command!["ZLEXCOUNT", g.key(Kind::Lexical), lex_bound(g), lex_bound(g)],
        15 => {
            let name = g.one_of(&["ZRANGEBYLEX", "ZREVRANGEBYLEX"]);
            join(vec![command![name, g.key(Kind::Lexical), lex_bound(g), lex_bound(g)], limit(g)])
        }
        16 => join(vec![
            command![g.one_of(&["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]), key, score_bound(g), score_bound(g)],
            with_scores(g),
            limit(g),
        ]),
        17 => join(vec![command![g.one_of(&["ZRANGE", "ZREVRANGE"]), key, g.index(), g.index()], with_scores(g)]),
        18 | 19 => {
            let by_lex = g.chance(25);
            let key = if by_lex { g.key(Kind::Lexical) } else { key };
            join(vec![command!["ZRANGE", key], range(g, by_lex), with_scores(g)])
        }
        20 | 21 => {
            let by_lex = g.chance(25);
            let source = if by_lex { g.key(Kind::Lexical) } else { g.key(Kind::Scored) };
            let target = if by_lex { g.key(Kind::Lexical) } else { key };
            join(vec![command!["ZRANGESTORE", target, source], range(g, by_lex)])
        }
        22 => command!["ZREMRANGEBYRANK", key, g.random.between(3, 8), g.index()],
        23 => {
            if g.chance(50) {
                command!["ZREMRANGEBYSCORE", key, score_bound(g), g.random.between(-10, 0)]
            } else {
                command!["ZREMRANGEBYLEX", g.key(Kind::Lexical), lex_bound(g), lex_bound(g)]
            }
        }
        24 => {
            let mut args = command![g.one_of(&["ZPOPMIN", "ZPOPMAX"]), key];
            if g.chance(50) {
                args.push(g.count().into_bytes());
            }
            args
        }
        25 => {
            let keys = g.keys(Kind::Scored, 3);
            let mut args = join(vec![command!["ZMPOP", keys.len() as i64], keys, command![g.one_of(&["MIN", "MAX", "mid"])]]);
            if g.chance(50) {
                args.extend(command!["COUNT", g.count()]);
            }
            args
        }
        26 | 27 => combine(g, key),
        28 => {
            let mut args = command!["ZRANDMEMBER", key.clone()];
            if g.chance(70) {
                args.push(g.index().into_bytes());
                args.extend(with_scores(g));
            }
            return Step::new(args, Check::Sample { source: command!["ZRANGE", key, "0", "-1", "WITHSCORES"] });
        }
        29 | 30 => return Step::new(join(vec![command!["ZSCAN", key, "0"], scan_options(g)]), Check::Scan { cursor: 2 }),
        31 | 32 => join(vec![command![g.one_of(&["BZPOPMIN", "BZPOPMAX"])], g.keys(Kind::Scored, 3), command!["0.01"]]),
        _ => {
            let keys = g.keys(Kind::Scored, 3);
            join(vec![command!["BZMPOP", "0.01", keys.len() as i64], keys, command![g.one_of(&["MIN", "max"])]])
        }
    })
}

fn zadd(g: &mut Gen, key: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = command![g.cased("ZADD"), key];
    for _ in 0..g.below(3) {
        if g.chance(40) {
            args.push(g.one_of(&["NX", "XX", "GT", "LT", "CH", "INCR", "ch"]).as_bytes().to_vec());
        }
    }
    for _ in 0..1 + g.below(5) {
        args.push(g.float().into_bytes());
        args.push(g.member());
    }
    args
}

fn range(g: &mut Gen, by_lex: bool) -> Vec<Vec<u8>> {
    let by_score = !by_lex && g.chance(60);
    let mut args = if by_lex {
        command![lex_bound(g), lex_bound(g), "BYLEX"]
    } else if by_score {
        command![score_bound(g), score_bound(g), "BYSCORE"]
    } else {
        command![g.index(), g.index()]
    };
    if g.chance(40) {
        args.push(b"REV".to_vec());
    }
    if by_lex || by_score || g.chance(5) {
        args.extend(limit(g));
    }
    args
}

fn combine(g: &mut Gen, key: Vec<u8>) -> Vec<Vec<u8>> {
    let source = if g.chance(15) { Kind::Set } else { Kind::Scored };
    let keys = g.keys(source, 4);
    let count = keys.len();
    let numkeys = if g.chance(4) { g.integer() } else { count.to_string() };
    let name = g.one_of(&["ZUNION", "ZINTER", "ZDIFF", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE", "ZINTERCARD"]);
    let store = name.ends_with("STORE");
    let target = if store { vec![key] } else { Vec::new() };
    let mut args = join(vec![command![name], target, command![numkeys], keys]);
    if name.contains("CARD") {
        if g.chance(50) {
            args.extend(command!["LIMIT", g.count()]);
        }
    } else {
        if g.chance(30) && !name.contains("DIFF") {
            args.push(b"WEIGHTS".to_vec());
            args.extend((0..count).map(|_| g.float().into_bytes()));
        }
        if g.chance(30) && !name.contains("DIFF") {
            args.extend(command!["AGGREGATE", g.one_of(&["SUM", "min", "MAX", "avg"])]);
        }
        if !store {
            args.extend(with_scores(g));
        }
    }
    args
}

/// Places, some near each other, for distances and searches.
const PLACES: &[(&str, &str, &str)] = &[
    ("Palermo", "13.361389", "38.115556"),
    ("Catania", "15.087269", "37.502669"),
    ("Agrigento", "13.583333", "37.316667"),
    ("Seoul", "126.9780", "37.5665"),
    ("Busan", "129.0756", "35.1796"),
    ("Incheon", "126.7052", "37.4563"),
    ("Quito", "-78.4678", "-0.1807"),
    ("Suva", "178.4419", "-18.1416"),
    ("Apia", "-171.7513", "-13.8333"),
    ("pole", "0", "85.05112878"),
];

fn place(g: &mut Gen) -> &'static str {
    if g.chance(8) { "nowhere" } else { g.random.pick(PLACES).0 }
}

fn unit(g: &mut Gen) -> &'static str {
    g.one_of(&["m", "km", "mi", "ft", "KM", "km", "km", "league"])
}

fn radius(g: &mut Gen) -> &'static str {
    g.one_of(&["100", "200", "1000.5", "20000", "0", "-1", "abc", "50", "300"])
}

pub fn geo(g: &mut Gen) -> Step {
    let key = g.key(Kind::Geo);
    match g.below(14) {
        0..=3 => {
            let mut args = command!["GEOADD", key];
            if g.chance(15) {
                args.push(g.one_of(&["NX", "XX", "CH", "nx"]).as_bytes().to_vec());
            }
            for _ in 0..1 + g.below(5) {
                let (name, longitude, latitude) = *g.random.pick(PLACES);
                args.extend(if g.chance(3) { command!["181", latitude, name] } else { command![longitude, latitude, name] });
            }
            Step::exact(args)
        }
        4 => Step::exact(command!["GEODIST", key, place(g), place(g), unit(g)]),
        5 => Step::exact(command![g.one_of(&["GEOPOS", "GEOHASH"]), key, place(g), place(g)]),
        6 | 7 => {
            let origin = place(g).to_string();
            search(g, command!["GEOSEARCH", key], origin)
        }
        8 | 9 => {
            let origin = place(g).to_string();
            let args = command!["GEOSEARCHSTORE", g.key(Kind::Geo), key];
            let mut step = search(g, args, origin);
            if g.chance(20) {
                step.args.push(b"STOREDIST".to_vec());
            }
            step.check = Check::Exact;
            step
        }
        10 | 11 => {
            let (_, longitude, latitude) = *g.random.pick(PLACES);
            let read_only = g.chance(40);
            let name = if read_only { "GEORADIUS_RO" } else { "GEORADIUS" };
            by_radius(g, command![name, key, longitude, latitude], read_only)
        }
        12 => {
            let read_only = g.chance(40);
            let name = if read_only { "GEORADIUSBYMEMBER_RO" } else { "GEORADIUSBYMEMBER" };
            let args = command![name, key, place(g)];
            by_radius(g, args, read_only)
        }
        _ => Step::exact(command!["ZRANGE", key, "0", "-1", "WITHSCORES"]),
    }
}

fn details(g: &mut Gen, args: &mut Vec<Vec<u8>>) {
    for word in ["WITHCOORD", "WITHDIST", "WITHHASH"] {
        if g.chance(30) {
            args.push(word.as_bytes().to_vec());
        }
    }
}

fn search(g: &mut Gen, mut args: Vec<Vec<u8>>, origin: String) -> Step {
    let stores = args[0] == b"GEOSEARCHSTORE";
    args.extend(if g.chance(50) {
        command!["FROMMEMBER", origin]
    } else {
        command!["FROMLONLAT", g.one_of(&["15", "127", "178", "200"]), g.one_of(&["37", "-15", "0"])]
    });
    args.extend(if g.chance(60) {
        command!["BYRADIUS", radius(g), unit(g)]
    } else {
        command!["BYBOX", radius(g), radius(g), unit(g)]
    });
    let sorted = order(g, &mut args);
    if !stores {
        details(g, &mut args);
    }
    Step::new(args, if sorted { Check::Exact } else { Check::Unordered })
}

fn order(g: &mut Gen, args: &mut Vec<Vec<u8>>) -> bool {
    if !g.chance(60) {
        return false;
    }
    args.push(g.one_of(&["ASC", "desc"]).as_bytes().to_vec());
    if g.chance(40) {
        args.extend(command!["COUNT", g.count()]);
    }
    true
}

fn by_radius(g: &mut Gen, mut args: Vec<Vec<u8>>, read_only: bool) -> Step {
    args.extend(command![radius(g), unit(g)]);
    let sorted = order(g, &mut args);
    if !read_only && g.chance(30) {
        args.extend(command![g.one_of(&["STORE", "STOREDIST"]), g.key(Kind::Geo)]);
    } else {
        details(g, &mut args);
    }
    Step::new(args, if sorted { Check::Exact } else { Check::Unordered })
}

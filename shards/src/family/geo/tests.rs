//! Geo commands: replies as redis-server 7.0.15 gives them.

use crate::family::testing::Session;

fn sicily() -> Session {
    let mut s = Session::new();
    assert_eq!(s.run("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"), ":2");
    assert_eq!(s.run("GEOADD s 12.758489 38.788135 edge1 17.241510 38.788135 edge2"), ":2");
    s
}

#[test]
fn positions_and_distances() {
    let mut s = sicily();
    s.check(&[
        ("GEODIST s Palermo Catania", "$11 166274.1516"),
        ("GEODIST s Palermo Catania km", "$8 166.2742"),
        ("GEODIST s Palermo Palermo", "$6 0.0000"),
        ("GEODIST s Palermo none", "$-1"),
        ("GEODIST s Palermo Catania parsec", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
        ("GEOHASH s Palermo none", "*2 $11 sqc8b49rny0 $-1"),
        ("GEOPOS s Palermo none", "*2 *2 $20 13.36138933897018433 $20 38.11555639549629859 *-1"),
        ("GEOPOS none a", "*1 *-1"),
        ("ZSCORE s Palermo", "$16 3479099956230698"),
        ("GEOADD s CH NX 1 1 Palermo", ":0"),
        ("GEOADD s NX XX 1 1 Palermo", "-ERR syntax error"),
        ("GEOADD s 1 1 Palermo 2", "-ERR syntax error"),
        ("GEOADD s CH CH CH", "-ERR syntax error"),
        ("GEOADD s 181 1 a", "-ERR invalid longitude,latitude pair 181.000000,1.000000"),
        ("GEOADD s x 1 a", "-ERR value is not a valid float"),
    ]);
    s.resp3 = true;
    s.check(&[
        ("GEOPOS s Palermo none", "*2 *2 ,13.36138933897018433 ,38.11555639549629859 _"),
        ("GEODIST s Palermo Catania", "$11 166274.1516"),
    ]);
}

#[test]
fn searches() {
    let mut s = sicily();
    s.check(&[
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC", "*2 $7 Catania $7 Palermo"),
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km DESC COUNT 1", "*1 $7 Palermo"),
        ("GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km ASC", "*4 $7 Catania $7 Palermo $5 edge2 $5 edge1"),
        (
            "GEOSEARCH s FROMMEMBER Catania BYRADIUS 1 m WITHDIST WITHHASH WITHCOORD",
            "*1 *4 $7 Catania $6 0.0000 :3479447370796909 *2 $20 15.08726745843887329 $20 37.50266842333162032",
        ),
        ("GEORADIUS s 15 37 200 km WITHDIST ASC", "*2 *2 $7 Catania $7 56.4413 *2 $7 Palermo $8 190.4424"),
        ("GEORADIUS_RO s 15 37 200 km STORE t", "-ERR syntax error"),
        ("GEORADIUSBYMEMBER s Palermo 100 km", "*2 $7 Palermo $5 edge1"),
        ("GEORADIUSBYMEMBER s none 100 km", "-ERR could not decode requested zset member"),
        ("GEORADIUSBYMEMBER_RO none x -1 furlong", "*0"),
        ("GEOSEARCH none FROMMEMBER x BYRADIUS 1 m", "*0"),
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 1 m ANY", "-ERR the ANY argument requires COUNT argument"),
        ("GEOSEARCH s BYRADIUS 1 m ASC ASC", "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH"),
        ("GEOSEARCH s FROMMEMBER Catania ASC ASC ASC", "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH"),
        ("GEOSEARCH s FROMMEMBER Catania BYRADIUS -1 m", "-ERR radius cannot be negative"),
        ("GEOSEARCH s FROMMEMBER Catania BYBOX 1 x m", "-ERR need numeric height"),
        ("GEOSEARCH s FROMMEMBER Catania BYRADIUS 1 m COUNT 0", "-ERR COUNT must be > 0"),
    ]);
}

#[test]
fn stored_results_and_effects() {
    let mut s = sicily();
    assert_eq!(
        s.effects(),
        ["zadd s 3479099956230698 Palermo 3479447370796909 Catania", "zadd s 3479273021651468 edge1 3481342659049484 edge2"]
    );
    s.check(&[
        ("GEOSEARCHSTORE t s FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST", ":2"),
        ("ZRANGE t 0 -1 WITHSCORES", "*4 $7 Catania $18 56.441257870158204 $7 Palermo $18 190.44242984775784"),
        ("GEORADIUS s 15 37 200 km COUNT 1 STORE t", ":1"),
        ("ZRANGE t 0 -1 WITHSCORES", "*2 $7 Catania $16 3479447370796909"),
        ("GEORADIUS s 0 0 1 m STORE t", ":0"),
        ("ZCARD t", ":0"),
        (
            "GEOSEARCHSTORE t s FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST",
            "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        ),
    ]);
}

//! Data of every type and encoding, and what two servers that hold the same have in common.

use super::Server;

/// Databases that the data is spread over.
pub const DBS: [u64; 3] = [0, 3, 15];

/// What element number so-and-so adds to a command.
type Words<'a> = &'a dyn Fn(usize, &[u8]) -> Vec<Vec<u8>>;

/// Commands that make values of every type and encoding, small and large.
pub fn data() -> Vec<Vec<Vec<u8>>> {
    let mut commands: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut run = |words: &[&[u8]]| commands.push(words.iter().map(|word| word.to_vec()).collect());
    let noise: Vec<u8> = (0..70_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, value) in [
        ("empty", &b""[..]),
        ("word", b"hello"),
        ("zero", b"0"),
        ("minus", b"-129"),
        ("int32", b"-2147483648"),
        ("int64", b"9223372036854775807"),
        ("like-int", b"007"),
        ("repeats", &[b'x'; 100_000]),
        ("noise", &noise),
        ("noise-short", &noise[..64]),
    ] {
        run(&[b"SET", name.as_bytes(), value]);
    }
    run(&[b"SET", b"expires", b"later", b"PX", b"100000000"]);
    run(&[b"SET", b"12345", b"a key that is a number", b"EX", b"99999"]);
    run(&[b"SET", &[b'k'; 300], b"a long key"]);
    run(&[b"SET", b"\x00\xffbinary\r\n", b"\x00"]);
    run(&[b"PFADD", b"hll", b"a", b"b"]);
    run(&[b"SETBIT", b"bits", b"100000", b"1"]);
    for elements in [1, 5, 130, 600, 3000] {
        let element = |i: usize| match i % 4 {
            0 => format!("element:{i}").into_bytes(),
            1 => (i as i64 * 7919 - 40_000).to_string().into_bytes(),
            2 => noise[i..i + i % 50].iter().chain(i.to_string().as_bytes()).copied().collect(),
            _ => format!("{i}{}", "long ".repeat(i % 30)).into_bytes(),
        };
        let elements: Vec<Vec<u8>> = (0..elements).map(element).collect();
        let name = |kind: &str| format!("{kind}:{}", elements.len()).into_bytes();
        let mut whole = |command: &str, kind: &str, with: Words<'_>| {
            let rest = elements.iter().enumerate().flat_map(|(i, element)| with(i, element));
            commands.push([command.as_bytes().to_vec(), name(kind)].into_iter().chain(rest).collect());
        };
        whole("RPUSH", "list", &|_, element| vec![element.to_vec()]);
        whole("SADD", "set", &|_, element| vec![element.to_vec()]);
        whole("SADD", "ints-2", &|i, _| vec![i.to_string().into_bytes()]);
        whole("SADD", "ints-8", &|i, _| vec![(i as i64 * -5_000_000_000).to_string().into_bytes()]);
        whole("HSET", "hash", &|i, element| vec![element.to_vec(), format!("v{}", i * i).into_bytes()]);
        whole("ZADD", "zset", &|i, element| {
            let score = ["inf", "-inf", "0.1", "-0", "1e300", "17"][i % 6];
            vec![score.as_bytes().to_vec(), element.to_vec()]
        });
    }
    let mut run = |words: &[&[u8]]| commands.push(words.iter().map(|word| word.to_vec()).collect());
    run(&[b"RPUSH", b"large-elements", &noise, b"small", &noise[..9000], &[b'y'; 20_000]]);
    run(&[b"HSET", b"large-field", b"f", &noise]);
    run(&[b"PEXPIRE", b"hash:600", b"123456789"]);
    run(&[b"EXPIRE", b"list:5", b"1000"]);
    commands
}

/// Puts the data into a server.
pub fn fill(server: &Server) {
    let mut client = server.client();
    for db in DBS {
        client.run(&format!("SELECT {db}"));
        for command in data() {
            let reply = client.command(&command);
            assert!(!reply.is_error(), "{}: {reply}", command[0].escape_ascii());
        }
    }
}

/// A line for each key: database, name, digest of its value, time of its expiry.
pub fn digests(server: &Server) -> Vec<String> {
    let (mut client, mut lines) = (server.client(), Vec::new());
    for db in 0..16 {
        client.run(&format!("SELECT {db}"));
        for key in client.run("KEYS *").items() {
            let digest = client.command(&[&b"DEBUG"[..], b"DIGEST-VALUE", key.bytes()]);
            let expiry = client.command(&[&b"PEXPIRETIME"[..], key.bytes()]);
            let encoding = client.command(&[&b"OBJECT"[..], b"ENCODING", key.bytes()]);
            lines.push(format!("{db} {key} {} {expiry} {encoding}", digest.items()[0]));
        }
    }
    lines.sort();
    lines
}

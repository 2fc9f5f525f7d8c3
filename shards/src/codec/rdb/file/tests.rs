mod smoke;
mod verdict;

use super::super::tests::{contents, limits, samples};
use super::super::{Compression, write_length};
use super::*;
use crate::codec::crc64::crc64;
use crate::keyspace::OwnedEntry;
use verdict::judge;

const PREAMBLE: Preamble<'_> = Preamble {
    redis_version: "7.0.15",
    created_s: 1_795_272_585,
    used_memory_bytes: 1_117_760,
    aof_base: false,
    replication: None,
};

/// The offsets that cut a file into chunks of `size`.
fn cuts_of(file: &[u8], size: usize) -> impl Iterator<Item = usize> + use<> {
    (size..file.len()).step_by(size)
}

/// A file of version 10 around `body`, with its checksum.
fn file_of(body: &[u8]) -> Vec<u8> {
    let mut file = [b"REDIS0010", body, b"\xff"].concat();
    file.extend_from_slice(&crc64(0, &file).to_le_bytes());
    file
}

/// Every kind of token, and a value of every kind.
pub(super) fn all_tokens() -> Vec<u8> {
    let ziplist = b"\x10\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff";
    let listpack = b"\x0c\x0c\x00\x00\x00\x02\x00\x81a\x02\x01\x01\xff";
    let with_ziplist = |head: &[u8]| [head, ziplist].concat();
    let with_listpack = |head: &[u8]| [head, listpack].concat();
    let stream = [&b"\x13\x02st\x01\x10"[..], &[0; 16], b"\x03abc\x05\x01\x02\x01\x02\x00\x00\x05"].concat();
    let groups = [&b"\x01\x01g\x01\x02\x03\x01"[..], &[1; 24], b"\x01\x01\x01c", &[2; 8], b"\x01", &[1; 16]].concat();
    file_of(
        &[
            &b"\xfa\x09redis-ver\x057.2.0\xfa\x05ctime\xc2\x09\x10\x20\x30\xfe\x00\xfb\x40\x64\x02"[..],
            b"\x00\x01s\x05hello\xfc\x01\x02\x03\x04\x05\x06\x07\x00\x00\xc0\x07\xc1\x00\x10",
            b"\xfd\x01\x02\x03\x04\xf8\x40\xff\x00\x03lzf\xc3\x06\x18\x01aa\xe0\x0d\x00",
            b"\xf9\x05\x01\x01l\x02\x01a\xc0\x05\x02\x01S\x02\x01b\x01a\x03\x01z\x02\x01a\xfe\x01b\x031.5",
            b"\x04\x01h\x01\x01f\x01v\x05\x01Z\x01\x01m\x00\x00\x00\x00\x00\x00\xf8\x3f",
            b"\x09\x02zm\x0b\x02\x01f\x01\x00v\x01g\x00\x00\xff\x0b\x02is\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00",
            &with_ziplist(b"\x0a\x02lz"),
            &with_ziplist(b"\x0c\x02zz"),
            &with_ziplist(b"\x0d\x02hz"),
            &with_ziplist(b"\x0e\x02ql\x01"),
            &with_listpack(b"\xfe\x05\x10\x02hl"),
            &with_listpack(b"\x11\x02zl"),
            &with_listpack(b"\x12\x02q2\x02\x01\x05large\x02"),
            &with_listpack(b"\x14\x02sl"),
            b"\xf4\x01\x02\x03\xf5\x11#!lua name=mylib\n\xf7\x81\x10\x20\x30\x40\x50\x60\x70\x84\x02\x02\x05\x02ab\x00",
            b"\x07\x02mo\x81\x10\x20\x30\x40\x50\x60\x70\x84\x01\x05\x03abcd\x0412345678\x05\x02ab\x00",
            &stream,
            &groups,
        ]
        .concat(),
    )
}

fn errors_of(file: &[u8]) -> String {
    judge(file, [], &limits()).error.map_or(String::new(), |error| error.to_string())
}

/// Writes `entries` as the node would: two databases, some of them by pieces made elsewhere.
fn written(entries: &[OwnedEntry], checksum: Checksum, compression: Compression) -> Vec<u8> {
    let (mut file, mut out) = (Vec::new(), Vec::new());
    let mut writer = FileWriter::new(checksum, compression);
    writer.header(&PREAMBLE, &mut out);
    for (index, entry) in entries.iter().enumerate() {
        if index % 50 == 0 {
            writer.select_db(index as u64 / 50 * 9, &mut out);
            writer.resize_db(50, 10, &mut out);
        }
        let expiry_ms = (index % 3 == 0).then_some(1_795_272_585_000 + index as i64);
        let access = match index % 4 {
            0 => None,
            1 => Some(Access::IdleSeconds(index as u64 * 40)),
            _ => Some(Access::Frequency(index as u8)),
        };
        let key = format!("key:{index}");
        if index % 2 == 0 {
            writer.record(key.as_bytes(), entry.value(), expiry_ms, access, &mut out);
        } else {
            let mut piece = Vec::new();
            encode_record(key.as_bytes(), entry.value(), expiry_ms, access, compression, &mut piece);
            writer.records(&piece, &mut out);
        }
        assert_eq!(writer.written(), (file.len() + out.len()) as u64);
        if index % 5 == 0 {
            file.append(&mut out);
        }
    }
    writer.end(&mut out);
    file.append(&mut out);
    file
}

#[test]
fn every_value_comes_back_whatever_the_chunks() {
    let entries = samples();
    for (checksum, compression) in [(Checksum::On, Compression::Lzf), (Checksum::Off, Compression::None)] {
        let file = written(&entries, checksum, compression);
        for size in [1, 7, 4096, file.len()] {
            let (mut reader, mut dbs, mut read, mut end) = (FileReader::new(Checksum::On), Vec::new(), 0, None);
            for chunk in file.chunks(size) {
                while let Some(event) = reader.next(chunk).unwrap() {
                    match event {
                        Event::Aux { .. } | Event::ResizeDb { keys: 50, expiring: 10 } => {}
                        Event::SelectDb(db) => dbs.push(db),
                        Event::Key(record) => {
                            let entry = record.entry(&limits()).unwrap();
                            assert_eq!(entry.key(), format!("key:{read}").as_bytes());
                            assert_eq!(contents(entry.value()), contents(entries[read].value()), "key:{read}");
                            assert_eq!(entry.expiry(), (read % 3 == 0).then_some(1_795_272_585_000 + read as i64));
                            let access = match read % 4 {
                                0 => None,
                                1 => Some(Access::IdleSeconds(read as u64 * 40)),
                                _ => Some(Access::Frequency(read as u8)),
                            };
                            assert_eq!(record.access, access);
                            read += 1;
                        }
                        Event::End(found) => end = Some(found),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(reader.finish(), Ok(()));
            assert_eq!((reader.version(), reader.offset()), (10, file.len() as u64));
            assert_eq!(end, Some(if checksum == Checksum::On { End::ChecksumRight } else { End::ChecksumDisabled }));
            assert_eq!((read, dbs), (entries.len(), vec![0, 9]));
        }
    }
}

#[test]
fn the_header_that_redis_writes() {
    let mut out = Vec::new();
    FileWriter::new(Checksum::On, Compression::Lzf).header(&PREAMBLE, &mut out);
    let redis = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x89\xaf\x01\x6b\
        \xfa\x08used-mem\xc2\x40\x0e\x11\x00\xfa\x08aof-base\xc0\x00";
    assert_eq!(out.escape_ascii().to_string(), redis.escape_ascii().to_string());
    let id = "0123456789abcdef0123456789abcdef01234567";
    let replication = Some(Replication { stream_db: -1, id, offset: 70_000 });
    let (mut out, mut reader, mut names) = (Vec::new(), FileReader::new(Checksum::Off), Vec::new());
    FileWriter::new(Checksum::Off, Compression::Lzf).header(&Preamble { replication, aof_base: true, ..PREAMBLE }, &mut out);
    while let Some(event) = reader.next(&out).unwrap() {
        let Event::Aux { name, value } = event else { panic!("{event:?}") };
        names.push(format!("{} {}", name.escape_ascii(), value.escape_ascii()));
    }
    assert_eq!(names[4..], ["repl-stream-db -1", &format!("repl-id {id}"), "repl-offset 70000", "aof-base 1"]);
}

#[test]
fn every_token_is_told() {
    let verdict = judge(&all_tokens(), [], &limits());
    assert_eq!((verdict.error, verdict.end, verdict.rest), (None, Some(End::ChecksumRight), 0));
    let lines: Vec<&str> = verdict.events.iter().map(|line| line.as_str()).collect();
    assert_eq!(lines[2..5], ["SelectDb(0)", "ResizeDb { keys: 100, expiring: 2 }", "s None None at 47: \\x00\\x05hello"]);
    assert_eq!(lines[5], "7 Some(1976943448883713) None at 65: \\x00\\xc1\\x00\\x10");
    assert!(lines[6].starts_with("lzf Some(67305985000) Some(IdleSeconds(255)) "), "{}", lines[6]);
    assert!(lines[7].starts_with("l None Some(Frequency(5)) "), "{}", lines[7]);
    let what = lines.iter().filter(|line| line.contains("not supported yet")).count();
    assert_eq!(what, 2);
    assert!(lines.iter().any(|line| line.starts_with("Function(\"#!lua") || line.starts_with("Function([35,")));
    assert!(lines.contains(&"ModuleAux { module: \"ECAwQFBgc\" }"));
    assert!(lines.iter().any(|line| line.contains("stream keys are not supported yet: key 'st'")));
    assert!(lines.iter().any(|line| line.contains("module keys are not supported yet: key 'mo'")));
}

#[test]
fn chunks_change_nothing() {
    let mut file = all_tokens();
    file.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let whole = judge(&file, [], &limits());
    assert_eq!((whole.rest, whole.error.clone()), (14, None));
    for size in 1..file.len() {
        assert_eq!(judge(&file, cuts_of(&file, size), &limits()), whole, "chunks of {size}");
    }
    for cut in 0..file.len() {
        assert_eq!(judge(&file, [cut], &limits()), whole, "cut at {cut}");
    }
}

#[test]
fn a_file_that_ends_early_is_incomplete_wherever_it_ends() {
    let file = all_tokens();
    for len in 0..file.len() {
        let verdict = judge(&file[..len], [], &limits());
        let error = verdict.error.clone().unwrap();
        assert_eq!((error.cause, verdict.end), (Cause::Incomplete, None), "{len} bytes");
        assert!(error.offset <= len as u64 && (error.offset > 0) == (len >= 9), "{len} bytes");
        assert_eq!(judge(&file[..len], cuts_of(&file[..len], 1), &limits()), verdict, "{len} bytes");
    }
}

#[test]
fn no_flipped_byte_does_harm() {
    let file = all_tokens();
    for at in 0..file.len() {
        for flip in [0x01, 0x40, 0x80, 0xFF] {
            let mut file = file.clone();
            file[at] ^= flip;
            let verdict = judge(&file, [], &limits());
            assert_eq!(judge(&file, cuts_of(&file, 3), &limits()), verdict, "byte {at} ^ {flip:#x}");
            let is_version = at == 8;
            let seen = verdict.error.is_some() || verdict.end != Some(End::ChecksumRight);
            assert!(seen || is_version, "byte {at} ^ {flip:#x} goes unnoticed");
        }
    }
}

#[test]
fn versions_and_signatures() {
    let error = |file: &[u8]| errors_of(file);
    assert_eq!(error(b"REDIX0010\xff"), "Wrong signature trying to load DB from file (offset 9, while reading the header)");
    for (version, number) in [("0000", 0), ("0013", 13), ("9999", 9999), ("x010", 0), ("-001", -1)] {
        let want = format!("Can't handle RDB format version {number} (offset 9, while reading the header)");
        assert_eq!(error(format!("REDIS{version}\u{7f}").as_bytes()), want);
    }
    assert_eq!(error(b"REDIS 12"), "Unexpected EOF reading RDB file (offset 0, while reading the header)");
    for version in VERSIONS_READ {
        let mut file = format!("REDIS{version:04}\0\u{1}k\u{1}v").into_bytes();
        file.push(opcode::END);
        let verdict = judge(&file, [], &limits());
        if version < CHECKSUM_SINCE {
            assert_eq!((verdict.end, verdict.error), (Some(End::ChecksumUnknown), None));
        } else {
            assert_eq!(verdict.error.map(|error| error.reading), Some(Reading::Checksum));
        }
    }
}

#[test]
fn the_checksum_is_judged() {
    let end = |file: &[u8], checksum| {
        let mut reader = FileReader::new(checksum);
        while let Some(event) = reader.next(file).unwrap() {
            if let Event::End(end) = event {
                return end;
            }
        }
        panic!("no end")
    };
    let (right, len) = (all_tokens(), all_tokens().len());
    assert_eq!(end(&right, Checksum::On), End::ChecksumRight);
    assert_eq!(end(&right, Checksum::Off), End::ChecksumUnknown);
    assert_eq!(end(&[&right[..len - 8], &[0; 8]].concat(), Checksum::On), End::ChecksumDisabled);
    assert_eq!(end(&[&right[..len - 8], &[9; 8]].concat(), Checksum::On), End::ChecksumWrong);
}

/// Type and value, then what they hold; ziplists, zipmaps and intsets are laid out in `codec/ziplist.rs` and `decode.rs`.
#[test]
fn old_encodings() {
    let ziplist = |entries: &[u8], tail: u8, count: u8| {
        let len = (entries.len() + 11) as u8;
        [&[len, len, 0, 0, 0, tail, 0, 0, 0, count, 0][..], entries, b"\xff"].concat()
    };
    let four = ziplist(b"\x00\x01a\x03\xf2\x02\x01b\x03\xc0\xe8\x03", 18, 4);
    type Holds<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, &[u8], &[u8], Holds<'_>)] = &[
        ("list of ziplist", b"\x0a", &four, &[("a", ""), ("1", ""), ("b", ""), ("1000", "")]),
        (
            "quicklist",
            b"\x0e",
            &[b"\x02", &four[..], &four].concat(),
            &[("a", ""), ("1", ""), ("b", ""), ("1000", ""), ("a", ""), ("1", ""), ("b", ""), ("1000", "")],
        ),
        ("hash of ziplist", b"\x0d", &four, &[("a", "1"), ("b", "1000")]),
        ("sorted set of ziplist", b"\x0c", &four, &[("a", "\0\0\0\0\0\0\u{f0}?"), ("b", "\0\0\0\0\0@\u{8f}@")]),
        ("zipmap", b"\x09", b"\x11\x02\x03foo\x02\x00hi\x01g\x00\x03xxx\xff", &[("foo", "hi"), ("g", "")]),
        ("intset of 2", b"\x0b", b"\x0c\x02\0\0\0\x02\0\0\0\xff\xff\x05\0", &[("-1", ""), ("5", "")]),
        ("intset of 4", b"\x0b", b"\x10\x04\0\0\0\x02\0\0\0\0\0\0\x80\x05\0\0\0", &[("-2147483648", ""), ("5", "")]),
        ("intset of 8", b"\x0b", b"\x10\x08\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0", &[("4294967296", "")]),
        ("list of strings", b"\x01", b"\x02\x01a\xc1\xe8\x03", &[("a", ""), ("1000", "")]),
        ("scores as text", b"\x03", b"\x01\x01m\x031.5", &[("m", "\0\0\0\0\0\0\u{f8}?")]),
    ];
    for (name, kind, value, want) in cases {
        let mut want: Vec<(Vec<u8>, Vec<u8>)> =
            want.iter().map(|(a, b)| (a.as_bytes().to_vec(), b.chars().map(|c| c as u8).collect())).collect();
        let file = file_of(&[kind, &b"\x03key"[..], value].concat());
        let mut reader = FileReader::new(Checksum::On);
        let Ok(Some(Event::Key(record))) = reader.next(&file) else { panic!("{name}") };
        let mut found = contents(record.entry(&limits()).unwrap().value());
        if !name.contains("list") {
            found.sort();
            want.sort();
        }
        assert_eq!(found, want, "{name}");
        assert!(matches!(reader.next(&file), Ok(Some(Event::End(End::ChecksumRight)))), "{name}");
    }
}

#[test]
fn errors_say_where_and_what() {
    for (body, want) in [
        (&b"\x08"[..], "Invalid object type: 8 (offset 10, while reading a type)"),
        (b"\xf6\x01a", "Pre-release function format not supported (offset 10, while reading a type)"),
        (b"\x00\xc4", "unknown length encoding (offset 11, while reading a key)"),
        (b"\x02\x03key\x02\x01a\xc9", "unknown length encoding: key 'key' (offset 18, while reading a value)"),
        (b"\xfa\x01a\xca", "unknown length encoding (offset 13, while reading an auxiliary field)"),
        (b"\xfe\xca", "unknown length encoding (offset 11, while reading a database's number or size)"),
        (b"\xf7\x01\x03\x00\x00", "bad when_opcode (offset 12, while reading a module's data)"),
        (b"\xf5\xcf", "unknown length encoding (offset 11, while reading a function library)"),
    ] {
        assert_eq!(errors_of(&file_of(body)), want);
    }
    let verdict = judge(&file_of(b"\x02\x01\x00\x02\x01a\x01a\x02\x01e\x00"), [], &limits());
    let (twice, empty) = (
        "an element is there twice: key '\\x00' (offset 17, while reading a value)",
        "a collection without elements: key 'e' (offset 21, while reading a value)",
    );
    assert!(verdict.events[0].ends_with(twice), "{}", verdict.events[0]);
    assert!(verdict.events[1].ends_with(empty), "{}", verdict.events[1]);
}

/// The whole value must be held, but no more than twice, and not before it has come.
#[test]
fn a_value_larger_than_any_chunk() {
    const LEN: usize = 20 << 20;
    let mut body = b"\x00\x03big".to_vec();
    write_length(LEN as u64, &mut body);
    body.extend((0..LEN).map(|i| (i * 7 / 8) as u8));
    let file = file_of(&body);
    let (mut reader, mut len, mut end) = (FileReader::new(Checksum::On), 0, None);
    for (index, chunk) in file.chunks(4096).enumerate() {
        while let Some(event) = reader.next(chunk).unwrap() {
            match event {
                Event::Key(record) => len = record.value.len() - 5,
                Event::End(found) => end = Some(found),
                other => panic!("{other:?}"),
            }
        }
        assert!(reader.gathered_bytes() <= 16_384 + 2 * (index + 1) * 4096);
    }
    assert_eq!((len, end), (LEN, Some(End::ChecksumRight)));
    assert!(reader.gathered_bytes() <= 1 << 20, "what was held is given back");
}

#[test]
fn many_small_elements_in_small_chunks_are_walked_once() {
    const ELEMENTS: u64 = 300_000;
    let mut body = b"\x02\x03set".to_vec();
    write_length(ELEMENTS, &mut body);
    for element in 0..ELEMENTS {
        let element = element.to_string();
        body.push(element.len() as u8);
        body.extend_from_slice(element.as_bytes());
    }
    let file = file_of(&body);
    // Were it walked from its beginning for each chunk, this would be 10^11 steps.
    let mut reader = FileReader::new(Checksum::On);
    let mut keys = 0;
    for chunk in file.chunks(5) {
        while let Some(event) = reader.next(chunk).unwrap() {
            keys += usize::from(matches!(event, Event::Key(_)));
        }
    }
    assert_eq!((keys, reader.finish()), (1, Ok(())));
}

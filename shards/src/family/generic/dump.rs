//! DUMP and RESTORE: a value as bytes that another server can take in.
//!
//! ```text
//! type: u8   value as in an RDB file   RDB version: u16   CRC-64 of all before      (both little-endian)
//! ```

use super::super::ShardCommand;
use crate::codec::crc64::crc64;
use crate::codec::rdb::RDB_VERSION;
use crate::codec::{Compression, Decoded, Reader, ValueLimits, decode_value, encode_value, value_type};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::Value;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static DUMP: ShardCommand = Command {
    spec: Spec {
        name: "dump",
        group: Group::Generic,
        since: "2.6.0",
        summary: "Serializes a key's value.",
        complexity: "O(N) in the size of the value",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: dump,
};

fn dump(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    match x.get(&x.key(a.at(1))) {
        Some(value) => r.bulk(&dump_payload(value)),
        None => r.null(),
    }
    Ok(())
}

const FOOTER: usize = 10;

/// A value as DUMP answers it and RESTORE takes it (MIGRATE sends the same).
pub fn dump_payload(value: Value<'_>) -> Vec<u8> {
    let mut payload = vec![value_type(value)];
    encode_value(value, Compression::Lzf, &mut payload);
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let crc = crc64(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload
}

/// The type and value in a payload; `None` if its version or checksum is wrong.
fn checked_body(payload: &[u8]) -> Option<&[u8]> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER)?)?;
    let (version, crc) = footer.split_first_chunk()?;
    let right = u16::from_le_bytes(*version) <= RDB_VERSION && crc == crc64(0, &payload[..payload.len() - 8]).to_le_bytes();
    right.then_some(body)
}

pub static RESTORE: ShardCommand = Command {
    spec: Spec {
        name: "restore",
        group: Group::Generic,
        since: "2.6.0",
        summary: "Creates a key from a serialized value.",
        complexity: "O(N) in the size of the value, O(N*log(N)) for sorted sets",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("ttl", ArgKind::Integer),
            Arg::new("serialized-value", ArgKind::String),
            Arg::new("replace", ArgKind::PureToken).token("REPLACE").flags(ArgFlags::OPTIONAL).since("3.0.0"),
            Arg::new("absttl", ArgKind::PureToken).token("ABSTTL").flags(ArgFlags::OPTIONAL).since("5.0.0"),
            Arg::new("seconds", ArgKind::Integer).token("IDLETIME").flags(ArgFlags::OPTIONAL).since("5.0.0"),
            Arg::new("frequency", ArgKind::Integer).token("FREQ").flags(ArgFlags::OPTIONAL).since("5.0.0"),
        ],
        history: &[("3.0.0", "Option `REPLACE`."), ("5.0.0", "Option `ABSTTL`."), ("5.0.0", "Options `IDLETIME` and `FREQ`.")],
        ..Spec::DEFAULT
    },
    run: restore,
};

pub static RESTORE_ASKING: ShardCommand = Command {
    spec: Spec {
        name: "restore-asking",
        group: Group::Server,
        since: "3.0.0",
        summary: "RESTORE for the migration of cluster slots.",
        complexity: "O(N) in the size of the value, O(N*log(N)) for sorted sets",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::ASKING).with(Flags::SYSTEM),
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("ttl", ArgKind::Integer),
            Arg::new("serialized-value", ArgKind::String),
            Arg::new("replace", ArgKind::PureToken).token("REPLACE").flags(ArgFlags::OPTIONAL).since("3.0.0"),
            Arg::new("absttl", ArgKind::PureToken).token("ABSTTL").flags(ArgFlags::OPTIONAL).since("5.0.0"),
            Arg::new("seconds", ArgKind::Integer).token("IDLETIME").flags(ArgFlags::OPTIONAL).since("5.0.0"),
            Arg::new("frequency", ArgKind::Integer).token("FREQ").flags(ArgFlags::OPTIONAL).since("5.0.0"),
        ],
        history: &[("3.0.0", "Option `REPLACE`."), ("5.0.0", "Option `ABSTTL`."), ("5.0.0", "Options `IDLETIME` and `FREQ`.")],
        ..Spec::DEFAULT
    },
    run: restore,
};

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(a: Args<'_>) -> Result<Self, Error> {
        let mut options = RestoreOptions::default();
        let mut at = 4;
        while at < a.len() {
            if a.is(at, "replace") {
                options.replace = true;
            } else if a.is(at, "absttl") {
                options.absolute = true;
            } else if a.is(at, "idletime") && at + 1 < a.len() && options.frequency.is_none() {
                at += 1;
                let idle = parse_i64(a.at(at)).ok_or(Error::NotInteger)?;
                options.idle_seconds = Some(idle);
                if idle < 0 {
                    return Err(Error::Text("ERR Invalid IDLETIME value, must be >= 0"));
                }
            } else if a.is(at, "freq") && at + 1 < a.len() && options.idle_seconds.is_none() {
                at += 1;
                let frequency = parse_i64(a.at(at)).ok_or(Error::NotInteger)?;
                let invalid = Error::Text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                options.frequency = Some(u8::try_from(frequency).map_err(|_| invalid)?);
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// The access clock of the restored key, as far as the eviction policy knows what the options say.
    fn access(&self, x: &Exec<'_>) -> u32 {
        let fresh = x.shard.fresh_access(x.now);
        match (x.settings().maxmemory_policy.is_lfu(), self.frequency, self.idle_seconds) {
            (true, Some(frequency), _) => fresh & !0xFF | u32::from(frequency),
            (false, _, Some(idle)) => fresh.wrapping_sub(idle as u32) & 0xFF_FFFF,
            _ => fresh,
        }
    }
}

fn restore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let options = RestoreOptions::parse(a)?;
    let key = x.key(a.at(1));
    if !options.replace && x.exists(&key) {
        return Err(Error::Text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    if ttl_ms < 0 {
        return Err(Error::Text("ERR Invalid TTL value, must be >= 0"));
    }
    let body = checked_body(a.at(3)).ok_or(Error::Text("ERR DUMP payload version or checksum are wrong"))?;
    let value = decoded(x, body)?;
    let base_ms = if options.absolute { 0 } else { x.now };
    // As in Redis, a time beyond all reach wraps round into the past.
    let expiry = (ttl_ms != 0).then(|| ttl_ms.wrapping_add(base_ms));
    let replaced = options.replace && x.delete_even_expired(&key);
    r.ok();
    if expiry.is_some_and(|at_ms| x.is_past(at_ms)) {
        if replaced {
            x.changed(&key);
            x.effect(&[b"DEL", key.bytes]);
            x.event(NotifyFlags::GENERIC, "del", &key);
        }
        return Ok(());
    }
    let mut entry = value.into_entry(key.bytes, expiry);
    entry.set_access(options.access(x));
    x.shard.schemas.fit_entry(&mut entry);
    x.put(&key, entry);
    if let (Some(at_ms), false) = (expiry, options.absolute)
        && x.wants_effects()
    {
        let mut digits = itoa::Buffer::new();
        let mut effect: Vec<&[u8]> = a.iter().collect();
        effect[2] = digits.format(at_ms).as_bytes();
        effect.push(b"ABSTTL");
        x.effect(&effect);
    }
    x.changed(&key);
    x.event(NotifyFlags::GENERIC, "restore", &key);
    Ok(())
}

/// Bytes behind the value are passed over, as redis-server does.
fn decoded<'a>(x: &Exec<'_>, body: &'a [u8]) -> Result<Decoded<'a>, Error> {
    let limits = ValueLimits::new(x.settings(), x.shard.hasher.state());
    let mut reader = Reader::new(body);
    let value = reader.byte().and_then(|kind| decode_value(kind, &mut reader, &limits));
    value.map_err(|_| Error::Text("ERR Bad data format"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ArgsBuf;
    use crate::family::testing::Session;
    use crate::settings::EvictionPolicy;

    fn payload(s: &mut Session, name: &[u8]) -> Vec<u8> {
        let key = s.shard.hasher.key(name);
        dump_payload(s.shard.dbs[s.db].value(&key).unwrap())
    }

    fn restore(s: &mut Session, key: &str, ttl: &str, payload: &[u8], options: &[&str]) -> String {
        let mut args = ArgsBuf::from_slices(&[b"RESTORE", key.as_bytes(), ttl.as_bytes(), payload]);
        options.iter().for_each(|option| args.push(option.as_bytes()));
        s.run_args(args.args())
    }

    #[test]
    fn the_documented_payload() {
        let mut s = Session::new();
        s.run("SET mykey 10");
        assert_eq!(payload(&mut s, b"mykey"), b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb");
        assert!(s.run("DUMP mykey").starts_with("$13 "));
        assert_eq!(s.run("DUMP none"), "$-1");
    }

    #[test]
    fn restoring() {
        let mut s = Session::new();
        s.run("SET a hello");
        let dumped = payload(&mut s, b"a");
        let mut check = |key: &str, ttl: &str, options: &[&str], want: &str| {
            assert_eq!(restore(&mut s, key, ttl, &dumped, options), want, "{key} {ttl} {options:?}");
        };
        check("a", "0", &[], "-BUSYKEY Target key name already exists.");
        check("a", "x", &[], "-BUSYKEY Target key name already exists.");
        check("a", "x", &["REPLACE"], "-ERR value is not an integer or out of range");
        check("b", "-1", &[], "-ERR Invalid TTL value, must be >= 0");
        check("b", "0", &["IDLETIME", "-1"], "-ERR Invalid IDLETIME value, must be >= 0");
        check("b", "0", &["FREQ", "256"], "-ERR Invalid FREQ value, must be >= 0 and <= 255");
        check("b", "0", &["FREQ", "1", "IDLETIME", "1"], "-ERR syntax error");
        check("b", "0", &["FREQ"], "-ERR syntax error");
        check("b", "0", &[], "+OK");
        check("c", "1000", &["idletime", "77"], "+OK");
        check("d", "1700000005000", &["ABSTTL"], "+OK");
        check("e", "5", &["ABSTTL"], "+OK");
        check("a", "5", &["ABSTTL", "REPLACE"], "+OK");
        s.check(&[
            ("GET b", "$5 hello"),
            ("PTTL c", ":1000"),
            ("OBJECT IDLETIME c", ":77"),
            ("PTTL d", ":5000"),
            ("EXISTS e a", ":0"),
        ]);
        let effects: Vec<String> = s.effects().iter().map(|e| e.replace(&*String::from_utf8_lossy(&dumped), "DATA")).collect();
        assert_eq!(
            effects,
            [
                "SET a hello",
                "RESTORE b 0 DATA",
                "RESTORE c 1700000001000 DATA idletime 77 ABSTTL",
                "RESTORE d 1700000005000 DATA ABSTTL",
                "DEL a",
            ]
        );
        s.shard.settings.maxmemory_policy = EvictionPolicy::AllkeysLfu;
        assert_eq!(restore(&mut s, "f", "0", &dumped, &["FREQ", "200"]), "+OK");
        s.check(&[("OBJECT FREQ f", ":200")]);
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        let mut s = Session::new();
        s.run("SET a hello");
        let good = payload(&mut s, b"a");
        const CHECKSUM: &str = "-ERR DUMP payload version or checksum are wrong";
        assert_eq!(restore(&mut s, "b", "0", b"", &[]), CHECKSUM);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(restore(&mut s, "b", "0", &bad, &[]), CHECKSUM, "byte {at}");
        }
        let sealed = |body: &[u8], version: u16| {
            let mut bytes = [body, &version.to_le_bytes()].concat();
            let crc = crc64(0, &bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            bytes
        };
        assert_eq!(restore(&mut s, "b", "0", &sealed(b"\x00\x01a", 11), &[]), CHECKSUM);
        for body in [&b""[..], b"\x00", b"\x00\x05a", b"\x02\x00", b"\x07\x01", b"\xff"] {
            assert_eq!(restore(&mut s, "b", "0", &sealed(body, 10), &[]), "-ERR Bad data format", "{body:?}");
        }
        assert_eq!(restore(&mut s, "b", "0", &sealed(b"\x00\x01a", 6), &[]), "+OK");
        s.check(&[("GET b", "$1 a")]);
    }
}

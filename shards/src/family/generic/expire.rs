//! Times to live: setting, reading and removing them.

use super::super::ShardCommand;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::shard::deletion;

pub static EXPIRE: ShardCommand = Command {
    spec: Spec {
        name: "expire",
        group: Group::Generic,
        summary: "Sets a key's time to live in seconds.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("seconds", ArgKind::Integer),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[
                    Arg::new("nx", ArgKind::PureToken).token("NX"),
                    Arg::new("xx", ArgKind::PureToken).token("XX"),
                    Arg::new("gt", ArgKind::PureToken).token("GT"),
                    Arg::new("lt", ArgKind::PureToken).token("LT"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("7.0.0"),
        ],
        history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
        ..Spec::DEFAULT
    },
    run: expire,
};

fn expire(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_expiry(x, a, r, Unit::Seconds, x.now)
}

pub static PEXPIRE: ShardCommand = Command {
    spec: Spec {
        name: "pexpire",
        group: Group::Generic,
        since: "2.6.0",
        summary: "Sets a key's time to live in milliseconds.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("milliseconds", ArgKind::Integer),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[
                    Arg::new("nx", ArgKind::PureToken).token("NX"),
                    Arg::new("xx", ArgKind::PureToken).token("XX"),
                    Arg::new("gt", ArgKind::PureToken).token("GT"),
                    Arg::new("lt", ArgKind::PureToken).token("LT"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("7.0.0"),
        ],
        history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
        ..Spec::DEFAULT
    },
    run: pexpire,
};

fn pexpire(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_expiry(x, a, r, Unit::Milliseconds, x.now)
}

pub static EXPIREAT: ShardCommand = Command {
    spec: Spec {
        name: "expireat",
        group: Group::Generic,
        since: "1.2.0",
        summary: "Sets the time, in seconds since 1970, at which a key expires.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("unix-time-seconds", ArgKind::UnixTime),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[
                    Arg::new("nx", ArgKind::PureToken).token("NX"),
                    Arg::new("xx", ArgKind::PureToken).token("XX"),
                    Arg::new("gt", ArgKind::PureToken).token("GT"),
                    Arg::new("lt", ArgKind::PureToken).token("LT"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("7.0.0"),
        ],
        history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
        ..Spec::DEFAULT
    },
    run: expireat,
};

fn expireat(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_expiry(x, a, r, Unit::Seconds, 0)
}

pub static PEXPIREAT: ShardCommand = Command {
    spec: Spec {
        name: "pexpireat",
        group: Group::Generic,
        since: "2.6.0",
        summary: "Sets the time, in milliseconds since 1970, at which a key expires.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("unix-time-milliseconds", ArgKind::UnixTime),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[
                    Arg::new("nx", ArgKind::PureToken).token("NX"),
                    Arg::new("xx", ArgKind::PureToken).token("XX"),
                    Arg::new("gt", ArgKind::PureToken).token("GT"),
                    Arg::new("lt", ArgKind::PureToken).token("LT"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("7.0.0"),
        ],
        history: &[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")],
        ..Spec::DEFAULT
    },
    run: pexpireat,
};

fn pexpireat(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_expiry(x, a, r, Unit::Milliseconds, 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// NX, XX, GT and LT: on what present expiry a new one is set.
#[derive(Default)]
struct Condition {
    none: bool,
    some: bool,
    greater: bool,
    less: bool,
}

impl Condition {
    fn parse(a: Args<'_>) -> Result<Self, Error> {
        let mut condition = Condition::default();
        for option in a.iter() {
            let flag = match option.to_ascii_lowercase().as_slice() {
                b"nx" => &mut condition.none,
                b"xx" => &mut condition.some,
                b"gt" => &mut condition.greater,
                b"lt" => &mut condition.less,
                _ => return Err(Error::Owned(format!("ERR Unsupported option {}", String::from_utf8_lossy(option)))),
            };
            *flag = true;
        }
        if condition.none && (condition.some || condition.greater || condition.less) {
            return Err(Error::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if condition.greater && condition.less {
            return Err(Error::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// No expiry counts as one that never comes.
    fn allows(&self, present: Option<i64>, at_ms: i64) -> bool {
        match present {
            None => !self.some && !self.greater,
            Some(present) => !self.none && (!self.greater || at_ms > present) && (!self.less || at_ms < present),
        }
    }
}

fn set_expiry(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, unit: Unit, base_ms: i64) -> CommandResult {
    let condition = Condition::parse(a.from(3))?;
    let number = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    let in_ms = if unit == Unit::Seconds { number.checked_mul(1000) } else { Some(number) };
    let at_ms = in_ms.and_then(|ms| ms.checked_add(base_ms)).ok_or(Error::InvalidExpire(x.spec.name))?;
    let key = x.key(a.at(1));
    let allowed = x.get_mut(&key).is_some() && condition.allows(x.expiry(&key).flatten(), at_ms);
    r.integer(i64::from(allowed));
    if !allowed {
        return Ok(());
    }
    if x.is_past(at_ms) {
        x.delete(&key);
        x.changed(&key);
        x.effect(&[deletion(x.settings().lazyfree_lazy_expire), key.bytes]);
        x.event(NotifyFlags::GENERIC, "del", &key);
        return Ok(());
    }
    x.set_expiry(&key, Some(at_ms));
    x.changed(&key);
    if (unit == Unit::Seconds || base_ms != 0) && x.wants_effects() {
        let mut digits = itoa::Buffer::new();
        let mut effect = vec![&b"PEXPIREAT"[..], key.bytes, digits.format(at_ms).as_bytes()];
        effect.extend(a.from(3).iter());
        x.effect(&effect);
    }
    x.event(NotifyFlags::GENERIC, "expire", &key);
    Ok(())
}

pub static TTL: ShardCommand = Command {
    spec: Spec {
        name: "ttl",
        group: Group::Generic,
        summary: "Tells how many seconds a key has left to live.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        history: &[("2.8.0", "Answers -2 where there is no key.")],
        ..Spec::DEFAULT
    },
    run: ttl,
};

fn ttl(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    tell_expiry(x, a, r, Unit::Seconds, x.now)
}

pub static PTTL: ShardCommand = Command {
    spec: Spec {
        name: "pttl",
        group: Group::Generic,
        since: "2.6.0",
        summary: "Tells how many milliseconds a key has left to live.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        history: &[("2.8.0", "Answers -2 where there is no key.")],
        ..Spec::DEFAULT
    },
    run: pttl,
};

fn pttl(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    tell_expiry(x, a, r, Unit::Milliseconds, x.now)
}

pub static EXPIRETIME: ShardCommand = Command {
    spec: Spec {
        name: "expiretime",
        group: Group::Generic,
        since: "7.0.0",
        summary: "Tells when a key expires, in seconds since 1970.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: expiretime,
};

fn expiretime(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    tell_expiry(x, a, r, Unit::Seconds, 0)
}

pub static PEXPIRETIME: ShardCommand = Command {
    spec: Spec {
        name: "pexpiretime",
        group: Group::Generic,
        since: "7.0.0",
        summary: "Tells when a key expires, in milliseconds since 1970.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: pexpiretime,
};

fn pexpiretime(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    tell_expiry(x, a, r, Unit::Milliseconds, 0)
}

/// Answers -2 for no key, -1 for no expiry, else the time from `base_ms` on, seconds rounded.
fn tell_expiry(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, unit: Unit, base_ms: i64) -> CommandResult {
    let key = x.key(a.at(1));
    r.integer(match x.look(&key).is_some().then(|| x.expiry(&key).flatten()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => {
            let ms = at_ms.saturating_sub(base_ms).max(0);
            if unit == Unit::Seconds { ((ms as u64 + 500) / 1000) as i64 } else { ms }
        }
    });
    Ok(())
}

pub static PERSIST: ShardCommand = Command {
    spec: Spec {
        name: "persist",
        group: Group::Generic,
        since: "2.2.0",
        summary: "Removes a key's expiry.",
        arity: 2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: persist,
};

fn persist(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let had_expiry = x.get_mut(&key).is_some() && x.expiry(&key).flatten().is_some();
    if had_expiry {
        x.set_expiry(&key, None);
        x.changed(&key);
        x.event(NotifyFlags::GENERIC, "persist", &key);
    }
    r.integer(i64::from(had_expiry));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;

    #[test]
    fn times_are_set_told_and_removed() {
        let mut s = Session::new();
        s.check(&[
            ("EXPIRE k 10", ":0"),
            ("TTL k", ":-2"),
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
            ("PEXPIRETIME k", ":-1"),
            ("EXPIRE k 10", ":1"),
            ("TTL k", ":10"),
            ("PTTL k", ":10000"),
            ("EXPIRETIME k", ":1700000010"),
            ("PEXPIRETIME k", ":1700000010000"),
            ("PEXPIRE k 1499", ":1"),
            ("TTL k", ":1"),
            ("PEXPIRE k 1500", ":1"),
            ("TTL k", ":2"),
            ("EXPIREAT k 1700000020", ":1"),
            ("TTL k", ":20"),
            ("PEXPIREAT k 1700000000007", ":1"),
            ("PTTL k", ":7"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("PERSIST none", ":0"),
            ("TTL k", ":-1"),
            ("PEXPIRE k 5", ":1"),
        ]);
        s.now += 5;
        s.check(&[("GET k", "$1 v"), ("PTTL k", ":0")]);
        s.now += 1;
        s.check(&[("GET k", "$-1")]);
        assert_eq!(
            s.effects(),
            [
                "SET k v",
                "PEXPIREAT k 1700000010000",
                "PEXPIREAT k 1700000001499",
                "PEXPIREAT k 1700000001500",
                "PEXPIREAT k 1700000020000",
                "PEXPIREAT k 1700000000007",
                "PERSIST k",
                "PEXPIREAT k 1700000000005",
                "DEL k",
            ]
        );
    }

    #[test]
    fn conditions() {
        let mut s = Session::new();
        s.check(&[
            ("EXPIRE k 10 foo", "-ERR Unsupported option foo"),
            ("EXPIRE k 10 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE k 10 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("SET k v", "+OK"),
            ("EXPIRE k 10 XX", ":0"),
            ("EXPIRE k 10 GT", ":0"),
            ("EXPIRE k 10 XX LT", ":0"),
            ("EXPIRE k 10 LT", ":1"),
            ("EXPIRE k 20 NX", ":0"),
            ("EXPIRE k 10 GT", ":0"),
            ("EXPIRE k 11 GT", ":1"),
            ("EXPIRE k 11 LT", ":0"),
            ("EXPIRE k 9 xx lt", ":1"),
        ]);
        assert_eq!(s.effects().last().map(String::as_str), Some("PEXPIREAT k 1700000009000 xx lt"));
    }

    #[test]
    fn a_time_in_the_past_deletes() {
        let mut s = Session::new();
        for request in
            ["EXPIRE k 0", "EXPIRE k -1", "PEXPIREAT k 1700000000000", "EXPIREAT k 1", "PEXPIRE k -9223372036854775808"]
        {
            s.run("SET k v");
            s.check(&[(request, ":1"), ("EXISTS k", ":0")]);
            assert_eq!(s.effects().last().map(String::as_str), Some("DEL k"), "{request}");
        }
    }

    #[test]
    fn numbers_out_of_range() {
        let mut s = Session::new();
        s.run("SET k v");
        s.check(&[
            ("EXPIRE k x", "-ERR value is not an integer or out of range"),
            ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
            ("PEXPIREAT k 9223372036854775807", ":1"),
            ("PEXPIRETIME k", ":9223372036854775807"),
            ("EXPIRETIME k", ":9223372036854776"),
        ]);
    }
}

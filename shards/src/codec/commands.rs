//! A value written out as the commands that make it: what an append-only file without RDB preamble holds, and how a change reaches
//! a shard that did not make it.
//!
//! Forms are those of redis-server 7.0's rewrite: SET, RPUSH, SADD, ZADD, HMSET, at most [`ITEMS_PER_COMMAND`] items each, and
//! PEXPIREAT for the expiry. The key is not deleted first: whoever writes over something does that.

use crate::effects::write_command;
use crate::keyspace::Value;
use crate::number::write_f64;
use crate::reply::Reply;
use crate::value::item::Item;

/// Elements, members or fields in one command.
pub const ITEMS_PER_COMMAND: usize = 64;

/// Appends the commands for a key's value and expiry (milliseconds since 1970); `ended` is told where each ends in `out`.
pub fn write_value(key: &[u8], value: Value<'_>, expiry: Option<i64>, out: &mut Vec<u8>, ended: &mut dyn FnMut(usize)) {
    let mut batches = Batches { out, ended, key, left: 0, in_command: 0, open: false };
    match value {
        Value::Integer(number) => batches.set(itoa::Buffer::new().format(number).as_bytes()),
        Value::Short(bytes) => batches.set(bytes),
        Value::Long(bytes) => batches.set(bytes),
        Value::List(list) => {
            batches.left = list.len();
            list.iter().for_each(|element| {
                batches.begin_item(b"RPUSH", 1);
                batches.item(element);
            });
        }
        Value::Set(set) => {
            batches.left = set.len();
            set.for_each(&mut |member| {
                batches.begin_item(b"SADD", 1);
                batches.item(member);
            });
        }
        Value::Hash(hash) => {
            batches.left = hash.len();
            hash.for_each(&mut |field, value| {
                batches.begin_item(b"HMSET", 2);
                batches.item(field);
                batches.item(value);
            });
        }
        Value::SortedSet(zset) => {
            batches.left = zset.len();
            let mut text = Vec::new();
            for (member, score) in zset.iter() {
                text.clear();
                write_f64(&mut text, score);
                batches.begin_item(b"ZADD", 2);
                batches.item(Item::Bytes(&text));
                batches.item(member);
            }
        }
    }
    batches.finish();
    if let Some(at_ms) = expiry {
        write_command(out, [&b"PEXPIREAT"[..], key, itoa::Buffer::new().format(at_ms).as_bytes()].into_iter());
        ended(out.len());
    }
}

/// Writes items as commands of bounded size.
struct Batches<'a> {
    out: &'a mut Vec<u8>,
    ended: &'a mut dyn FnMut(usize),
    key: &'a [u8],
    /// Items still to come.
    left: usize,
    /// Items still to come in the command under way.
    in_command: usize,
    /// There is a command under way.
    open: bool,
}

impl Batches<'_> {
    fn set(&mut self, bytes: &[u8]) {
        write_command(self.out, [&b"SET"[..], self.key, bytes].into_iter());
        (self.ended)(self.out.len());
    }

    /// An item of `words` arguments follows.
    fn begin_item(&mut self, command: &[u8], words: usize) {
        if self.in_command == 0 {
            self.finish();
            self.in_command = self.left.min(ITEMS_PER_COMMAND);
            self.left -= self.in_command;
            self.open = true;
            let mut writer = Reply::new(self.out, false);
            writer.array(2 + words * self.in_command);
            writer.bulk(command);
            writer.bulk(self.key);
        }
        self.in_command -= 1;
    }

    fn item(&mut self, item: Item<'_>) {
        item.with_bytes(|bytes| Reply::new(self.out, false).bulk(bytes));
    }

    /// Ends the command under way, if there is one.
    fn finish(&mut self) {
        debug_assert_eq!(self.in_command, 0, "a command has the items it has promised");
        if std::mem::take(&mut self.open) {
            (self.ended)(self.out.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::family::testing::{Session, shown_effects};

    /// The commands for a key, as lines.
    fn written(s: &Session, name: &str) -> Vec<String> {
        let key = s.shard.hasher.key(name.as_bytes());
        let (value, expiry) = (s.shard.dbs[0].value(&key).unwrap(), s.shard.dbs[0].expiry(&key).flatten());
        let mut effects = Effects::default();
        effects.push_written(0, |out, ended| write_value(key.bytes, value, expiry, out, ended));
        shown_effects(&effects)
    }

    #[test]
    fn values_as_redis_rewrites_them() {
        let mut s = Session::new();
        for (make, wanted) in [
            ("SET k v", &["SET k v"][..]),
            ("SET k 17 PX 5", &["SET k 17", "PEXPIREAT k 1700000000005"]),
            ("RPUSH k a 2 c", &["RPUSH k a 2 c"]),
            ("SADD k 3 1 2", &["SADD k 1 2 3"]),
            ("HSET k a 1 b 2", &["HMSET k a 1 b 2"]),
            (
                "ZADD k 0.1 a 3 b 1e300 c inf d 1e20 f",
                &["ZADD k 0.10000000000000001 a 3 b 1e+20 f 1.0000000000000001e+300 c inf d"],
            ),
        ] {
            s.run("DEL k");
            s.run(make);
            assert_eq!(written(&s, "k"), wanted, "{make}");
        }
    }

    #[test]
    fn at_most_64_items_in_a_command() {
        let mut s = Session::new();
        let numbers = |from: usize, to: usize| (from..to).map(|i| format!(" {i}")).collect::<String>();
        s.run(&format!("RPUSH l{}", numbers(0, 129)));
        let wanted = [format!("RPUSH l{}", numbers(0, 64)), format!("RPUSH l{}", numbers(64, 128)), "RPUSH l 128".into()];
        assert_eq!(written(&s, "l"), wanted);
        s.run(&format!("SADD s{}", numbers(0, 64)));
        s.run("PEXPIRE s 100");
        assert_eq!(written(&s, "s"), [format!("SADD s{}", numbers(0, 64)), "PEXPIREAT s 1700000000100".into()]);
        let pairs = |from: usize, to: usize| (from..to).map(|i| format!(" {i} m{i}")).collect::<String>();
        s.run(&format!("ZADD z{}", pairs(0, 65)));
        assert_eq!(written(&s, "z"), [format!("ZADD z{}", pairs(0, 64)), format!("ZADD z{}", pairs(64, 65))]);
        s.run(&format!("HSET h{}", pairs(0, 600)));
        let words: Vec<usize> = written(&s, "h").iter().map(|line| line.split(' ').count()).collect();
        assert_eq!(words, [[130; 9].as_slice(), &[2 + 2 * 24]].concat());
    }
}

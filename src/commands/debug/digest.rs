//! DEBUG DIGEST and DIGEST-VALUE: equal data, equal digest, whatever the order of members, the encoding, or the number of shards.
//!
//! It is redis-server's digest, so that a data set can be compared between the two:
//!
//! ```text
//! xor(d, bytes)   d ^= SHA1(bytes)                     order does not matter
//! mix(d, bytes)   d = SHA1(d ^ SHA1(bytes))            order matters
//!
//! value           mix(type number), then
//!                 string: mix(bytes)       list: mix of each element
//!                 set: xor of each member  hash, sorted set: xor of a digest mixed from field and value (score as %.17g)
//!                 xor("!!expire!!") if the key expires
//! key             mix(key), then its value's steps
//! data set        for each database with keys: mix(its number), then xor of each key's digest
//! ```

use super::on_shards;
use crate::commands::{Action, Call, Gather};
use crate::core::Core;
use kvshard::keyspace::Value;
use kvshard::number::write_f64;
use kvshard::value::item::Item;
use kvshard::{Args, Error, Reply};
use sha1::{Digest as _, Sha1};

const BYTES: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Digest([u8; BYTES]);

impl Digest {
    fn xor(&mut self, bytes: &[u8]) {
        let hash: [u8; BYTES] = Sha1::digest(bytes).into();
        self.0.iter_mut().zip(hash).for_each(|(mine, byte)| *mine ^= byte);
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    fn mix_item(&mut self, item: Item<'_>) {
        item.with_bytes(|bytes| self.mix(bytes));
    }

    /// What another shard has under [`Digest::xor`] alone.
    fn join(&mut self, other: Digest) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, byte)| *mine ^= byte);
    }

    fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Types by redis-server's numbers.
const STRING: u32 = 0;
const LIST: u32 = 1;
const SET: u32 = 2;
const SORTED_SET: u32 = 3;
const HASH: u32 = 4;

fn add_value(digest: &mut Digest, value: Value<'_>, expires: bool) {
    let kind = match value {
        Value::Integer(_) | Value::Short(_) | Value::Long(_) => STRING,
        Value::List(_) => LIST,
        Value::Set(_) => SET,
        Value::SortedSet(_) => SORTED_SET,
        Value::Hash(_) => HASH,
    };
    digest.mix(&kind.to_be_bytes());
    match value {
        Value::Integer(number) => digest.mix(number.to_string().as_bytes()),
        Value::Short(bytes) => digest.mix(bytes),
        Value::Long(bytes) => digest.mix(bytes),
        Value::List(list) => list.iter().for_each(|item| digest.mix_item(item)),
        Value::Set(set) => set.for_each(&mut |member| member.with_bytes(|bytes| digest.xor(bytes))),
        Value::SortedSet(zset) => zset.iter().for_each(|(member, score)| {
            let mut pair = Digest::default();
            pair.mix_item(member);
            let mut digits = Vec::new();
            write_f64(&mut digits, score);
            pair.mix(&digits);
            digest.xor(&pair.0);
        }),
        Value::Hash(hash) => hash.for_each(&mut |field, value| {
            let mut pair = Digest::default();
            pair.mix_item(field);
            pair.mix_item(value);
            digest.xor(&pair.0);
        }),
    }
    if expires {
        digest.xor(b"!!expire!!");
    }
}

/// Per database: whether this core has keys of it, and the xor of their digests.
fn of_shard(core: &mut Core) -> Vec<(bool, Digest)> {
    let shard = core.shard.as_ref().expect("the job waits for the shard");
    let of_db = |db: &kvshard::keyspace::Db| {
        let mut all = Digest::default();
        db.for_each(|key, value, expiry| {
            let mut digest = Digest::default();
            digest.mix(key);
            add_value(&mut digest, value, expiry.is_some());
            all.xor(&digest.0);
        });
        (!db.is_empty(), all)
    };
    shard.dbs.iter().map(of_db).collect()
}

fn joined(parts: &[Vec<(bool, Digest)>]) -> Digest {
    let mut whole = Digest::default();
    for db in 0..parts.first().map_or(0, Vec::len) {
        if parts.iter().all(|part| !part[db].0) {
            continue;
        }
        whole.mix(&(db as u32).to_be_bytes());
        parts.iter().for_each(|part| whole.join(part[db].1));
    }
    whole
}

pub fn of_all(c: &mut Call<'_>, _args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    on_shards(
        c,
        Gather::all(of_shard, |_, _, parts, r| {
            r.simple(&joined(&parts).hex());
            Ok(())
        }),
    )
}

/// Zeros for a key that does not exist.
pub fn of_keys(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let (db, keys) = (c.client().db, args.to_buf());
    let len = args.len();
    let job = move |core: &mut Core| {
        let shard = core.shard.as_ref().expect("the job waits for the shard");
        let of_key = |key| {
            let (key, mut digest) = (shard.hasher.key(key), Digest::default());
            if let Some(value) = shard.dbs[db].value(&key) {
                add_value(&mut digest, value, shard.dbs[db].expiry(&key).flatten().is_some());
            }
            digest
        };
        keys.args().iter().map(of_key).collect::<Vec<Digest>>()
    };
    on_shards(
        c,
        Gather::all(job, move |_, _, parts, r| {
            r.array(len);
            for key in 0..len {
                // All shards but the key's own have zeros.
                let mut digest = Digest::default();
                parts.iter().for_each(|part| digest.join(part[key]));
                r.simple(&digest.hex());
            }
            Ok(())
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_redis_s_digest() {
        // Asked of redis-server 7.0.15: SET a hello; DEBUG DIGEST-VALUE a.
        let mut digest = Digest::default();
        add_value(&mut digest, Value::Short(b"hello"), false);
        assert_eq!(digest.hex(), "36b23a1456b2dce2c3ed252c456761301dba8060");
    }

    #[test]
    fn shards_join_to_one_data_set() {
        let (mut a, mut b) = (Digest::default(), Digest::default());
        a.xor(b"one");
        b.xor(b"two");
        let mut both = a;
        both.join(b);
        let empty = (false, Digest::default());
        let split = [vec![empty, (true, a)], vec![empty, (true, b)]];
        assert_eq!(joined(&split), joined(&[vec![empty, (true, both)]]));
        assert_eq!(joined(&[vec![empty; 16]]), Digest::default());
    }
}

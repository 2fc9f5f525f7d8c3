//! DEBUG's words about keys: OBJECT, HTSTATS, POPULATE, RELOAD.

use super::on_shards;
use crate::commands::{Action, Call, Gather};
use crate::coordinator::contract::Order;
use crate::coordinator::status::{Reload, Saving};
use crate::core::Core;
use crate::core::shared::Node;
use kvshard::codec::{Compression, encode_value};
use kvshard::family::generic::encoding;
use kvshard::keyspace::db::Expiry;
use kvshard::keyspace::slot::SlotId;
use kvshard::keyspace::{Db, NewValue, Value, ValueMut};
use kvshard::number::parse_i64;
use kvshard::shard::lru_idle_seconds;
use kvshard::{Args, Error, Reply, Shard};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub fn object(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let (db, name) = (c.client().db, args.at(0).to_vec());
    let owner = c.core.scratch.hasher.shard_of(SlotId::of_key(&name));
    let job = move |core: &mut Core| {
        let now = core.now;
        describe(core.shard.as_mut().expect("the job waits for the shard"), db, &name, now)
    };
    let gather = Gather::all(job, |_, _, parts, r| {
        let description = parts.into_iter().next().flatten().ok_or(Error::NoSuchKey)?;
        r.simple(&description);
        Ok(())
    });
    on_shards(c, gather.on(vec![owner]))
}

/// `now`: milliseconds since 1970.
fn describe(shard: &mut Shard, db: usize, name: &[u8], now: i64) -> Option<String> {
    let key = shard.hasher.key(name);
    let address = shard.dbs[db].value_mut(&key).map(address)?;
    let value = shard.dbs[db].value(&key)?;
    let access = shard.dbs[db].access(&key)?;
    // Under an LFU policy the clock counts something else.
    let idle = if shard.policy().is_lfu() { 0 } else { lru_idle_seconds(access, now) };
    let mut serialized = Vec::new();
    encode_value(value, Compression::Lzf, &mut serialized);
    let mut text = format!(
        "Value at:{address:#x} refcount:1 encoding:{} serializedlength:{} lru:{access} lru_seconds_idle:{idle}",
        encoding(value),
        serialized.len()
    );
    if let Value::List(list) = value {
        let (nodes, limit) = (list.chunks(), shard.settings.list_max_listpack_size);
        let average = list.len() as f64 / nodes.max(1) as f64;
        text.push_str(&format!(
            " ql_nodes:{nodes} ql_avg_node:{average:.2} ql_listpack_max:{limit} ql_compressed:0 ql_uncompressed_size:{}",
            list.bytes()
        ));
    }
    Some(text)
}

fn address(value: ValueMut<'_>) -> usize {
    match value {
        ValueMut::Integer(number) => std::ptr::from_mut(number).addr(),
        ValueMut::Short(bytes) => bytes.as_ptr().addr(),
        ValueMut::Long(bytes) => bytes.as_ptr().addr(),
        ValueMut::List(list) => std::ptr::from_mut(list).addr(),
        ValueMut::Hash(hash) => std::ptr::from_mut(hash).addr(),
        ValueMut::Set(set) => std::ptr::from_mut(set).addr(),
        ValueMut::SortedSet(zset) => std::ptr::from_mut(zset).addr(),
    }
}

pub fn table_stats(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let number = parse_i64(args.at(0)).ok_or(Error::NotInteger)?;
    let databases = c.core.config.databases as usize;
    let db = usize::try_from(number).ok().filter(|&db| db < databases).ok_or(Error::Text("ERR Out of range database"))?;
    let job = move |core: &mut Core| {
        let db: &Db = &core.shard.as_ref().expect("the job waits for the shard").dbs[db];
        (db.len(), db.volatile(), db.table_bytes())
    };
    on_shards(
        c,
        Gather::all(job, |_, _, parts, r| {
            let mut text = String::from("[Dictionary HT]\n");
            for (shard, (keys, _, bytes)) in parts.iter().enumerate() {
                text.push_str(&format!("Shard {shard}: number of elements: {keys}, table bytes: {bytes}\n"));
            }
            text.push_str("[Expires HT]\n");
            for (shard, (_, volatile, _)) in parts.iter().enumerate() {
                text.push_str(&format!("Shard {shard}: number of elements: {volatile}, in the same table\n"));
            }
            r.verbatim("txt", text.as_bytes());
            Ok(())
        }),
    )
}

/// Bytes of a populated key, beyond which it is cut, as redis-server does.
const POPULATED_KEY_MAX: usize = 127;

pub fn populate(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let positive = |word| {
        let number = parse_i64(word).and_then(|number| u64::try_from(number).ok());
        number.ok_or(Error::Text("ERR value is out of range, must be positive"))
    };
    let count = positive(args.at(0))?;
    let prefix = args.get(1).unwrap_or(b"key").to_vec();
    let size = args.get(2).map_or(Ok(0), positive)?;
    if size > c.core.config.proto_max_bulk_len {
        return Err(Error::StringTooLong);
    }
    let db = c.client().db;
    let job = move |core: &mut Core| {
        let (own, now) = (core.id, core.now);
        let shard = core.shard.as_mut().expect("the job waits for the shard");
        for number in 0..count {
            let mut name = [&prefix, format!(":{number}").as_bytes()].concat();
            name.truncate(POPULATED_KEY_MAX);
            if shard.hasher.shard_of(SlotId::of_key(&name)) == own {
                add(shard, db, &name, populated_value(number, size as usize), now);
            }
        }
    };
    on_shards(
        c,
        Gather::all(job, |_, _, _, r| {
            r.ok();
            Ok(())
        })
        .together(),
    )
}

/// `value:<number>`, cut or filled up with zeros to `size` bytes unless that is 0.
fn populated_value(number: u64, size: usize) -> Vec<u8> {
    let mut value = format!("value:{number}").into_bytes();
    if size != 0 {
        value.resize(size, 0);
    }
    value
}

fn add(shard: &mut Shard, db: usize, name: &[u8], value: Vec<u8>, now: i64) {
    let key = shard.hasher.key(name);
    if shard.dbs[db].contains(&key) {
        return;
    }
    let access = shard.fresh_access(now);
    let replaced = shard.dbs[db].set(&key, NewValue::Bytes(&value), Expiry::Clear, access);
    debug_assert!(replaced.is_none(), "the key is new");
    shard.changed_elsewhere(db, name);
}

/// Loads the append-only file in place of what is in memory. Meanwhile other clients are told that the node loads.
pub fn load_append_only(c: &mut Call<'_>, _args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let asker = c.asker();
    let node = close_for_loading(c, Saving::Reload(Reload { asker, empties: true, replaces: false }))?;
    node.persistence.rdb().has_ended();
    // If the coordinator is gone the node is ending.
    let _gone = node.to_coordinator.send(Order::ReloadAppendOnly(asker));
    Ok(Action::Await)
}

/// Has the gate let nothing pass but what a node that loads answers. The save is claimed, so that none is under way.
fn close_for_loading(c: &mut Call<'_>, saving: Saving) -> Result<Arc<Node>, Error> {
    if c.in_exec {
        return Err(Error::Text("ERR This DEBUG subcommand is not allowed inside a transaction"));
    }
    let node = c.core.node.clone();
    if node.persistence.loading.load(Ordering::SeqCst) {
        return Err(Error::Text("LOADING Redis is loading the dataset in memory"));
    }
    if !node.persistence.begin_save(saving, c.core.now / 1000) {
        return Err(Error::Text("ERR Background save already in progress"));
    }
    node.persistence.close(false);
    Ok(node)
}

/// Saves the data set, and loads the file in its place: through all that a save and a start go through. Meanwhile other clients are
/// told that the node loads.
pub fn reload(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let (mut saves, mut reload) = (true, Reload { asker: c.asker(), empties: true, replaces: false });
    for index in 0..args.len() {
        match () {
            () if args.is(index, "merge") => reload.replaces = true,
            () if args.is(index, "noflush") => reload.empties = false,
            () if args.is(index, "nosave") => saves = false,
            () => return Err(Error::Text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")),
        }
    }
    let saving = Saving::Reload(reload);
    let node = close_for_loading(c, saving)?;
    if saves {
        c.core.to_save.push(saving);
    } else {
        node.persistence.rdb().has_ended();
        // If the coordinator is gone the node is ending.
        let _gone = node.to_coordinator.send(Order::Reload(reload));
    }
    Ok(Action::Await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::Settings;
    use kvshard::keyspace::KeyHasher;

    #[test]
    fn populated_keys_are_described() {
        let hasher = KeyHasher::new([1, 2, 3, 4], 1);
        let mut shard = Shard::new(hasher, 2, Settings::default(), 7);
        for number in 0..100 {
            add(&mut shard, 1, format!("key:{number}").as_bytes(), populated_value(number, 0), 5_000_000);
        }
        add(&mut shard, 1, b"key:1", populated_value(2, 9), 5_000_000);
        assert_eq!(shard.dbs[1].len(), 100);
        let text = describe(&mut shard, 1, b"key:1", 5_007_000).unwrap();
        assert!(text.contains("refcount:1 encoding:embstr serializedlength:8 lru:5000 lru_seconds_idle:7"), "{text}");
        assert_eq!(describe(&mut shard, 0, b"key:1", 5_007_000), None);
        shard.dbs[1].check_invariants();
    }

    #[test]
    fn populated_values_have_the_size_asked_for() {
        assert_eq!(populated_value(7, 0), b"value:7");
        assert_eq!(populated_value(7, 3), b"val");
        assert_eq!(populated_value(7, 9), b"value:7\0\0");
    }
}

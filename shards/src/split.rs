//! Dividing the effects of an operation over several shards among their owners.
//!
//! Such an operation runs on a scratch shard that holds all its keys. An effect whose keys have one owner goes there as it is.
//! Any other would make no sense in one shard's log, as it names keys that are not there: it is divided, as its command's
//! [`Split`] says. What is exactly known is said with small commands; otherwise what the changed keys hold now is written out.
//!
//! Values are read as they are: the effects must be split right after the command that gave them, before the next one runs.
//! Pure: reads the scratch shard, appends to the parts.

use crate::codec::commands::write_value;
use crate::command::{Args, KeyAccess, Split, SplitKeys, key_uses};
use crate::effects::{Effect, Effects};
use crate::keyspace::slot::SlotId;
use crate::keyspace::{Key, KeyHasher, Value};
use crate::shard::Shard;

/// One effect being divided.
pub struct Division<'a> {
    shard: &'a Shard,
    parts: &'a mut [Effects],
    db: usize,
    /// The keys that the command has changed, sorted; a key may be there more than once.
    changed: &'a [&'a (usize, Box<[u8]>)],
}

impl Shard {
    /// Moves the effects of the command that has just run here to those of the shards that own its keys, `parts`: one for each shard.
    /// They join the group that the caller has begun there, or else are a group of their own in each.
    ///
    /// This shard must be recording (see [`Shard::begin_recording`]).
    pub fn split_effects(&mut self, parts: &mut [Effects]) {
        debug_assert_eq!(parts.len(), usize::from(self.hasher.shards()), "one part for each shard");
        let recorded = self.recorded.as_deref().unwrap_or_default();
        let split_until = std::mem::replace(&mut self.split_until, recorded.len());
        if self.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        let mut changed: Vec<_> = recorded.iter().skip(split_until).collect();
        changed.sort_unstable();
        parts.iter_mut().for_each(Effects::begin);
        for effect in effects.iter() {
            Division { shard: self, parts, db: effect.db, changed: &changed }.divide(effect);
        }
        parts.iter_mut().for_each(Effects::end);
        effects.clear();
        self.effects = effects;
    }
}

impl Division<'_> {
    fn divide(&mut self, effect: Effect<'_>) {
        let mut ranges = Vec::new();
        let args = effect.args(&mut ranges);
        let hasher = &self.shard.hasher;
        let owner = |name: &[u8]| owner(hasher, name);
        let Some(spec) = effect.spec else { return self.parts[owner(args.at(1))].push_effect(effect) };
        let mut uses = Vec::new();
        if key_uses(spec, args, &mut uses).is_err() || uses.is_empty() {
            // An effect without keys is about all of them.
            return self.parts.iter_mut().for_each(|part| part.push_effect(effect));
        }
        let first = owner(args.at(uses[0].index));
        let more_keys = hasher.shards() > 1 && spec.dynamic_keys.is_some_and(|dynamic| dynamic.possible(args));
        if !more_keys && uses.iter().all(|used| owner(args.at(used.index)) == first) {
            return self.parts[first].push_effect(effect);
        }
        match spec.split {
            Split::PerKey { name, step, keys } => self.per_key(args, name, step, keys),
            Split::By(divide) => divide(self, args),
            Split::Values => {
                let written = uses.iter().filter(|used| !used.access.has(KeyAccess::RO));
                let mut names: Vec<&[u8]> = written.map(|used| args.at(used.index)).collect();
                names.sort_unstable();
                names.dedup();
                names.into_iter().for_each(|name| self.value(name));
            }
        }
    }

    /// Adds a command whose only key is its first argument.
    pub fn push(&mut self, args: &[&[u8]]) {
        let key = args.get(1).copied().unwrap_or_default();
        self.parts[owner(&self.shard.hasher, key)].push(self.db, None, args.iter().copied());
    }

    /// Whether the command has changed this key of its database.
    pub fn has_changed(&self, name: &[u8]) -> bool {
        self.changed.binary_search_by(|(db, key)| (*db, &**key).cmp(&(self.db, name))).is_ok()
    }

    /// What the key of the command's database holds now.
    pub fn held(&self, name: &[u8]) -> Option<Value<'_>> {
        self.shard.dbs[self.db].value(&self.shard.hasher.key(name))
    }

    /// Writes out what the key holds now, in each database where the command has changed it.
    fn value(&mut self, name: &[u8]) {
        let key = self.shard.hasher.key(name);
        for db in 0..self.shard.dbs.len() {
            if self.changed.binary_search_by(|(at, key)| (*at, &**key).cmp(&(db, name))).is_ok() {
                self.value_in(db, &key);
            }
        }
    }

    fn value_in(&mut self, db: usize, key: &Key<'_>) {
        let part = &mut self.parts[self.shard.hasher.shard_of(key.slot)];
        let value = self.shard.dbs[db].value(key);
        // SET replaces whatever there was.
        if !matches!(value, Some(Value::Integer(_) | Value::Short(_) | Value::Long(_))) {
            part.push(db, None, [&b"DEL"[..], key.bytes].into_iter());
        }
        if let Some(value) = value {
            let expiry = self.shard.dbs[db].expiry(key).flatten();
            part.push_written(db, |out, ended| write_value(key.bytes, value, expiry, out, ended));
        }
    }

    fn per_key(&mut self, args: Args<'_>, name: &[u8], step: usize, keys: SplitKeys) {
        let hasher = &self.shard.hasher;
        let owner = |key: &[u8]| (keys == SplitKeys::All || self.has_changed(key)).then(|| owner(hasher, key));
        for (shard, command) in by_owner(args, name, step, self.parts.len(), owner) {
            self.parts[shard].push(self.db, None, command.into_iter());
        }
    }
}

/// Divides a command whose arguments are keys, each with the `step - 1` arguments behind it: for each shard that owns any of them
/// the command `name` with those, in their order. Keys for which `owner` has no shard are left out.
pub fn by_owner<'a>(
    args: Args<'a>,
    name: &'a [u8],
    step: usize,
    shards: usize,
    owner: impl Fn(&[u8]) -> Option<usize>,
) -> Vec<(usize, Vec<&'a [u8]>)> {
    let mut commands: Vec<Vec<&[u8]>> = vec![Vec::new(); shards];
    for at in (1..args.len()).step_by(step) {
        let Some(shard) = owner(args.at(at)) else { continue };
        let command = &mut commands[shard];
        if command.is_empty() {
            command.push(name);
        }
        command.extend(args.slice(at, (at + step).min(args.len())).iter());
    }
    commands.into_iter().enumerate().filter(|(_, command)| !command.is_empty()).collect()
}

fn owner(hasher: &KeyHasher, name: &[u8]) -> usize {
    hasher.shard_of(SlotId::of_key(name))
}

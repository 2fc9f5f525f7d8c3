//! The values a key can hold, each with its small (packed) and its large encoding.

pub mod bptree;
pub mod chunk;
mod front;
pub mod hash;
pub mod intset;
pub mod item;
pub mod list;
mod member;
pub mod packed;
pub mod schema;
mod scored;
pub mod set;
pub mod sorted_set;
pub mod thin;

pub use hash::Hash;
pub use list::List;
pub use set::Set;
pub use sorted_set::SortedSet;

/// A value with an allocation of its own: everything but integers and short strings, which live in the entry.
pub enum Object {
    /// A string longer than an entry holds, or one that has been modified in place.
    String(Box<Vec<u8>>),
    List(Box<List>),
    Hash(Hash),
    Set(Set),
    SortedSet(SortedSet),
}

impl Object {
    /// How many elements must be freed one by one.
    pub fn elements(&self) -> usize {
        match self {
            Object::String(_) => 1,
            Object::List(list) => list.len(),
            Object::Hash(hash) => hash.len(),
            Object::Set(set) => set.len(),
            Object::SortedSet(zset) => zset.len(),
        }
    }

    /// Frees about `budget` elements; true when nothing is left. The value must not be used otherwise afterwards.
    pub fn free_some(&mut self, budget: usize) -> bool {
        match self {
            Object::String(_) => true,
            Object::List(list) => list.free_some(budget),
            Object::Hash(hash) => hash.free_some(budget),
            Object::Set(set) => set.free_some(budget),
            Object::SortedSet(zset) => zset.free_some(budget),
        }
    }
}

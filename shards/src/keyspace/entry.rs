//! An entry: a key, its expiry, its access clock and its value (or the root of it) in ONE allocation.
//!
//! ```text
//!  0        4          8          [16]         …
//!  ├─ meta ─┼─ lengths ┼─ expiry? ┼─ value ─┼─ key ─┤      integer (8), object (16 bytes: a tagged pointer)
//!  ├─ meta ─┼─ lengths ┼─ expiry? ┼─ key ─┼─ bytes ─┤      short string
//!
//!  meta      bits 0–3 kind, bit 4 has an expiry, bit 5 mark (see `cut`), bit 6 expires here (see `expire`),
//!            bits 8–31 access clock (LRU seconds, or LFU minutes and counter)
//!  lengths   short string: 16 bits key, 16 bits bytes; else 32 bits key
//!  expiry    i64, milliseconds since 1970
//! ```
//!
//! The size is rounded up to 8 bytes. All unsafe code of the keyspace is here: an entry is reached by a pointer that the
//! table stores, and [`OwnedEntry`] is the one owner of the allocation while it is outside a table.

use crate::table;
use crate::value::{Hash, List, Object, Set, SortedSet};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Longest value that is kept inside the entry; a longer one gets an allocation of its own, so that it can grow.
pub const SHORT_MAX: usize = 8192;
/// Longest key of a short string's entry.
const SHORT_KEY_MAX: usize = u16::MAX as usize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Integer = 0,
    Short = 1,
    Long = 2,
    List = 3,
    Hash = 4,
    Set = 5,
    SortedSet = 6,
}

const HAS_EXPIRY: u32 = 1 << 4;
const MARK: u32 = 1 << 5;
const EXPIRES_HERE: u32 = 1 << 6;
const HEADER: usize = 8;
const OBJECT: usize = 16;

/// A string longer than [`SHORT_MAX`], or one that has been modified in place.
pub type LongString = Box<Vec<u8>>;

const _: () = assert!(size_of::<Hash>() <= OBJECT && size_of::<Set>() <= OBJECT && size_of::<SortedSet>() <= OBJECT);
const _: () = assert!(align_of::<Hash>() <= 8 && align_of::<Set>() <= 8 && align_of::<SortedSet>() <= 8);

/// A value, borrowed.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Integer(i64),
    /// A string as it was set: `embstr` up to 44 bytes, else `raw`.
    Short(&'a [u8]),
    /// A long or modified string (`raw`).
    Long(&'a Vec<u8>),
    List(&'a List),
    Hash(&'a Hash),
    Set(&'a Set),
    SortedSet(&'a SortedSet),
}

/// A value, borrowed to be changed. Strings change by being set anew, or as [`ValueMut::Long`].
pub enum ValueMut<'a> {
    Integer(&'a mut i64),
    Short(&'a mut [u8]),
    Long(&'a mut Vec<u8>),
    List(&'a mut List),
    Hash(&'a mut Hash),
    Set(&'a mut Set),
    SortedSet(&'a mut SortedSet),
}

/// What an entry is made from.
pub enum NewValue<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Object(Object),
}

/// A pointer to a live entry. Copying it copies the pointer; the table (or an [`OwnedEntry`]) owns the allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(NonNull<u8>);

/// An entry outside any table; frees it on drop. It may cross cores.
pub struct OwnedEntry(Entry);

// SAFETY: an OwnedEntry is the only way to reach its allocation, and everything it holds (bytes, List, Hash, Set, SortedSet,
// Vec) is Send.
unsafe impl Send for OwnedEntry {}

/// The three facts that lay out an entry.
#[derive(Clone, Copy)]
struct Shape {
    kind: Kind,
    has_expiry: bool,
    key_len: usize,
    /// Short strings only.
    bytes_len: usize,
}

impl Shape {
    fn value_offset(self) -> usize {
        HEADER + if self.has_expiry { 8 } else { 0 }
    }

    fn key_offset(self) -> usize {
        self.value_offset()
            + match self.kind {
                Kind::Short => 0,
                Kind::Integer | Kind::Long => 8,
                Kind::List | Kind::Hash | Kind::Set | Kind::SortedSet => OBJECT,
            }
    }

    fn size(self) -> usize {
        (self.key_offset() + self.key_len + self.bytes_len).next_multiple_of(8)
    }

    fn layout(self) -> Layout {
        Layout::from_size_align(self.size(), 8).expect("an entry is far smaller than the address space")
    }
}

impl Entry {
    /// The word a table stores; bit 0 says whether the entry has an expiry, bit 1 whether it is long (an entry keeps its size).
    pub fn to_payload(self) -> u64 {
        let start = self.0.as_ptr();
        start as u64 | u64::from(self.has_expiry()) | table::long_bit(start, self.shape().size())
    }

    /// # Safety
    /// `payload` must come from [`Entry::to_payload`] of an entry that has not been freed.
    #[inline]
    pub unsafe fn from_payload(payload: u64) -> Self {
        // SAFETY: the payload of a live entry is its non-null pointer with flag bits in the low 3 bits.
        Entry(unsafe { NonNull::new_unchecked((payload & !7) as *mut u8) })
    }

    pub fn payload_has_expiry(payload: u64) -> bool {
        payload & 1 != 0
    }

    #[inline]
    fn meta(self) -> u32 {
        // SAFETY: every entry begins with its 4-byte meta word, aligned to 8.
        unsafe { self.0.cast::<u32>().read() }
    }

    fn set_meta(self, meta: u32) {
        // SAFETY: as in `meta`; the shard that holds the entry is the only one to touch it.
        unsafe { self.0.cast::<u32>().write(meta) }
    }

    #[inline]
    fn lengths(self) -> u32 {
        // SAFETY: the 4 bytes after the meta word.
        unsafe { self.0.cast::<u32>().add(1).read() }
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.meta() & 15 {
            0 => Kind::Integer,
            1 => Kind::Short,
            2 => Kind::Long,
            3 => Kind::List,
            4 => Kind::Hash,
            5 => Kind::Set,
            _ => Kind::SortedSet,
        }
    }

    #[inline]
    fn shape(self) -> Shape {
        let (kind, lengths) = (self.kind(), self.lengths() as usize);
        let has_expiry = self.has_expiry();
        match kind {
            Kind::Short => Shape { kind, has_expiry, key_len: lengths & 0xFFFF, bytes_len: lengths >> 16 },
            _ => Shape { kind, has_expiry, key_len: lengths, bytes_len: 0 },
        }
    }

    #[inline]
    fn slice<'a>(self, offset: usize, len: usize) -> &'a [u8] {
        // SAFETY: called with ranges inside the allocation that `shape` describes; the caller's lifetime ends before the
        // entry is freed or changed (see `key` and `value`, which bind it to a borrow of the database).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(offset), len) }
    }

    #[inline]
    fn area<T>(self) -> NonNull<T> {
        // SAFETY: the value area lies within the allocation.
        unsafe { self.0.add(self.shape().value_offset()) }.cast()
    }

    #[inline]
    pub fn has_expiry(self) -> bool {
        self.meta() & HAS_EXPIRY != 0
    }

    /// Milliseconds since 1970.
    #[inline]
    pub fn expiry(self) -> Option<i64> {
        // SAFETY: with the flag set, the 8 bytes after the header are the expiry.
        self.has_expiry().then(|| unsafe { self.0.add(HEADER).cast::<i64>().read() })
    }

    /// Sets the expiry of an entry that has one; an entry without must be made anew (see [`OwnedEntry::with_expiry`]).
    pub fn set_expiry(self, at_ms: i64) {
        assert!(self.has_expiry());
        // SAFETY: as in `expiry`.
        unsafe { self.0.add(HEADER).cast::<i64>().write(at_ms) }
    }

    /// Which side of the database's cut the entry is on; see [`super::cut`].
    #[inline]
    pub(super) fn mark(self) -> bool {
        self.meta() & MARK != 0
    }

    #[inline]
    pub(super) fn set_mark(self, mark: bool) {
        self.set_meta(self.meta() & !MARK | if mark { MARK } else { 0 });
    }

    /// On a writable replica: the key's time is one of its own clients', so the replica removes it. Not kept by an entry made anew.
    #[inline]
    pub fn expires_here(self) -> bool {
        self.meta() & EXPIRES_HERE != 0
    }

    #[inline]
    pub fn set_expires_here(self, here: bool) {
        self.set_meta(self.meta() & !EXPIRES_HERE | if here { EXPIRES_HERE } else { 0 });
    }

    /// 24 bits: LRU clock in seconds, or LFU minutes (16) and counter (8).
    pub fn access(self) -> u32 {
        self.meta() >> 8
    }

    #[inline]
    pub fn set_access(self, access: u32) {
        self.set_meta(self.meta() & 0xFF | access << 8);
    }

    /// The caller chooses the lifetime: it must end before the entry is removed.
    #[inline]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        let shape = self.shape();
        self.slice(shape.key_offset(), shape.key_len)
    }

    /// The caller chooses the lifetime: it must end before the entry is changed or removed.
    #[inline]
    pub(crate) fn value<'a>(self) -> Value<'a> {
        let shape = self.shape();
        // SAFETY: the kind says which type was written into the value area by `OwnedEntry::new`.
        unsafe {
            match shape.kind {
                Kind::Short => Value::Short(self.slice(shape.key_offset() + shape.key_len, shape.bytes_len)),
                Kind::Integer => Value::Integer(*self.area::<i64>().as_ref()),
                Kind::Long => Value::Long(self.area::<LongString>().as_ref()),
                Kind::List => Value::List(self.area::<Box<List>>().as_ref()),
                Kind::Hash => Value::Hash(self.area::<Hash>().as_ref()),
                Kind::Set => Value::Set(self.area::<Set>().as_ref()),
                Kind::SortedSet => Value::SortedSet(self.area::<SortedSet>().as_ref()),
            }
        }
    }

    /// As [`Entry::value`], to be changed; no other reference into the entry may be alive.
    pub(crate) fn value_mut<'a>(self) -> ValueMut<'a> {
        let shape = self.shape();
        // SAFETY: as in `value`; exclusive by the caller's promise (the database is borrowed mutably).
        unsafe {
            match shape.kind {
                Kind::Short => {
                    let start = self.0.as_ptr().add(shape.key_offset() + shape.key_len);
                    ValueMut::Short(std::slice::from_raw_parts_mut(start, shape.bytes_len))
                }
                Kind::Integer => ValueMut::Integer(self.area::<i64>().as_mut()),
                Kind::Long => ValueMut::Long(self.area::<LongString>().as_mut()),
                Kind::List => ValueMut::List(self.area::<Box<List>>().as_mut()),
                Kind::Hash => ValueMut::Hash(self.area::<Hash>().as_mut()),
                Kind::Set => ValueMut::Set(self.area::<Set>().as_mut()),
                Kind::SortedSet => ValueMut::SortedSet(self.area::<SortedSet>().as_mut()),
            }
        }
    }

    /// Overwrites the value in place if `value` fits the entry's allocation exactly (same kind and rounded size, same
    /// presence of an expiry). The caller handles the expiry's time.
    pub(super) fn overwrite(self, value: &NewValue<'_>, has_expiry: bool) -> bool {
        let shape = self.shape();
        if shape.has_expiry != has_expiry {
            return false;
        }
        match (shape.kind, value) {
            (Kind::Integer, NewValue::Integer(number)) => {
                // SAFETY: the value area of an integer entry is its i64.
                unsafe { self.area::<i64>().write(*number) };
                true
            }
            (Kind::Short, NewValue::Bytes(bytes)) if bytes.len() <= SHORT_MAX => {
                let new = Shape { bytes_len: bytes.len(), ..shape };
                if new.size() != shape.size() {
                    return false;
                }
                // SAFETY: the new bytes end within the allocation, as the rounded sizes are equal; `bytes` is the caller's
                // borrow and cannot overlap an entry that is about to change.
                unsafe {
                    let start = self.0.as_ptr().add(new.key_offset() + new.key_len);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
                    self.0.cast::<u32>().add(1).write((new.key_len | new.bytes_len << 16) as u32);
                }
                true
            }
            _ => false,
        }
    }

    /// Heap bytes of the entry's own allocation.
    pub fn bytes(self) -> usize {
        self.shape().size()
    }
}

impl OwnedEntry {
    pub fn new(key: &[u8], value: NewValue<'_>, expiry: Option<i64>) -> Self {
        let (kind, bytes) = match &value {
            NewValue::Integer(_) => (Kind::Integer, &[][..]),
            NewValue::Bytes(bytes) if bytes.len() <= SHORT_MAX && key.len() <= SHORT_KEY_MAX => (Kind::Short, *bytes),
            NewValue::Bytes(_) | NewValue::Object(Object::String(_)) => (Kind::Long, &[][..]),
            NewValue::Object(Object::List(_)) => (Kind::List, &[][..]),
            NewValue::Object(Object::Hash(_)) => (Kind::Hash, &[][..]),
            NewValue::Object(Object::Set(_)) => (Kind::Set, &[][..]),
            NewValue::Object(Object::SortedSet(_)) => (Kind::SortedSet, &[][..]),
        };
        let shape = Shape { kind, has_expiry: expiry.is_some(), key_len: key.len(), bytes_len: bytes.len() };
        let lengths = if kind == Kind::Short { key.len() | bytes.len() << 16 } else { key.len() };
        // SAFETY: the layout is never of size 0; each write below is to the offset that `Shape` gives for it, inside the
        // allocation, and the value area gets exactly the type that `Entry::value` reads for this kind.
        unsafe {
            let Some(start) = NonNull::new(alloc(shape.layout())) else { handle_alloc_error(shape.layout()) };
            let entry = Entry(start);
            start.cast::<u32>().write(kind as u32 | if shape.has_expiry { HAS_EXPIRY } else { 0 });
            start.cast::<u32>().add(1).write(lengths as u32);
            if let Some(at_ms) = expiry {
                start.add(HEADER).cast::<i64>().write(at_ms);
            }
            std::ptr::copy_nonoverlapping(key.as_ptr(), start.as_ptr().add(shape.key_offset()), key.len());
            let end_of_key = start.as_ptr().add(shape.key_offset() + key.len());
            match value {
                NewValue::Integer(number) => entry.area::<i64>().write(number),
                NewValue::Bytes(_) if kind == Kind::Short => {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), end_of_key, bytes.len());
                }
                NewValue::Bytes(bytes) => entry.area::<LongString>().write(Box::new(bytes.to_vec())),
                NewValue::Object(Object::String(string)) => entry.area::<LongString>().write(string),
                NewValue::Object(Object::List(list)) => entry.area::<Box<List>>().write(list),
                NewValue::Object(Object::Hash(hash)) => entry.area::<Hash>().write(hash),
                NewValue::Object(Object::Set(set)) => entry.area::<Set>().write(set),
                NewValue::Object(Object::SortedSet(zset)) => entry.area::<SortedSet>().write(zset),
            }
            OwnedEntry(entry)
        }
    }

    /// # Safety
    /// The entry must have been released by [`OwnedEntry::release`] and be in no table any more.
    pub(super) unsafe fn from_entry(entry: Entry) -> Self {
        OwnedEntry(entry)
    }

    /// Gives the allocation to a table.
    pub(super) fn release(self) -> Entry {
        let entry = self.0;
        std::mem::forget(self);
        entry
    }

    pub fn key(&self) -> &[u8] {
        self.0.key()
    }

    pub fn value(&self) -> Value<'_> {
        self.0.value()
    }

    pub fn value_mut(&mut self) -> ValueMut<'_> {
        self.0.value_mut()
    }

    pub fn expiry(&self) -> Option<i64> {
        self.0.expiry()
    }

    pub fn access(&self) -> u32 {
        self.0.access()
    }

    pub fn set_access(&mut self, access: u32) {
        self.0.set_access(access);
    }

    /// The same entry with another expiry (or none), in a new allocation if its layout changes.
    pub fn with_expiry(self, expiry: Option<i64>) -> Self {
        if let (Some(at_ms), true) = (expiry, self.0.has_expiry()) {
            self.0.set_expiry(at_ms);
            return self;
        }
        if expiry.is_none() && !self.0.has_expiry() {
            return self;
        }
        self.rebuilt(None, expiry)
    }

    /// The same value and expiry under another key.
    pub fn renamed(self, key: &[u8]) -> Self {
        let expiry = self.0.expiry();
        self.rebuilt(Some(key), expiry)
    }

    fn rebuilt(self, key: Option<&[u8]>, expiry: Option<i64>) -> Self {
        let access = self.0.access();
        let mut new = match self.value() {
            Value::Integer(number) => OwnedEntry::new(key.unwrap_or(self.key()), NewValue::Integer(number), expiry),
            Value::Short(bytes) => OwnedEntry::new(key.unwrap_or(self.key()), NewValue::Bytes(bytes), expiry),
            _ => {
                let own_key = self.key().to_vec();
                let object = self.into_object().expect("neither integer nor short string: an object");
                OwnedEntry::new(key.unwrap_or(&own_key), NewValue::Object(object), expiry)
            }
        };
        new.set_access(access);
        new
    }

    /// Takes the object out and frees the entry; `None` for integers and short strings, which have none.
    pub fn into_object(self) -> Option<Object> {
        let entry = self.release();
        // SAFETY: the value is read out once, by the type its kind says, and the allocation is freed without dropping it.
        unsafe {
            let object = match entry.kind() {
                Kind::Integer | Kind::Short => None,
                Kind::Long => Some(Object::String(entry.area::<LongString>().read())),
                Kind::List => Some(Object::List(entry.area::<Box<List>>().read())),
                Kind::Hash => Some(Object::Hash(entry.area::<Hash>().read())),
                Kind::Set => Some(Object::Set(entry.area::<Set>().read())),
                Kind::SortedSet => Some(Object::SortedSet(entry.area::<SortedSet>().read())),
            };
            dealloc(entry.0.as_ptr(), entry.shape().layout());
            object
        }
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Drop for OwnedEntry {
    fn drop(&mut self) {
        drop(OwnedEntry(self.0).into_object());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_what_it_was_made_from() {
        for expiry in [None, Some(1_700_000_000_123)] {
            for key in [&b""[..], b"k", b"a longer key than eight bytes", &[7; 300]] {
                let short = OwnedEntry::new(key, NewValue::Bytes(b"value"), expiry);
                assert!(matches!(short.value(), Value::Short(b"value")));
                let long = OwnedEntry::new(key, NewValue::Bytes(&[9; SHORT_MAX + 1]), expiry);
                assert!(matches!(long.value(), Value::Long(v) if v.len() == SHORT_MAX + 1));
                let integer = OwnedEntry::new(key, NewValue::Integer(-5), expiry);
                assert!(matches!(integer.value(), Value::Integer(-5)));
                for entry in [short, long, integer] {
                    assert_eq!((entry.key(), entry.expiry()), (key, expiry));
                    let mut moved = entry.with_expiry(Some(7)).renamed(b"other");
                    moved.set_access(0xABCDEF);
                    assert_eq!((moved.key(), moved.expiry(), moved.access()), (&b"other"[..], Some(7), 0xABCDEF));
                    let plain = moved.with_expiry(None);
                    assert_eq!((plain.expiry(), plain.access()), (None, 0xABCDEF));
                }
            }
        }
    }

    #[test]
    fn overwriting_in_place_needs_the_same_size() {
        let entry = OwnedEntry::new(b"key", NewValue::Bytes(b"12345"), None);
        assert!(entry.0.overwrite(&NewValue::Bytes(b"abcd"), false));
        assert!(matches!(entry.value(), Value::Short(b"abcd")));
        assert!(!entry.0.overwrite(&NewValue::Bytes(b"123456"), false), "one byte over the rounded size");
        assert!(!entry.0.overwrite(&NewValue::Bytes(b"abcd"), true));
        assert!(!entry.0.overwrite(&NewValue::Integer(5), false));
    }

    #[test]
    fn a_small_entry_has_eight_bytes_of_overhead() {
        assert_eq!(OwnedEntry::new(&[b'k'; 14], NewValue::Bytes(&[b'v'; 16]), None).bytes(), 40);
        assert_eq!(OwnedEntry::new(&[b'k'; 14], NewValue::Integer(123), None).bytes(), 32);
    }
}

//! Which history a node's data belongs to, and how far it has come in it.
//!
//! A *replication id* names a history: a stream of commands. An [`Offset`] is a place in it. Two nodes that are at the same offset
//! of the same history hold the same data. A node that is promoted goes on with a new id, as from here on its history is its own;
//! what it had before stays valid under the *second id* up to the place of the promotion, so that the other replicas of
//! the old primary can continue with it.
//!
//! ```text
//! old primary   ───────id a──────────────▶ ✕ (writes that nobody has seen)
//! promoted      ───────id a────────┐ id b, second id a up to here
//!                                  └──────────────id b──────▶
//! ```
//!
//! Knows nothing of connections. Ids are made of random bytes that come from outside.

use std::fmt;

/// Digits of a replication id.
pub const ID_DIGITS: usize = 40;

/// The name of a history: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplId([u8; ID_DIGITS]);

impl ReplId {
    /// What stands for the second id when there is none.
    pub const NONE: ReplId = ReplId([b'0'; ID_DIGITS]);

    pub fn from_random(bytes: [u8; ID_DIGITS / 2]) -> ReplId {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        let mut digits = [0; ID_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        ReplId(digits)
    }

    /// `None` if it is not one.
    pub fn parse(text: &[u8]) -> Option<ReplId> {
        let digits = <[u8; ID_DIGITS]>::try_from(text).ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(ReplId(digits))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a peer that says `text` means this id.
    pub fn is(&self, text: &[u8]) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a history: the number of bytes before it. PSYNC counts the byte that is wanted next instead, which is one more.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub u64);

impl Offset {
    /// The place so many bytes further on.
    pub fn plus(self, bytes: u64) -> Offset {
        Offset(self.0.saturating_add(bytes))
    }

    /// Bytes from an earlier place to this one; 0 from a later.
    pub fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// What PSYNC calls it.
    pub fn next_byte(self) -> u64 {
        self.0.saturating_add(1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a history that a node may have stood at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    pub id: ReplId,
    pub offset: Offset,
    /// The database that the stream has selected there.
    pub db: u32,
}

/// Why a replica cannot continue, as far as histories go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// It asks for no history (`?`).
    NotAsked,
    UnknownId,
    /// Under the second id, but beyond the place up to which that is valid.
    BeyondSecondId,
}

#[derive(Clone, Debug)]
pub struct History {
    id: ReplId,
    second_id: ReplId,
    /// Up to where the second id is valid.
    second_offset: Option<Offset>,
    offset: Offset,
}

impl History {
    pub fn new(id: ReplId) -> History {
        History { id, second_id: ReplId::NONE, second_offset: None, offset: Offset(0) }
    }

    /// `master_replid`.
    pub fn id(&self) -> ReplId {
        self.id
    }

    /// `master_replid2`.
    pub fn second_id(&self) -> ReplId {
        self.second_id
    }

    /// `second_repl_offset`: the last place at which a request under the second id is granted, as PSYNC counts; -1 if there is none.
    pub fn second_repl_offset(&self) -> i64 {
        self.second_offset.map_or(-1, |offset| signed(offset.next_byte()))
    }

    /// `master_repl_offset`.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// So many bytes of stream were added.
    pub fn advance(&mut self, bytes: u64) {
        self.offset = self.offset.plus(bytes);
    }

    /// Goes on under a new id, as a promoted replica; what was before stays valid under the second. Gives the line for the log.
    pub fn shift(&mut self, new: ReplId) -> String {
        self.continue_as(new);
        format!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            self.second_id,
            self.second_repl_offset(),
            self.id
        )
    }

    /// The primary goes on under another id: so does its replica.
    pub fn continue_as(&mut self, new: ReplId) {
        self.second_id = self.id;
        self.second_offset = Some(self.offset);
        self.id = new;
    }

    /// A history that has nothing to do with what was before: nobody can continue from there. The offset is kept.
    pub fn begin_anew(&mut self, id: ReplId) {
        *self = History { offset: self.offset, ..History::new(id) };
    }

    /// The data set was replaced by another node's.
    pub fn adopt(&mut self, id: ReplId, offset: Offset) {
        *self = History { offset, ..History::new(id) };
    }

    /// Restores what an RDB file says, for a node that starts as a primary: its own history begins here, and the stored one stays
    /// valid up to here.
    pub fn restore_as_primary(&mut self, stored: Standing) {
        self.second_id = stored.id;
        self.second_offset = Some(stored.offset);
        self.offset = stored.offset;
    }

    /// The same for a node that starts as a replica: it goes on in the stored history.
    pub fn restore_as_replica(&mut self, stored: Standing) {
        self.adopt(stored.id, stored.offset);
    }

    /// Whether somebody at this place of this history can get here by what follows it. `requested` is as PSYNC says it.
    pub fn may_continue(&self, id: &[u8], requested: i64) -> Result<(), Mismatch> {
        if self.id.is(id) {
            return Ok(());
        }
        match self.second_offset {
            Some(_) if self.second_id.is(id) && requested <= self.second_repl_offset() => Ok(()),
            Some(_) if self.second_id.is(id) => Err(Mismatch::BeyondSecondId),
            _ if id.first() == Some(&b'?') => Err(Mismatch::NotAsked),
            _ => Err(Mismatch::UnknownId),
        }
    }
}

/// As the wire and INFO show it.
pub fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Puts together what the auxiliary fields of an RDB file say, as they come.
#[derive(Clone, Copy, Default, Debug)]
pub struct StoredStanding {
    id: Option<ReplId>,
    offset: Option<u64>,
    db: Option<u32>,
}

impl StoredStanding {
    /// Takes a field; those about other things are passed over.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
            std::str::from_utf8(value).ok()?.parse().ok()
        }
        match name {
            b"repl-id" => self.id = ReplId::parse(value),
            b"repl-offset" => self.offset = number(value).filter(|offset| *offset <= i64::MAX as u64),
            b"repl-stream-db" => self.db = number(value),
            _ => {}
        }
    }

    /// Where the file stands, if it says so. A file whose stream has selected no database (-1) does not.
    pub fn standing(&self) -> Option<Standing> {
        Some(Standing { id: self.id?, offset: Offset(self.offset?), db: self.db? })
    }

    /// The database that the stream goes on with behind a full sync, whatever else is missing.
    pub fn stream_db(&self) -> Option<u32> {
        self.db
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ReplId {
        ReplId::from_random([byte; 20])
    }

    #[test]
    fn ids_are_forty_digits() {
        assert_eq!(id(0x5a).to_string(), "5a".repeat(20));
        assert_eq!(ReplId::parse(id(7).as_str().as_bytes()), Some(id(7)));
        assert!(id(0xab).is("AB".repeat(20).as_bytes()), "as redis-server compares them");
        for wrong in ["", "?", &"a".repeat(39), &"a".repeat(41), &"g".repeat(40)] {
            assert_eq!(ReplId::parse(wrong.as_bytes()), None, "{wrong}");
            assert!(!id(0xaa).is(wrong.as_bytes()));
        }
        assert_eq!(ReplId::NONE.as_str(), "0".repeat(40));
    }

    #[test]
    fn a_promoted_node_serves_both_ids() {
        let mut history = History::new(id(1));
        history.advance(50);
        assert_eq!(history.second_repl_offset(), -1);
        let line = history.shift(id(2));
        assert!(line.ends_with(&format!("{}, valid up to offset: 51. New replication ID is {}", id(1), id(2))), "{line}");
        history.advance(10);
        assert_eq!((history.offset(), history.second_repl_offset()), (Offset(60), 51));
        let asked = |id: ReplId, offset| history.may_continue(id.as_str().as_bytes(), offset);
        assert_eq!(asked(id(2), 61), Ok(()));
        assert_eq!(asked(id(1), 51), Ok(()), "it has all that was before the promotion");
        assert_eq!(asked(id(1), 52), Err(Mismatch::BeyondSecondId));
        assert_eq!(asked(id(3), 51), Err(Mismatch::UnknownId));
        assert_eq!(history.may_continue(b"?", -1), Err(Mismatch::NotAsked));
    }

    #[test]
    fn without_a_second_id_its_zeros_open_nothing() {
        let history = History::new(id(1));
        assert_eq!(history.may_continue(ReplId::NONE.as_str().as_bytes(), -1), Err(Mismatch::UnknownId));
        let mut history = history;
        history.shift(id(2));
        history.begin_anew(id(3));
        assert_eq!(history.may_continue(id(1).as_str().as_bytes(), 0), Err(Mismatch::UnknownId));
    }

    #[test]
    fn an_rdb_file_restores_where_it_stands() {
        let (mut stored, nine) = (StoredStanding::default(), id(9));
        for (name, value) in
            [("redis-ver", "7.0.15"), ("repl-stream-db", "3"), ("repl-id", nine.as_str()), ("repl-offset", "700")]
        {
            assert_eq!(stored.standing(), None);
            stored.field(name.as_bytes(), value.as_bytes());
        }
        let standing = stored.standing().unwrap();
        assert_eq!(standing, Standing { id: id(9), offset: Offset(700), db: 3 });
        let mut primary = History::new(id(1));
        primary.restore_as_primary(standing);
        assert_eq!((primary.id(), primary.offset(), primary.second_repl_offset()), (id(1), Offset(700), 701));
        assert_eq!(primary.may_continue(id(9).as_str().as_bytes(), 701), Ok(()));
        let mut replica = History::new(id(1));
        replica.restore_as_replica(standing);
        assert_eq!((replica.id(), replica.offset(), replica.second_repl_offset()), (id(9), Offset(700), -1));
    }

    #[test]
    fn fields_that_make_no_sense_restore_nothing() {
        for (name, value) in
            [("repl-stream-db", "-1"), ("repl-offset", "-1"), ("repl-offset", "99999999999999999999"), ("repl-id", "x")]
        {
            let (mut stored, nine) = (StoredStanding::default(), id(9));
            let good = [("repl-stream-db", "0"), ("repl-id", nine.as_str()), ("repl-offset", "1")];
            good.into_iter().chain([(name, value)]).for_each(|(name, value)| stored.field(name.as_bytes(), value.as_bytes()));
            assert_eq!(stored.standing(), None, "{name} {value}");
        }
    }
}

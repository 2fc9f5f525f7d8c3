//! A reply as a value, with a one-line rendering for failure messages.

use std::fmt;

/// A RESP2 or RESP3 reply. Doubles keep their text, so that spelling is compared too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1` in RESP2, `_` in RESP3.
    Null,
    /// `*-1`, which only RESP2 has.
    NullArray,
    Array(Vec<Value>),
    Set(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Push(Vec<Value>),
    Double(String),
    Boolean(bool),
    BigNumber(String),
    Verbatim(String, Vec<u8>),
}

impl Value {
    pub fn ok() -> Value {
        Value::Simple("OK".into())
    }

    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::NullArray)
    }

    /// The number in an integer reply.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("not an integer: {other}"),
        }
    }

    /// The bytes of a string reply of any kind.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) | Value::Verbatim(_, bytes) => bytes,
            Value::Simple(text) | Value::Error(text) | Value::Double(text) | Value::BigNumber(text) => text.as_bytes(),
            other => panic!("not a string: {other}"),
        }
    }

    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The elements of an aggregate; a map's keys and values in turn.
    pub fn items(&self) -> Vec<Value> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.clone(),
            Value::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
            _ => Vec::new(),
        }
    }

    /// The pairs of a map, or of the flat array that RESP2 has in its place.
    pub fn pairs(&self) -> Vec<(Value, Value)> {
        match self {
            Value::Map(pairs) => pairs.clone(),
            _ => self.items().chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        }
    }

    /// What stands under `key` in a map or flat array of pairs.
    pub fn field(&self, key: &str) -> Option<Value> {
        self.pairs()
            .into_iter()
            .find(|(name, _)| matches!(name, Value::Bulk(_) | Value::Simple(_)) && name.text() == key)
            .map(|(_, value)| value)
    }

    /// The same with the elements of the outermost aggregate sorted.
    pub fn sorted(mut self) -> Value {
        match &mut self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.sort(),
            Value::Map(pairs) => pairs.sort(),
            _ => {}
        }
        self
    }

    /// The same with the pairs of the outermost map, or flat array of pairs, sorted.
    pub fn sorted_pairs(self) -> Value {
        match self {
            Value::Array(items) if items.len().is_multiple_of(2) => {
                let mut pairs: Vec<_> = items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                pairs.sort();
                Value::Array(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect())
            }
            other => other.sorted(),
        }
    }
}

/// Aggregates longer than this are cut in messages.
const SHOWN_ITEMS: usize = 40;
/// Strings longer than this are cut in messages.
const SHOWN_BYTES: usize = 200;

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    write!(f, "\"{}\"", shown.escape_ascii())?;
    if shown.len() < bytes.len() { write!(f, "…({} bytes)", bytes.len()) } else { Ok(()) }
}

fn write_items(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().take(SHOWN_ITEMS).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    if items.len() > SHOWN_ITEMS {
        write!(f, ", …({} in all)", items.len())?;
    }
    f.write_str(close)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Integer(number) => write!(f, ":{number}"),
            Value::Bulk(bytes) => write_bytes(f, bytes),
            Value::Null => f.write_str("null"),
            Value::NullArray => f.write_str("null-array"),
            Value::Array(items) => write_items(f, "[", items, "]"),
            Value::Set(items) => write_items(f, "~[", items, "]"),
            Value::Push(items) => write_items(f, ">[", items, "]"),
            Value::Map(pairs) => {
                let flat: Vec<Value> = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
                write_items(f, "%{", &flat, "}")
            }
            Value::Double(text) => write!(f, ",{text}"),
            Value::Boolean(value) => write!(f, "#{value}"),
            Value::BigNumber(text) => write!(f, "({text}"),
            Value::Verbatim(format, bytes) => {
                write!(f, "={format}:")?;
                write_bytes(f, bytes)
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

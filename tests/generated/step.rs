//! One generated command, and how its two replies are compared.

use crate::harness::Value;

/// A command and the rule for its replies.
#[derive(Clone, Debug)]
pub struct Step {
    pub args: Vec<Vec<u8>>,
    pub check: Check,
}

/// How the reply of kvcore must relate to that of redis-server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// Byte for byte.
    Exact,
    /// The elements of the outermost aggregate in any order: Redis answers in the order of its hash table.
    Unordered,
    /// The same for a map, or a flat array of pairs.
    UnorderedPairs,
    /// Integers no further apart than this.
    Near(i64),
    /// The same kind of value, with the same structure.
    Shape,
    /// A cursor iteration, run to its end on both sides: the same elements. The number is the cursor's argument.
    Scan { cursor: usize },
    /// A random choice: same structure, and everything chosen is in the reply of `source`.
    Sample { source: Vec<Vec<u8>> },
    /// SPOP: as a random choice; what kvcore took is then removed from redis-server's set.
    Pop,
    /// DUMP: each side's payload is restored on the other side under another key, where it must give the same contents.
    Transfer,
}

impl Step {
    pub fn exact(args: Vec<Vec<u8>>) -> Step {
        Step { args, check: Check::Exact }
    }

    pub fn new(args: Vec<Vec<u8>>, check: Check) -> Step {
        Step { args, check }
    }

    /// A failing BITFIELD lengthens the string and counts as no change, so that replicas and files do not hear of it, with redis-server
    /// too.
    pub fn grows_unseen(&self) -> bool {
        self.name() == "BITFIELD" && self.args.iter().any(|arg| arg.eq_ignore_ascii_case(b"fail"))
    }

    /// Whether one request and one reply on each side is all there is to it, so that it may stand in a pipeline or in MULTI.
    pub fn is_plain(&self) -> bool {
        matches!(self.check, Check::Exact | Check::Unordered | Check::UnorderedPairs | Check::Near(_) | Check::Shape)
    }

    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.args[0]).to_uppercase()
    }

    pub fn show(&self) -> String {
        show(&self.args)
    }
}

/// Arguments longer than this are cut in messages.
const SHOWN: usize = 120;

/// A command as it could be typed into redis-cli.
pub fn show(args: &[Vec<u8>]) -> String {
    let word = |arg: &Vec<u8>| {
        let plain = !arg.is_empty() && arg.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\');
        let shown = &arg[..arg.len().min(SHOWN)];
        let cut = if shown.len() < arg.len() { format!("…({} bytes)", arg.len()) } else { String::new() };
        if plain { format!("{}{cut}", String::from_utf8_lossy(shown)) } else { format!("\"{}\"{cut}", shown.escape_ascii()) }
    };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}

impl Check {
    /// Whether the replies agree, for the checks that need nothing but the replies.
    pub fn agrees(&self, reference: &Value, tested: &Value) -> bool {
        if reference.is_error() || tested.is_error() {
            // Redis's SORT also fails when an earlier command has left a range error behind in errno.
            let leftover = matches!(reference, Value::Error(text) if text.contains("scores can't be converted into double"));
            return reference == tested || leftover;
        }
        match self {
            Check::Exact => reference == tested,
            Check::Unordered => reference.clone().sorted() == tested.clone().sorted(),
            Check::UnorderedPairs => reference.clone().sorted_pairs() == tested.clone().sorted_pairs(),
            Check::Near(tolerance) => match (reference, tested) {
                (Value::Integer(a), Value::Integer(b)) => *a == *b || (*a >= 0 && *b >= 0 && a.abs_diff(*b) <= *tolerance as u64),
                _ => reference == tested,
            },
            _ => shape(reference) == shape(tested),
        }
    }
}

/// The structure of a value: kinds and lengths, without the contents.
pub fn shape(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(shape).collect::<Vec<_>>().join(" ");
    match value {
        Value::Simple(_) => "simple".into(),
        Value::Error(text) => format!("error {text}"),
        Value::Integer(_) => "integer".into(),
        Value::Bulk(_) => "bulk".into(),
        Value::Null => "null".into(),
        Value::NullArray => "null-array".into(),
        Value::Double(_) => "double".into(),
        Value::Boolean(_) => "boolean".into(),
        Value::BigNumber(_) => "big".into(),
        Value::Verbatim(format, _) => format!("verbatim {format}"),
        Value::Array(items) => format!("[{}]", all(items)),
        Value::Set(items) => format!("~[{}]", all(items)),
        Value::Push(items) => format!(">[{}]", all(items)),
        Value::Map(pairs) => {
            format!("%{{{}}}", pairs.iter().map(|(k, v)| format!("{} {}", shape(k), shape(v))).collect::<Vec<_>>().join(" "))
        }
    }
}

/// The strings and numbers in a value, however nested.
pub fn leaves(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::Integer(number) => vec![number.to_string().into_bytes()],
        Value::Array(_) | Value::Set(_) | Value::Push(_) | Value::Map(_) => value.items().iter().flat_map(leaves).collect(),
        Value::Null | Value::NullArray => Vec::new(),
        Value::Boolean(flag) => vec![flag.to_string().into_bytes()],
        other => vec![other.bytes().to_vec()],
    }
}

//! SORT: elements in order of themselves or of other keys' values, answered or stored.
//!
//! A pattern names other keys: its first `*` stands for the element, and `->field` behind that for a field of a hash. The keys
//! are read from this keyspace; the node gathers them here beforehand (see [`DynamicKeys`]), and checks that the
//! user may read all keys.

use super::super::ShardCommand;
use crate::command::InvalidKeys;
use crate::command::{
    AclCategory, Arg, ArgFlags, ArgKind, Args, Command, DynamicKeys, Flags, Group, KeyAccess, KeySpec, KeyUse, Spec,
};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Expiry, NewValue, Value};
use crate::number::{parse_f64, parse_i64};
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::list::ListLimit;
use crate::value::sorted_set::Direction;
use crate::value::{List, Object};
use std::cmp::Ordering;
use std::ops::Range;

pub static SORT: ShardCommand = Command {
    spec: Spec {
        name: "sort",
        dynamic_keys: Some(PATTERN_KEYS),
        group: Group::Generic,
        summary: "Sorts a list, set or sorted set, and answers or stores the result.",
        complexity: "O(N+M*log(M)) for N elements of which M are answered",
        arity: -2,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SET.with(AclCategory::SORTEDSET).with(AclCategory::LIST).with(AclCategory::DANGEROUS),
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS)), KeySpec::unknown(KeyAccess::RO.with(KeyAccess::ACCESS)).noted("For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort"), KeySpec::unknown(KeyAccess::OW.with(KeyAccess::UPDATE)).noted("For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array")],
        find_keys: Some(sort_keys),
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("pattern", ArgKind::KeyPattern(1)).token("BY").flags(ArgFlags::OPTIONAL), Arg::new("offset_count", ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)])).token("LIMIT").flags(ArgFlags::OPTIONAL), Arg::new("pattern", ArgKind::KeyPattern(1)).token("GET").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE).with(ArgFlags::MULTIPLE_TOKEN)), Arg::new("order", ArgKind::OneOf(&[Arg::new("asc", ArgKind::PureToken).token("ASC"), Arg::new("desc", ArgKind::PureToken).token("DESC")])).flags(ArgFlags::OPTIONAL), Arg::new("sorting", ArgKind::PureToken).token("ALPHA").flags(ArgFlags::OPTIONAL), Arg::new("destination", ArgKind::Key(2)).token("STORE").flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: sort,
};

pub static SORT_RO: ShardCommand = Command {
    spec: Spec {
        name: "sort_ro",
        dynamic_keys: Some(PATTERN_KEYS),
        group: Group::Generic,
        since: "7.0.0",
        summary: "Sorts a list, set or sorted set without storing the result.",
        complexity: "O(N+M*log(M)) for N elements of which M are answered",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SET.with(AclCategory::SORTEDSET).with(AclCategory::LIST).with(AclCategory::DANGEROUS),
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS)), KeySpec::unknown(KeyAccess::RO.with(KeyAccess::ACCESS)).noted("For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort")],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("pattern", ArgKind::KeyPattern(1)).token("BY").flags(ArgFlags::OPTIONAL), Arg::new("offset_count", ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)])).token("LIMIT").flags(ArgFlags::OPTIONAL), Arg::new("pattern", ArgKind::KeyPattern(1)).token("GET").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE).with(ArgFlags::MULTIPLE_TOKEN)), Arg::new("order", ArgKind::OneOf(&[Arg::new("asc", ArgKind::PureToken).token("ASC"), Arg::new("desc", ArgKind::PureToken).token("DESC")])).flags(ArgFlags::OPTIONAL), Arg::new("sorting", ArgKind::PureToken).token("ALPHA").flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: sort,
};

/// The sorted key, and the last STORE's.
fn sort_keys(args: Args<'_>, out: &mut Vec<KeyUse>) -> Result<(), InvalidKeys> {
    out.push(KeyUse { index: 1, access: KeyAccess::RO.with(KeyAccess::ACCESS) });
    let (mut at, mut store) = (2, None);
    while at < args.len() {
        if args.is(at, "limit") {
            at += 2;
        } else if args.is(at, "get") || args.is(at, "by") {
            at += 1;
        } else if args.is(at, "store") && at + 1 < args.len() {
            store = Some(KeyUse { index: at + 1, access: KeyAccess::OW.with(KeyAccess::UPDATE) });
        }
        at += 1;
    }
    out.extend(store);
    Ok(())
}

/// What the words of a SORT say.
struct Plan<'a> {
    descending: bool,
    /// Compare bytes, not numbers.
    alpha: bool,
    /// A BY without `*`: leave the order as it is.
    unsorted: bool,
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    offset: i64,
    count: i64,
    store: Option<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn parse(x: &Exec<'_>, a: Args<'a>) -> Result<Self, Error> {
        let may_store = x.spec.flags.has(Flags::WRITE);
        let cluster = x.settings().cluster_enabled;
        let mut plan = Plan {
            descending: false,
            alpha: false,
            unsorted: false,
            by: None,
            get: Vec::new(),
            offset: 0,
            count: -1,
            store: None,
        };
        let mut at = 2;
        while at < a.len() {
            let left = a.len() - at - 1;
            if a.is(at, "asc") {
                plan.descending = false;
            } else if a.is(at, "desc") {
                plan.descending = true;
            } else if a.is(at, "alpha") {
                plan.alpha = true;
            } else if a.is(at, "limit") && left >= 2 {
                plan.offset = parse_i64(a.at(at + 1)).ok_or(Error::NotInteger)?;
                plan.count = parse_i64(a.at(at + 2)).ok_or(Error::NotInteger)?;
                at += 2;
            } else if may_store && a.is(at, "store") && left >= 1 {
                plan.store = Some(a.at(at + 1));
                at += 1;
            } else if a.is(at, "by") && left >= 1 {
                let pattern = Pattern::parse(a.at(at + 1));
                if matches!(pattern, Pattern::Nothing | Pattern::Element) {
                    plan.unsorted = true;
                } else if cluster {
                    return Err(Error::Text("ERR BY option of SORT denied in Cluster mode."));
                }
                plan.by = Some(pattern);
                at += 1;
            } else if a.is(at, "get") && left >= 1 {
                if cluster {
                    return Err(Error::Text("ERR GET option of SORT denied in Cluster mode."));
                }
                plan.get.push(Pattern::parse(a.at(at + 1)));
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(plan)
    }

    /// The elements that LIMIT leaves of `len`.
    fn range(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset.max(0)).map_or(len, |offset| offset.min(len));
        let count = usize::try_from(self.count).map_or(len, |count| count.min(len));
        start..(start + count).min(len)
    }
}

/// A BY or GET pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pattern<'a> {
    /// `#`
    Element,
    /// Without a `*`: names nothing.
    Nothing,
    Key {
        before: &'a [u8],
        after: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Self {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = memchr::memchr(b'*', text) else { return Pattern::Nothing };
        let (before, after) = (&text[..star], &text[star + 1..]);
        match memchr::memmem::find(after, b"->") {
            Some(arrow) if arrow + 2 < after.len() => {
                Pattern::Key { before, after: &after[..arrow], field: Some(&after[arrow + 2..]) }
            }
            _ => Pattern::Key { before, after, field: None },
        }
    }

    /// The key that the pattern names for an element.
    fn key(&self, element: &[u8]) -> Option<Vec<u8>> {
        match self {
            Pattern::Key { before, after, .. } => Some([before, element, after].concat()),
            Pattern::Element | Pattern::Nothing => None,
        }
    }

    /// Appends what the pattern stands for, if it is there.
    fn write(&self, x: &mut Exec<'_>, element: &[u8], out: &mut Vec<u8>) -> bool {
        let (name, field) = match (self, self.key(element)) {
            (Pattern::Key { field, .. }, Some(name)) => (name, *field),
            (Pattern::Element, _) => {
                out.extend_from_slice(element);
                return true;
            }
            _ => return false,
        };
        match (x.get(&x.key(&name)), field) {
            (Some(Value::Integer(number)), None) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            (Some(Value::Short(bytes)), None) => out.extend_from_slice(bytes),
            (Some(Value::Long(bytes)), None) => out.extend_from_slice(bytes),
            (Some(Value::Hash(hash)), Some(field)) => match hash.get(field) {
                Some(item) => item.write_to(out),
                None => return false,
            },
            _ => return false,
        }
        true
    }
}

/// Byte strings one behind the other in one allocation.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn end_text(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// What elements are compared by.
enum Weights {
    Numbers(Vec<f64>),
    Elements,
    /// With whether there is one at all.
    Texts(Texts, Vec<bool>),
}

fn sort(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let mut plan = Plan::parse(x, a)?;
    let (key, may_block, mut elements) = (x.key(a.at(1)), x.may_block, Texts::default());
    if let Some(value) = x.get(&key) {
        // What is stored, or answered to a script, must not depend on the order of a table.
        if plan.unsorted && matches!(value, Value::Set(_)) && (plan.store.is_some() || !may_block) {
            (plan.unsorted, plan.alpha, plan.by) = (false, true, None);
        }
        elements = load(value, plan.unsorted && plan.descending)?;
    }
    let range = plan.range(elements.len());
    let mut order: Vec<u32> = (0..elements.len() as u32).collect();
    if !plan.unsorted {
        let weights = weigh(x, &plan, &elements)?;
        let compare = |&a: &u32, &b: &u32| {
            let (a, b) = (a as usize, b as usize);
            let by_weight = match &weights {
                Weights::Numbers(numbers) => numbers[a]
                    .partial_cmp(&numbers[b])
                    .unwrap_or(Ordering::Equal)
                    .then_with(|| elements.get(a).cmp(elements.get(b))),
                Weights::Elements => elements.get(a).cmp(elements.get(b)),
                Weights::Texts(texts, there) => there[a].cmp(&there[b]).then_with(|| texts.get(a).cmp(texts.get(b))),
            };
            (if plan.descending { by_weight.reverse() } else { by_weight }).then(a.cmp(&b))
        };
        if range.end < order.len() {
            order.select_nth_unstable_by(range.end, compare);
        }
        order[..range.end].sort_unstable_by(compare);
    }
    let chosen = &order[range];
    match plan.store {
        None => answer(x, &plan, &elements, chosen, r),
        Some(name) => store(x, &plan, &elements, chosen, name, r),
    }
    Ok(())
}

/// The elements of a list, set or sorted set in its own order, or backwards (sets have no order to turn).
fn load(value: Value<'_>, backwards: bool) -> Result<Texts, Error> {
    let mut texts = Texts::default();
    let mut put = |item: crate::value::item::Item<'_>| {
        item.write_to(&mut texts.bytes);
        texts.end_text();
    };
    match value {
        Value::List(list) if backwards => list.iter_rev().for_each(put),
        Value::List(list) => list.iter().for_each(put),
        Value::Set(set) => set.for_each(&mut put),
        Value::SortedSet(zset) => {
            let direction = if backwards { Direction::Descending } else { Direction::Ascending };
            zset.range(0..zset.len(), direction).for_each(|(member, _)| put(member));
        }
        _ => return Err(Error::WrongType),
    }
    Ok(texts)
}

fn weigh(x: &mut Exec<'_>, plan: &Plan<'_>, elements: &Texts) -> Result<Weights, Error> {
    let Some(by) = plan.by else {
        if plan.alpha {
            return Ok(Weights::Elements);
        }
        return (0..elements.len())
            .map(|index| parse_weight(elements.get(index)))
            .collect::<Result<_, _>>()
            .map(Weights::Numbers);
    };
    let (mut texts, mut there) = (Texts::default(), Vec::with_capacity(elements.len()));
    for index in 0..elements.len() {
        there.push(by.write(x, elements.get(index), &mut texts.bytes));
        texts.end_text();
    }
    if plan.alpha {
        return Ok(Weights::Texts(texts, there));
    }
    let number = |index: usize| if there[index] { parse_weight(texts.get(index)) } else { Ok(0.0) };
    (0..elements.len()).map(number).collect::<Result<_, _>>().map(Weights::Numbers)
}

/// A number as C's strtod reads it: it ends with the first NUL, spaces before it are allowed, and nothing at all is 0.
fn parse_weight(text: &[u8]) -> Result<f64, Error> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0.0);
    }
    let number = parse_f64(text.trim_ascii_start());
    let out_of_range = |number: &f64| number.is_subnormal() || number.is_infinite() && text.iter().any(u8::is_ascii_digit);
    number.filter(|number| !out_of_range(number)).ok_or(Error::Text("ERR One or more scores can't be converted into double"))
}

fn answer(x: &mut Exec<'_>, plan: &Plan<'_>, elements: &Texts, chosen: &[u32], r: &mut Reply<'_>) {
    r.array(chosen.len() * plan.get.len().max(1));
    let mut text = Vec::new();
    for &index in chosen {
        let element = elements.get(index as usize);
        if plan.get.is_empty() {
            r.bulk(element);
        }
        for pattern in &plan.get {
            text.clear();
            if pattern.write(x, element, &mut text) { r.bulk(&text) } else { r.null() }
        }
    }
}

fn store(x: &mut Exec<'_>, plan: &Plan<'_>, elements: &Texts, chosen: &[u32], name: &[u8], r: &mut Reply<'_>) {
    let limit = ListLimit::from_config(x.settings().list_max_listpack_size.into());
    let (mut list, mut text) = (List::new(), Vec::new());
    for &index in chosen {
        let element = elements.get(index as usize);
        if plan.get.is_empty() {
            list.push_back(element, limit);
        }
        for pattern in &plan.get {
            text.clear();
            // What is not there is stored as an empty string.
            pattern.write(x, element, &mut text);
            list.push_back(&text, limit);
        }
    }
    let (key, len) = (x.key(name), list.len());
    if len > 0 {
        x.store(&key, NewValue::Object(Object::List(Box::new(list))), Expiry::Clear);
        x.changed_by(&key, len as u64);
        x.event(NotifyFlags::LIST, "sortstore", &key);
    } else if x.delete_even_expired(&key) {
        x.changed(&key);
        x.event(NotifyFlags::GENERIC, "del", &key);
    }
    r.integer(len as i64);
}

/// The keys behind BY and GET patterns depend on the sorted elements.
const PATTERN_KEYS: DynamicKeys = DynamicKeys { possible: names_patterns, find: sort_pattern_keys };

fn names_patterns(a: Args<'_>) -> bool {
    (2..a.len()).any(|at| (a.is(at, "by") || a.is(at, "get")) && a.at(at + 1).contains(&b'*'))
}

/// The keys that the BY and GET patterns of a SORT name, each once; none where the command would fail.
fn sort_pattern_keys(x: &mut Exec<'_>, a: Args<'_>) -> Vec<Vec<u8>> {
    let Ok(plan) = Plan::parse(x, a) else { return Vec::new() };
    let patterns: Vec<Pattern<'_>> = plan.by.iter().chain(&plan.get).copied().collect();
    if !patterns.iter().any(|pattern| matches!(pattern, Pattern::Key { .. })) {
        return Vec::new();
    }
    let Some(Ok(elements)) = x.peek(&x.key(a.at(1))).map(|value| load(value, false)) else { return Vec::new() };
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for index in 0..elements.len() {
        keys.extend(patterns.iter().filter_map(|pattern| pattern.key(elements.get(index))));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::testing::Session;
    use crate::value::hash::HashLimits;
    use crate::value::set::SetLimits;
    use crate::value::sorted_set::Limits;
    use crate::value::{Hash, Set, SortedSet};

    fn put(s: &mut Session, name: &str, object: Object) {
        let key = s.shard.hasher.key(name.as_bytes());
        s.shard.dbs[0].set(&key, NewValue::Object(object), Expiry::Clear, 0);
    }

    /// A list, a set and a sorted set, strings and hashes that weigh them.
    fn filled() -> Session {
        let mut s = Session::new();
        let (mut list, mut set, mut zset) = (List::new(), Set::new(), SortedSet::default());
        let hasher = s.shard.hasher.state().clone();
        let set_limits = SetLimits::new(&s.shard.settings, &hasher);
        let zset_limits = Limits { entries: 128, value: 64, hasher: hasher.clone() };
        let hash_limits = HashLimits::new(&s.shard.settings, &hasher);
        for (at, element) in ["3", "10", "1", "2"].into_iter().enumerate() {
            list.push_back(element.as_bytes(), ListLimit::default());
            set.add(element.as_bytes(), &set_limits);
            zset.insert(element.as_bytes(), [5.0, -1.0, 7.0, 0.5][at], &zset_limits);
            if element != "2" {
                s.run(&format!("SET w_{element} {}", 100 - at));
                let mut hash = Hash::new();
                hash.set(b"w", at.to_string().as_bytes(), &hash_limits);
                put(&mut s, &format!("h_{element}"), Object::Hash(hash));
            }
        }
        put(&mut s, "l", Object::List(Box::new(list)));
        put(&mut s, "s", Object::Set(set));
        put(&mut s, "z", Object::SortedSet(zset));
        s.effects();
        s
    }

    fn sorted(s: &mut Session, line: &str) -> String {
        let reply = s.run(line);
        let words: Vec<&str> = reply.split(' ').skip(1).filter(|word| !word.starts_with('$') || *word == "$-1").collect();
        words.join(" ")
    }

    #[test]
    fn orders() {
        let mut s = filled();
        for (line, want) in [
            ("SORT l", "1 2 3 10"),
            ("SORT l DESC", "10 3 2 1"),
            ("SORT l ALPHA", "1 10 2 3"),
            ("SORT l ALPHA DESC LIMIT 1 2", "2 10"),
            ("SORT s", "1 2 3 10"),
            ("SORT_RO z desc limit 0 2", "10 3"),
            ("SORT l BY nosort", "3 10 1 2"),
            ("SORT l BY nosort DESC", "2 1 10 3"),
            ("SORT l BY nosort DESC LIMIT 1 2", "1 10"),
            ("SORT z BY nosort", "10 2 3 1"),
            ("SORT z BY nosort DESC LIMIT 0 3", "1 3 2"),
            ("SORT z BY # LIMIT -5 -5", "10 2 3 1"),
            ("SORT l BY w_*", "2 1 10 3"),
            ("SORT l BY w_* ALPHA", "2 3 1 10"),
            ("SORT l BY h_*->w", "2 3 10 1"),
            ("SORT l BY h_*->w DESC LIMIT 0 1", "1"),
            ("SORT l BY h_*", "1 10 2 3"),
            ("SORT l LIMIT 9 5", ""),
            ("SORT none", ""),
        ] {
            assert_eq!(sorted(&mut s, line), want, "{line}");
        }
    }

    #[test]
    fn gets() {
        let mut s = filled();
        for (line, want) in [
            ("SORT l GET #", "1 2 3 10"),
            ("SORT l GET w_* GET # LIMIT 0 2", "98 1 $-1 2"),
            ("SORT l GET h_*->w", "2 $-1 0 1"),
            ("SORT l GET h_*->x LIMIT 0 1", "$-1"),
            ("SORT l GET h_*", "$-1 $-1 $-1 $-1"),
            ("SORT l GET w_1 LIMIT 0 1", "$-1"),
            ("SORT l GET w_*-> LIMIT 0 1", "$-1"),
        ] {
            assert_eq!(sorted(&mut s, line), want, "{line}");
        }
    }

    #[test]
    fn storing() {
        let mut s = filled();
        s.check(&[
            ("SORT l STORE out", ":4"),
            ("TYPE out", "+list"),
            ("SORT l GET w_* STORE out LIMIT 0 2", ":2"),
            ("SORT out BY nosort", "*2 $2 98 $0"),
            ("SORT s BY nosort STORE out", ":4"),
            ("SORT out BY nosort LIMIT 1 1", "*1 $2 10"),
            ("SORT none STORE out", ":0"),
            ("EXISTS out", ":0"),
            ("SORT none STORE out", ":0"),
            ("SORT_RO l STORE out", "-ERR syntax error"),
        ]);
        assert_eq!(
            s.effects(),
            ["SORT l STORE out", "SORT l GET w_* STORE out LIMIT 0 2", "SORT s BY nosort STORE out", "SORT none STORE out"]
        );
    }

    #[test]
    fn errors() {
        let mut s = filled();
        s.check(&[
            ("SORT w_1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT l LIMIT 1", "-ERR syntax error"),
            ("SORT l LIMIT x 1", "-ERR value is not an integer or out of range"),
            ("SORT l FOO", "-ERR syntax error"),
            ("SORT l BY", "-ERR syntax error"),
            ("SET w_2 abc", "+OK"),
            ("SORT l BY w_*", "-ERR One or more scores can't be converted into double"),
            ("SORT l BY w_* ALPHA LIMIT 3 1", "*1 $1 2"),
        ]);
        s.shard.settings.cluster_enabled = true;
        s.check(&[
            ("SORT l BY w_*", "-ERR BY option of SORT denied in Cluster mode."),
            ("SORT l GET #", "-ERR GET option of SORT denied in Cluster mode."),
            ("SORT l BY nosort LIMIT 0 1", "*1 $1 3"),
        ]);
    }

    #[test]
    fn weights() {
        for (text, want) in [
            ("", Some(0.0)),
            ("\0a", Some(0.0)),
            ("5\0a", Some(5.0)),
            ("4e-320", None),
            (" 1", Some(1.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
        ] {
            assert_eq!(parse_weight(text.as_bytes()).ok(), want, "{text:?}");
        }
        for text in [" ", "1 ", "x", "nan", "1e999", "1x"] {
            assert!(parse_weight(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keys_of_patterns_and_of_the_command() {
        let mut s = filled();
        let args = |line: &str| crate::command::ArgsBuf::from_slices(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let keys = |s: &mut Session, line: &str| {
            let buf = args(line);
            let mut exec = Exec::new(&mut s.shard, &SORT.spec, 0, 0, crate::keyspace::ClientId(1));
            let keys = sort_pattern_keys(&mut exec, buf.args());
            keys.into_iter().map(|key| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&mut s, "SORT l BY w_* GET # GET h_*->w"), ["h_1", "h_10", "h_2", "h_3", "w_1", "w_10", "w_2", "w_3"]);
        assert!(keys(&mut s, "SORT l BY nosort GET #").is_empty());
        assert!(keys(&mut s, "SORT w_1 BY w_*").is_empty());
        let mut uses = Vec::new();
        let line = args("SORT store BY store STORE a GET store LIMIT store store STORE b");
        assert!(sort_keys(line.args(), &mut uses).is_ok());
        assert_eq!(uses.iter().map(|u| u.index).collect::<Vec<_>>(), [1, 12]);
    }
}

//! One command's definition as COMMAND INFO and COMMAND DOCS write it, in RESP2 and RESP3.

use crate::commands::registry::Registered;
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, BeginSearch, FindKeys, KeyAccess, KeySpec, LegacyRange};
use kvshard::{Flags, Reply};

/// COMMAND INFO's ten elements.
pub fn info(r: &mut Reply<'_>, command: &Registered) {
    let spec = command.spec;
    let range = LegacyRange::of(spec);
    let movable = if range.movable { Flags::MOVABLE_KEYS } else { Flags::NONE };
    r.array(10);
    r.bulk(spec.name.as_bytes());
    r.integer(spec.arity.into());
    let shown = |flag: &Flags| spec.flags.with(movable).has(*flag);
    names(r, Flags::NAMES.iter().filter(|(flag, name)| shown(flag) && !name.is_empty()).map(|(_, name)| *name));
    r.integer(range.first.into());
    r.integer(range.last.into());
    r.integer(range.step.into());
    let categories: Vec<String> = AclCategory::NAMES
        .iter()
        .filter(|(category, _)| spec.acl_categories().has(*category))
        .map(|(_, name)| format!("@{name}"))
        .collect();
    names(r, categories.iter().map(String::as_str));
    r.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| r.bulk(tip.as_bytes()));
    r.set(spec.keys.len());
    spec.keys.iter().for_each(|key| key_spec(r, key));
    match command.subcommands.len() {
        0 => r.set(0),
        subcommands => r.array(subcommands),
    }
    command.subcommands.iter().for_each(|sub| info(r, sub));
}

/// A set of simple strings.
fn names<'a>(r: &mut Reply<'_>, names: impl Iterator<Item = &'a str>) {
    let names: Vec<&str> = names.collect();
    r.set(names.len());
    names.iter().for_each(|name| r.simple(name));
}

/// What a command does to a key.
pub fn access(r: &mut Reply<'_>, access: KeyAccess) {
    names(r, KeyAccess::NAMES.iter().filter(|(bit, _)| access.has(*bit)).map(|(_, name)| *name));
}

fn key_spec(r: &mut Reply<'_>, key: &KeySpec) {
    r.map(3 + usize::from(key.notes.is_some()));
    if let Some(notes) = key.notes {
        text(r, "notes", notes);
    }
    r.bulk(b"flags");
    access(r, key.access);
    r.bulk(b"begin_search");
    match key.begin {
        BeginSearch::Unknown => step(r, "unknown", &[]),
        BeginSearch::Index(index) => step(r, "index", &[("index", index)]),
        BeginSearch::Keyword { word, start } => {
            r.map(2);
            text(r, "type", "keyword");
            r.bulk(b"spec");
            r.map(2);
            text(r, "keyword", &word.to_uppercase());
            r.bulk(b"startfrom");
            r.integer(start.into());
        }
    }
    r.bulk(b"find_keys");
    match key.find {
        FindKeys::Unknown => step(r, "unknown", &[]),
        FindKeys::Range { last, step: every, limit } => {
            step(r, "range", &[("lastkey", last), ("keystep", every), ("limit", limit)]);
        }
        FindKeys::Count { count, first, step: every } => {
            step(r, "keynum", &[("keynumidx", count), ("firstkey", first), ("keystep", every)]);
        }
    }
}

/// One step of finding keys, with its numbers.
fn step(r: &mut Reply<'_>, kind: &str, numbers: &[(&str, i32)]) {
    r.map(2);
    text(r, "type", kind);
    r.bulk(b"spec");
    r.map(numbers.len());
    for (name, number) in numbers {
        r.bulk(name.as_bytes());
        r.integer((*number).into());
    }
}

fn text(r: &mut Reply<'_>, name: &str, value: &str) {
    r.bulk(name.as_bytes());
    r.bulk(value.as_bytes());
}

/// COMMAND DOCS' map.
pub fn docs(r: &mut Reply<'_>, command: &Registered) {
    let spec = command.spec;
    let replacement = spec.deprecated.map(|(_, replacement)| replacement).filter(|replacement| !replacement.is_empty());
    let documented = |text: &'static str| Some(text).filter(|text| !text.is_empty());
    let (summary, complexity) = (documented(spec.summary), documented(spec.complexity));
    let document_flags: Vec<&str> = [(spec.deprecated.is_some(), "deprecated"), (spec.flags.has(Flags::SYSTEM), "syscmd")]
        .into_iter()
        .filter_map(|(is, name)| is.then_some(name))
        .collect();
    let present = [
        summary.is_some(),
        complexity.is_some(),
        !document_flags.is_empty(),
        spec.deprecated.is_some(),
        replacement.is_some(),
        !spec.history.is_empty(),
        !spec.args.is_empty(),
        !command.subcommands.is_empty(),
    ];
    r.map(2 + present.iter().filter(|is| **is).count());
    summary.into_iter().for_each(|summary| text(r, "summary", summary));
    text(r, "since", spec.since);
    text(r, "group", spec.group.name());
    complexity.into_iter().for_each(|complexity| text(r, "complexity", complexity));
    if !document_flags.is_empty() {
        r.bulk(b"doc_flags");
        names(r, document_flags.into_iter());
    }
    spec.deprecated.into_iter().for_each(|(since, _)| text(r, "deprecated_since", since));
    replacement.into_iter().for_each(|replacement| text(r, "replaced_by", replacement));
    if !spec.history.is_empty() {
        r.bulk(b"history");
        r.set(spec.history.len());
        for (since, change) in spec.history {
            r.array(2);
            r.bulk(since.as_bytes());
            r.bulk(change.as_bytes());
        }
    }
    if !spec.args.is_empty() {
        r.bulk(b"arguments");
        arguments(r, spec.args);
    }
    if !command.subcommands.is_empty() {
        r.bulk(b"subcommands");
        r.map(command.subcommands.len());
        for sub in &command.subcommands {
            r.bulk(sub.spec.name.as_bytes());
            docs(r, sub);
        }
    }
}

fn arguments(r: &mut Reply<'_>, args: &[Arg]) {
    r.array(args.len());
    args.iter().for_each(|arg| argument(r, arg));
}

fn argument(r: &mut Reply<'_>, arg: &Arg) {
    let (kind, key, inner) = match arg.kind {
        ArgKind::String => ("string", None, None),
        ArgKind::Integer => ("integer", None, None),
        ArgKind::Double => ("double", None, None),
        ArgKind::Key(spec) => ("key", Some(spec), None),
        ArgKind::Pattern => ("pattern", None, None),
        ArgKind::KeyPattern(spec) => ("pattern", Some(spec), None),
        ArgKind::UnixTime => ("unix-time", None, None),
        ArgKind::PureToken => ("pure-token", None, None),
        ArgKind::OneOf(inner) => ("oneof", None, Some(inner)),
        ArgKind::Block(inner) => ("block", None, Some(inner)),
    };
    let optional = [
        key.is_some(),
        arg.token.is_some(),
        arg.since.is_some(),
        arg.deprecated.is_some(),
        arg.flags != ArgFlags::NONE,
        inner.is_some(),
    ];
    r.map(2 + optional.iter().filter(|is| **is).count());
    text(r, "name", arg.name);
    text(r, "type", kind);
    if let Some(key) = key {
        r.bulk(b"key_spec_index");
        r.integer(key.into());
    }
    arg.token.into_iter().for_each(|token| text(r, "token", token));
    arg.since.into_iter().for_each(|since| text(r, "since", since));
    arg.deprecated.into_iter().for_each(|since| text(r, "deprecated_since", since));
    if arg.flags != ArgFlags::NONE {
        r.bulk(b"flags");
        names(r, ArgFlags::NAMES.iter().filter(|(flag, _)| arg.flags.has(*flag)).map(|(_, name)| *name));
    }
    if let Some(inner) = inner {
        r.bulk(b"arguments");
        arguments(r, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry::Registry;

    /// What redis-server 7.0.15 sends for `COMMAND INFO lmove` after HELLO 3.
    const LMOVE: &str = "*10\r\n$5\r\nlmove\r\n:5\r\n~2\r\n+write\r\n+denyoom\r\n:1\r\n:2\r\n:1\r\n~3\r\n+@write\r\n+@list\r\n+@slow\r\n~0\r\n~2\r\n\
        %3\r\n$5\r\nflags\r\n~3\r\n+RW\r\n+access\r\n+delete\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n\
        %1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n$7\r\nlastkey\r\n:0\r\n\
        $7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RW\r\n+insert\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\n\
        type\r\n$5\r\nindex\r\n$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:2\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\n\
        spec\r\n%3\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n";

    #[test]
    fn a_command_is_described_byte_by_byte_as_in_redis() {
        let registry = Registry::new();
        let mut out = Vec::new();
        info(&mut Reply::new(&mut out, true), registry.by_full_name(b"lmove").expect("there"));
        assert_eq!(String::from_utf8_lossy(&out), LMOVE);
    }

    #[test]
    fn every_documentation_has_as_many_fields_as_it_says() {
        for command in Registry::new().all() {
            let mut out = Vec::new();
            docs(&mut Reply::new(&mut out, false), command);
            assert_eq!(skip(&out), out.len(), "{}", command.spec.name);
        }
    }

    /// The length of the first value of RESP2 text.
    fn skip(text: &[u8]) -> usize {
        let line = text.windows(2).position(|window| window == b"\r\n").expect("a whole line");
        let number = || String::from_utf8_lossy(&text[1..line]).parse::<usize>().expect("a length");
        match text[0] {
            b'*' => (0..number()).fold(line + 2, |at, _| at + skip(&text[at..])),
            b'$' => line + 2 + number() + 2,
            _ => line + 2,
        }
    }
}

//! What one directive of the configuration is, and the macro that binds the table to the typed [`Config`].
//!
//! A row of the table (`table.rs`) is the only place where a directive exists: from it come the field of [`Config`], its
//! default, the names in CONFIG GET, the bounds, and what CONFIG SET and CONFIG REWRITE may do with it. Values know how to
//! read and print themselves ([`Setting`]); this module knows nothing of files, commands or what a directive does.

use std::borrow::Cow;
use std::fmt;

use super::table::Config;

/// Why a value was refused, in the words a client or the start-up error shows.
pub type Refusal = Cow<'static, str>;

/// A field of [`Config`]: something that is read from the words of a directive and printed again.
pub trait Setting {
    /// The form CONFIG GET prints.
    fn text(&self, spec: &Spec) -> Vec<u8>;

    /// Takes the value given as `words`; on refusal the old value stays.
    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec) -> Result<(), Refusal>;

    /// The values CONFIG REWRITE puts behind the directive's name, one line each; no line means that the directive
    /// must not be in the file. `default` is the same field of a fresh configuration.
    fn file_lines(&self, spec: &Spec, default: &dyn Setting) -> Vec<FileLine> {
        let value = self.text(spec);
        let required = value != default.text(spec);
        vec![FileLine { value, required }]
    }
}

/// One line of a rewritten file, without the directive's name.
#[derive(Debug, PartialEq, Eq)]
pub struct FileLine {
    pub value: Vec<u8>,
    /// Written even where the old file has no line to replace.
    pub required: bool,
}

/// Whether and when CONFIG SET may change a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTime {
    Modifiable,
    Immutable,
    /// Only where `enable-protected-configs` allows it.
    Protected,
}

/// What a directive does in kvcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Honoured,
    /// Taken and shown, without effect, for the reason given: logged once at start if the file sets it.
    Accepted(&'static str),
}

/// The unit a number is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Plain,
    /// Bytes, with Redis's suffixes: `1k` is 1000, `1kb` is 1024.
    Memory,
    /// Bytes as above, or `n%`.
    MemoryOrPercent,
    /// File permissions.
    Octal,
}

/// A test of a value that has the right form; the error is a sentence for the client.
pub type Check = fn(&[u8]) -> Result<(), &'static str>;

/// Everything about a directive but its name and its field. Built by the constructors and the chain below.
#[derive(Clone, Copy)]
pub struct Spec {
    pub alias: Option<&'static str>,
    pub unit: Unit,
    pub min: i128,
    pub max: i128,
    /// Takes several words; one word given is split at its spaces.
    pub several_words: bool,
    /// An empty string means "not set", and CONFIG REWRITE leaves the line out.
    pub absent_when_empty: bool,
    pub run_time: RunTime,
    pub refused_while_loading: bool,
    /// Never shown in logs, the slow log or MONITOR.
    pub sensitive: bool,
    /// Shown by CONFIG GET under its exact name only.
    pub hidden: bool,
    /// kvcore's own: redis-server does not know it.
    pub own: bool,
    pub effect: Effect,
    /// What a value has to fulfil beyond its form.
    pub check: Option<Check>,
}

/// A value that brings its own form: yes/no, one of a list, or a structure.
pub const fn value() -> Spec {
    Spec {
        alias: None,
        unit: Unit::Plain,
        min: 0,
        max: 0,
        several_words: false,
        absent_when_empty: false,
        run_time: RunTime::Modifiable,
        refused_while_loading: false,
        sensitive: false,
        hidden: false,
        own: false,
        effect: Effect::Honoured,
        check: None,
    }
}

/// An integer within bounds.
pub const fn number(min: i128, max: i128) -> Spec {
    Spec { min, max, ..value() }
}

/// A number of bytes within bounds.
pub const fn memory(min: i128, max: i128) -> Spec {
    Spec { unit: Unit::Memory, ..number(min, max) }
}

/// A string; the empty one means "not set".
pub const fn optional_text() -> Spec {
    Spec { absent_when_empty: true, ..value() }
}

/// A structure of several words.
pub const fn words() -> Spec {
    Spec { several_words: true, ..value() }
}

impl Spec {
    pub const fn alias(self, alias: &'static str) -> Spec {
        Spec { alias: Some(alias), ..self }
    }
    pub const fn unit(self, unit: Unit) -> Spec {
        Spec { unit, ..self }
    }
    pub const fn immutable(self) -> Spec {
        Spec { run_time: RunTime::Immutable, ..self }
    }
    pub const fn protected(self) -> Spec {
        Spec { run_time: RunTime::Protected, ..self }
    }
    pub const fn refused_while_loading(self) -> Spec {
        Spec { refused_while_loading: true, ..self }
    }
    pub const fn sensitive(self) -> Spec {
        Spec { sensitive: true, ..self }
    }
    pub const fn hidden(self) -> Spec {
        Spec { hidden: true, ..self }
    }
    pub const fn own(self) -> Spec {
        Spec { own: true, ..self }
    }
    pub const fn accepted(self, why: &'static str) -> Spec {
        Spec { effect: Effect::Accepted(why), ..self }
    }
    pub const fn check(self, check: Check) -> Spec {
        Spec { check: Some(check), ..self }
    }
}

/// One row of the table.
pub struct Directive {
    pub name: &'static str,
    pub spec: Spec,
    pub(super) read: fn(&Config) -> &dyn Setting,
    pub(super) write: fn(&mut Config) -> &mut dyn Setting,
}

impl fmt::Debug for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directive({})", self.name)
    }
}

impl Directive {
    /// Whether `name` is this directive's name or its alias, in any case.
    pub fn is_called(&self, name: &[u8]) -> bool {
        self.names().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The name and, where there is one, the alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.name), self.spec.alias].into_iter().flatten()
    }

    /// The value in the form CONFIG GET prints.
    pub fn text(&self, config: &Config) -> Vec<u8> {
        (self.read)(config).text(&self.spec)
    }

    pub(super) fn assign(&self, config: &mut Config, words: &[Vec<u8>]) -> Result<(), Refusal> {
        (self.write)(config).assign(words, &self.spec)
    }
}

/// Turns the rows `field: type = default, "name", spec;` into `Config`, its defaults and `DIRECTIVES`.
macro_rules! directives {
    ($( $field:ident : $kind:ty = $default:expr, $name:literal, $spec:expr; )*) => {
        /// The configuration of a node as plain values, one field per directive, named after it. Reading a field
        /// costs a load; the whole is cloned where a change is tried out (CONFIG SET).
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( pub $field: $kind, )*
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $( $field: $default, )* }
            }
        }

        /// Every directive there is, in the order CONFIG GET shows and CONFIG REWRITE appends.
        pub static DIRECTIVES: &[Directive] = &[
            $( Directive {
                name: $name,
                spec: $spec,
                read: |config| &config.$field,
                write: |config| &mut config.$field,
            }, )*
        ];
    };
}
pub(super) use directives;

//! The description of a command, as data.
//!
//! COMMAND and its subcommands, arity errors, the admission checks, ACL categories, routing, and replication read it.
//! Nothing else in the project decides by a command's name.

use super::Args;
use super::keys::{InvalidKeys, KeySpec, KeyUse};
use crate::split::Division;

/// A command: what it is, and what runs it. `R` is the kind of handler (a shard's or the node's).
pub struct Command<R: 'static> {
    pub spec: Spec,
    pub run: R,
}

pub struct Spec {
    /// Lower case; a subcommand's name is `container|name`.
    pub name: &'static str,
    pub group: Group,
    pub since: &'static str,
    pub summary: &'static str,
    pub complexity: &'static str,
    /// Exact number of arguments with the name, or `-n`: at least n.
    pub arity: i16,
    pub flags: Flags,
    /// ACL categories beside those that follow from `flags` (see [`Spec::acl_categories`]).
    pub acl: AclCategory,
    pub keys: &'static [KeySpec],
    /// Where the first field or member stands that a pipeline should have fetched ahead; 0: nowhere.
    pub member_at: usize,
    /// Finds the keys where the key specs cannot say it exactly.
    pub find_keys: Option<FindKeysBy>,
    pub route: Route,
    /// Uses keys of databases other than the selected one, or selects another.
    pub spans_databases: bool,
    /// What becomes of the effect when the command's keys are on several shards.
    pub split: Split,
    /// Several shards may each run the command with their own keys, divided as `split` says: what it does to a key depends on no
    /// other key and on nothing that was there, it cannot fail, and it answers OK.
    pub apart: bool,
    /// For commands whose further keys follow from the data (SORT's patterns).
    pub dynamic_keys: Option<DynamicKeys>,
    /// Whether the argument at this position is to be kept out of logs and MONITOR.
    pub is_secret: Option<fn(Args<'_>, usize) -> bool>,
    pub args: &'static [Arg],
    /// COMMAND INFO's command tips, as `name:value` or a bare word.
    pub tips: &'static [&'static str],
    /// (version, what changed), for COMMAND DOCS.
    pub history: &'static [(&'static str, &'static str)],
    /// (since version, the command to use instead), for COMMAND DOCS.
    pub deprecated: Option<(&'static str, &'static str)>,
}

impl Spec {
    /// For `..Spec::DEFAULT` in an item; name, group, arity and flags are always written out.
    pub const DEFAULT: Spec = Spec {
        name: "",
        group: Group::Generic,
        since: "1.0.0",
        summary: "",
        complexity: "O(1)",
        arity: 1,
        flags: Flags::NONE,
        acl: AclCategory::NONE,
        keys: &[],
        member_at: 0,
        find_keys: None,
        route: Route::Keys,
        spans_databases: false,
        split: Split::Values,
        apart: false,
        dynamic_keys: None,
        is_secret: None,
        args: &[],
        tips: &[],
        history: &[],
        deprecated: None,
    };

    pub fn arity_matches(&self, argc: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { argc == arity } else { argc >= arity }
    }

    /// All ACL categories: the written ones and those that follow from the flags.
    pub const fn acl_categories(&self) -> AclCategory {
        let (flags, mut acl) = (self.flags, self.acl);
        if flags.has(Flags::WRITE) {
            acl = acl.with(AclCategory::WRITE);
        }
        if flags.has(Flags::READONLY) && !acl.has(AclCategory::SCRIPTING) {
            acl = acl.with(AclCategory::READ);
        }
        if flags.has(Flags::ADMIN) {
            acl = acl.with(AclCategory::ADMIN).with(AclCategory::DANGEROUS);
        }
        if flags.has(Flags::PUBSUB) {
            acl = acl.with(AclCategory::PUBSUB);
        }
        if flags.has(Flags::BLOCKING) {
            acl = acl.with(AclCategory::BLOCKING);
        }
        acl.with(if flags.has(Flags::FAST) { AclCategory::FAST } else { AclCategory::SLOW })
    }
}

/// Keys that only the data can tell.
#[derive(Clone, Copy)]
pub struct DynamicKeys {
    /// Whether these arguments can lead to such keys at all.
    pub possible: fn(Args<'_>) -> bool,
    /// The keys, once the command's own keys are in reach.
    pub find: fn(&mut crate::exec::Exec<'_>, Args<'_>) -> Vec<Vec<u8>>,
}

impl DynamicKeys {
    pub fn possible(&self, args: Args<'_>) -> bool {
        (self.possible)(args)
    }
}

/// Appends a command's keys, or says that its arguments name no valid set.
pub type FindKeysBy = fn(Args<'_>, &mut Vec<KeyUse>) -> Result<(), InvalidKeys>;

/// Which shards a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The shards of its keys. One shard: it runs there. Several: the keys are gathered to one core, under locks, or each shard
    /// runs its part ([`Spec::apart`]).
    Keys,
    /// Every shard takes part, each with all it has; the merge says how the parts' replies become one.
    AllShards(Merge),
    /// The one shard that the first argument after the name tells (a SCAN cursor).
    Cursor,
    /// The node itself; no shard.
    Node,
}

/// How an effect with keys of several shards becomes effects of one shard each.
#[derive(Clone, Copy)]
pub enum Split {
    /// Whatever the changed keys hold is written out whole.
    Values,
    /// Each shard gets the command `name` with its own keys, each with the `step - 1` arguments behind it; the keys begin behind the
    /// command's name and take all arguments.
    PerKey { name: &'static [u8], step: usize, keys: SplitKeys },
    /// What the command did to each key is said with other commands.
    By(fn(&mut Division<'_>, Args<'_>)),
}

/// Which keys an effect is divided for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitKeys {
    All,
    Changed,
}

/// How the replies of all shards become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// Arrays are appended to each other.
    Concat,
    /// Integers are added.
    Sum,
    /// All answer the same: the first one.
    First,
    /// One of the shards with keys, drawn by their number of keys.
    Random,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u32);

macro_rules! bits {
    ($type:ident { $($name:ident = $bit:expr, $text:expr;)* }) => {
        impl $type {
            pub const NONE: Self = Self(0);
            $(pub const $name: Self = Self(1 << $bit);)*
            /// In the order in which redis-server lists them; those without a name are never shown.
            pub const NAMES: &'static [($type, &'static str)] = &[$(($type::$name, $text)),*];
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            pub const fn any(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
        }
        impl std::ops::BitOr for $type {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}

bits!(Flags {
    WRITE = 0, "write";
    READONLY = 1, "readonly";
    DENYOOM = 2, "denyoom";
    MODULE = 3, "module";
    ADMIN = 4, "admin";
    PUBSUB = 5, "pubsub";
    NOSCRIPT = 6, "noscript";
    BLOCKING = 7, "blocking";
    LOADING = 8, "loading";
    STALE = 9, "stale";
    SKIP_MONITOR = 10, "skip_monitor";
    SKIP_SLOWLOG = 11, "skip_slowlog";
    ASKING = 12, "asking";
    FAST = 13, "fast";
    NO_AUTH = 14, "no_auth";
    MAY_REPLICATE = 15, "";
    NO_MANDATORY_KEYS = 16, "no_mandatory_keys";
    NO_ASYNC_LOADING = 17, "no_async_loading";
    NO_MULTI = 18, "no_multi";
    MOVABLE_KEYS = 19, "movablekeys";
    ALLOW_BUSY = 20, "allow_busy";
    PROTECTED = 21, "";
    SENTINEL = 22, "";
    ONLY_SENTINEL = 23, "";
    TOUCHES_ARBITRARY_KEYS = 24, "";
    // kvcore's own, never shown: inside MULTI it runs at once instead of being queued; EXEC itself; allowed to a RESP2
    // client with subscriptions; not held by CLIENT PAUSE.
    NO_QUEUE = 25, "";
    RUNS_QUEUE = 26, "";
    SUBSCRIBED = 27, "";
    NO_PAUSE = 28, "";
    // For use between servers, as COMMAND DOCS says of it.
    SYSTEM = 29, "";
    // Tells of the server's health: refused as writes are while they would not survive.
    HEALTH = 30, "";
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclCategory(pub u32);

bits!(AclCategory {
    KEYSPACE = 0, "keyspace";
    READ = 1, "read";
    WRITE = 2, "write";
    SET = 3, "set";
    SORTEDSET = 4, "sortedset";
    LIST = 5, "list";
    HASH = 6, "hash";
    STRING = 7, "string";
    BITMAP = 8, "bitmap";
    HYPERLOGLOG = 9, "hyperloglog";
    GEO = 10, "geo";
    STREAM = 11, "stream";
    PUBSUB = 12, "pubsub";
    ADMIN = 13, "admin";
    FAST = 14, "fast";
    SLOW = 15, "slow";
    BLOCKING = 16, "blocking";
    DANGEROUS = 17, "dangerous";
    CONNECTION = 18, "connection";
    TRANSACTION = 19, "transaction";
    SCRIPTING = 20, "scripting";
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Sentinel,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// As COMMAND DOCS names it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Sentinel => "sentinel",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

/// One argument in COMMAND DOCS' description of a command's syntax.
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    pub token: Option<&'static str>,
    pub flags: ArgFlags,
    pub since: Option<&'static str>,
    pub deprecated: Option<&'static str>,
}

impl Arg {
    pub const fn new(name: &'static str, kind: ArgKind) -> Self {
        Arg { name, kind, token: None, flags: ArgFlags::NONE, since: None, deprecated: None }
    }

    pub const fn token(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    pub const fn flags(mut self, flags: ArgFlags) -> Self {
        self.flags = flags;
        self
    }

    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = Some(version);
        self
    }

    pub const fn deprecated(mut self, version: &'static str) -> Self {
        self.deprecated = Some(version);
        self
    }
}

pub enum ArgKind {
    String,
    Integer,
    Double,
    /// A key, with the index of its key spec.
    Key(u8),
    Pattern,
    /// A pattern of key names, with the index of the key spec for what it names.
    KeyPattern(u8),
    UnixTime,
    PureToken,
    OneOf(&'static [Arg]),
    Block(&'static [Arg]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArgFlags(pub u32);

bits!(ArgFlags {
    OPTIONAL = 0, "optional";
    MULTIPLE = 1, "multiple";
    MULTIPLE_TOKEN = 2, "multiple_token";
});

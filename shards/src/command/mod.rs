//! What a command is: one static item that says everything about it, and from which everything else is derived.

mod args;
mod keys;
mod legacy;
mod spec;

pub use args::{Args, ArgsBuf};
pub use keys::{BeginSearch, FindKeys, InvalidKeys, KeyAccess, KeySpec, KeyUse, key_uses};
pub use legacy::LegacyRange;
pub use spec::{AclCategory, Arg, ArgFlags, ArgKind, Command, DynamicKeys, Flags, Group, Merge, Route, Spec, Split, SplitKeys};

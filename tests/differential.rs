//! Generated commands, run against redis-server 7.0.15 and kvcore side by side: the same replies, the same contents.
//!
//! A failure prints its seed; `KVCORE_SEED=… KVCORE_STEPS=… cargo nextest run --test differential <name>` repeats it.

mod generated;
mod harness;
#[path = "differential/run.rs"]
mod run;

use generated::{Group, collections, generic, sorted_sets, strings};
use run::{Plan, run};

/// Steps of a run of one group. All runs of this file together take about 20 seconds on two CPUs.
const STEPS: u64 = 2500;
/// Steps of a run of all groups.
const STEPS_OF_ALL: u64 = 8000;

const ALL: &[(usize, Group)] = &[
    (10, strings::string),
    (4, strings::bitmap),
    (2, strings::hyperloglog),
    (10, collections::list),
    (10, collections::hash),
    (12, collections::set),
    (14, sorted_sets::sorted_set),
    (4, sorted_sets::geo),
    (20, generic::generic),
    (3, generic::connection),
];

/// The four settings every run is made in.
macro_rules! settings {
    ($groups:expr, $steps:expr, $events:expr) => {
        #[test]
        fn one_core_resp2() {
            run(
                concat!(module_path!(), "::one_core_resp2"),
                Plan { groups: $groups, cores: 1, resp3: false, steps: $steps, events: $events },
            );
        }

        #[test]
        fn one_core_resp3() {
            run(
                concat!(module_path!(), "::one_core_resp3"),
                Plan { groups: $groups, cores: 1, resp3: true, steps: $steps, events: $events },
            );
        }

        #[test]
        fn two_cores_resp2() {
            run(
                concat!(module_path!(), "::two_cores_resp2"),
                Plan { groups: $groups, cores: 2, resp3: false, steps: $steps, events: $events },
            );
        }

        #[test]
        fn two_cores_resp3() {
            run(
                concat!(module_path!(), "::two_cores_resp3"),
                Plan { groups: $groups, cores: 2, resp3: true, steps: $steps, events: $events },
            );
        }
    };
}

/// A group's own commands, with some on keys of any type and some of other groups, so that types meet.
macro_rules! group {
    ($name:ident, $first:path $(, $other:path)*) => {
        mod $name {
            use super::*;
            const GROUPS: &[(usize, Group)] = &[(20, $first), $((20, $other),)* (3, generic::generic)];
            settings!(GROUPS, STEPS, false);
        }
    };
}

group!(string, strings::string);
group!(bitmap, strings::bitmap);
group!(hyperloglog, strings::hyperloglog);
group!(list, collections::list);
group!(hash, collections::hash);
group!(set, collections::set);
group!(sorted_set, sorted_sets::sorted_set);
group!(geo, sorted_sets::geo);
group!(any_type, generic::generic, strings::string, collections::list, collections::set);
group!(connection, generic::connection);

mod all {
    use super::*;
    settings!(ALL, STEPS_OF_ALL, false);
}

mod events {
    use super::*;
    settings!(ALL, STEPS, true);
}

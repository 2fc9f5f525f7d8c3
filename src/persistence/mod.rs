//! Files that outlive the process.

pub mod check_rdb;

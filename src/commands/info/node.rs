//! The sections about the node: server, clients, memory, persistence, replication, cpu, modules, cluster.

use super::figures::{CpuTime, Figures};
use super::{human, lines, ratio, yes};
use crate::config::{Directive, REDIS_VERSION};
use crate::coordinator::status::{LoadProgress, Saving};
use crate::core::shared::PerCore;
use crate::observe::{clock, memory};
use crate::peers::status::Upstream;
use crate::replication::link::facts::TransferFacts;
use crate::replication::primary::facts::ReplicaFacts;
use std::ffi::CStr;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

const SECONDS_PER_DAY: u64 = 24 * 3600;
/// The clock of LRU counts seconds in so many bits.
const LRU_CLOCK_MASK: i64 = (1 << 24) - 1;

pub fn server(f: &Figures, text: &mut String) {
    let config = &f.config;
    let uptime = f.node.started.elapsed().as_secs();
    let executable = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    let config_file = f.node.config_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    text.push_str("# Server\r\n");
    lines!(text,
        "redis_version" => REDIS_VERSION,
        "redis_git_sha1" => "00000000",
        "redis_git_dirty" => 0,
        "redis_build_id" => "0000000000000000",
        "redis_mode" => "standalone",
        "os" => operating_system(),
        "arch_bits" => usize::BITS,
        "monotonic_clock" => clock::source(),
        "multiplexing_api" => "io_uring",
        "atomicvar_api" => "rust-core",
        "gcc_version" => "0.0.0",
        "process_id" => std::process::id(),
        "process_supervised" => directive(f, "supervised"),
        "run_id" => f.node.run_id,
        "tcp_port" => config.port,
        "server_time_usec" => clock::wall_micros(),
        "uptime_in_seconds" => uptime,
        "uptime_in_days" => uptime / SECONDS_PER_DAY,
        "hz" => config.hz,
        "configured_hz" => config.hz,
        "lru_clock" => (f.now / 1000) & LRU_CLOCK_MASK,
        "executable" => executable,
        "config_file" => config_file,
        "io_threads_active" => 0,
    );
    let shutdown = &f.node.shutdown;
    if shutdown.until_ms() > f.now && !shutdown.has_waited() {
        lines!(text, "shutdown_in_milliseconds" => shutdown.until_ms() - f.now,);
    }
    lines!(text,
        "kvcore_version" => env!("CARGO_PKG_VERSION"),
        "kvcore_cores" => f.node.cores,
    );
}

/// A directive's value as CONFIG GET shows it.
fn directive(f: &Figures, name: &str) -> String {
    let value = Directive::find(name.as_bytes()).map(|directive| directive.text(&f.config));
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

/// System, release and machine, as `uname` tells.
fn operating_system() -> String {
    // SAFETY: all zeros is a valid `utsname`, which is arrays of characters.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is a live value of the type the call fills.
    if unsafe { libc::uname(&mut names) } != 0 {
        return "Linux".to_owned();
    }
    let word = |name: &[libc::c_char]| {
        // SAFETY: the arrays were zeroed and the kernel ends each name with a zero within it.
        unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
    };
    format!("{} {} {}", word(&names.sysname), word(&names.release), word(&names.machine))
}

pub fn clients(f: &Figures, text: &mut String) {
    text.push_str("# Clients\r\n");
    lines!(text,
        "connected_clients" => f.clients.connected,
        "cluster_connections" => 0,
        "maxclients" => f.config.maxclients,
        "client_recent_max_input_buffer" => f.clients.input_max,
        "client_recent_max_output_buffer" => f.clients.output_max,
        "blocked_clients" => f.clients.blocked + f.node.shutdown.askers(),
        "tracking_clients" => 0,
        "clients_in_timeout_table" => f.clients.with_timeout,
    );
}

pub fn memory(f: &Figures, text: &mut String) {
    let (used, peak) = (f.memory_used, f.memory_peak);
    let resident = memory::resident().unwrap_or(used);
    let startup = f.node.startup_memory.load(Ordering::Relaxed);
    let overhead = startup + f.table_bytes as u64 + f.clients.memory as u64;
    let dataset = used.saturating_sub(overhead);
    let percent = |part: u64, whole: u64| format!("{:.2}%", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 });
    let beyond = |a: u64, b: u64| a as i64 - b as i64;
    let total_system = memory::of_the_machine();
    // What is kept for replicas that are behind comes on top of what is wanted.
    let stream_bytes = f.node.replication.place().1.map_or(0, |(_, len)| len);
    text.push_str("# Memory\r\n");
    lines!(text,
        "used_memory" => used,
        "used_memory_human" => human(used),
        "used_memory_rss" => resident,
        "used_memory_rss_human" => human(resident),
        "used_memory_peak" => peak,
        "used_memory_peak_human" => human(peak),
        "used_memory_peak_perc" => percent(used, peak),
        "used_memory_overhead" => overhead,
        "used_memory_startup" => startup,
        "used_memory_dataset" => dataset,
        "used_memory_dataset_perc" => percent(dataset, used.saturating_sub(startup)),
        "allocator_allocated" => used,
        "allocator_active" => resident,
        "allocator_resident" => resident,
        "total_system_memory" => total_system,
        "total_system_memory_human" => human(total_system),
        "used_memory_lua" => 0,
        "used_memory_vm_eval" => 0,
        "used_memory_lua_human" => human(0),
        "used_memory_scripts_eval" => 0,
        "number_of_cached_scripts" => 0,
        "number_of_functions" => 0,
        "number_of_libraries" => 0,
        "used_memory_vm_functions" => 0,
        "used_memory_vm_total" => 0,
        "used_memory_vm_total_human" => human(0),
        "used_memory_functions" => 0,
        "used_memory_scripts" => 0,
        "used_memory_scripts_human" => human(0),
        "maxmemory" => f.config.maxmemory,
        "maxmemory_human" => human(f.config.maxmemory),
        "maxmemory_policy" => directive(f, "maxmemory-policy"),
        "allocator_frag_ratio" => ratio(resident, used),
        "allocator_frag_bytes" => beyond(resident, used),
        "allocator_rss_ratio" => ratio(1, 1),
        "allocator_rss_bytes" => 0,
        "rss_overhead_ratio" => ratio(1, 1),
        "rss_overhead_bytes" => 0,
        "mem_fragmentation_ratio" => ratio(resident, used),
        "mem_fragmentation_bytes" => beyond(resident, used),
        "mem_not_counted_for_evict" => 0,
        "mem_replication_backlog" => stream_bytes.min(f.config.repl_backlog_size),
        "mem_total_replication_buffers" => stream_bytes,
        "mem_clients_slaves" => 0,
        "mem_clients_normal" => f.clients.memory,
        "mem_cluster_links" => 0,
        "mem_aof_buffer" => 0,
        "mem_allocator" => "mimalloc",
        "active_defrag_running" => 0,
        "lazyfree_pending_objects" => f.trash_pending,
        "lazyfreed_objects" => f.trash_freed,
    );
}

pub fn persistence(f: &Figures, text: &mut String) {
    let persistence = &f.node.persistence;
    let rdb = persistence.rdb();
    let running = rdb.running.filter(|running| matches!(running.saving, Saving::Background | Saving::Replicas { .. }));
    let rewriting = rdb.running.filter(|running| matches!(running.saving, Saving::Rewrite { .. }));
    let aof = persistence.aof();
    let written = persistence.keys_written.load(Ordering::Relaxed) as f64;
    let perc = running.map_or(0.0, |running| 100.0 * written / running.keys.max(1) as f64);
    text.push_str("# Persistence\r\n");
    lines!(text,
        "loading" => u8::from(persistence.loading.load(Ordering::Relaxed)),
        "async_loading" => u8::from(persistence.async_loading.load(Ordering::Relaxed)),
        "current_cow_peak" => 0,
        "current_cow_size" => 0,
        "current_cow_size_age" => 0,
        "current_fork_perc" => format!("{:.2}", perc),
        "current_save_keys_processed" => running.map_or(0, |_| persistence.keys_written.load(Ordering::Relaxed)),
        "current_save_keys_total" => running.map_or(0, |running| running.keys),
        "rdb_changes_since_last_save" => f.dirty,
        "rdb_bgsave_in_progress" => u8::from(running.is_some()),
        "rdb_last_save_time" => persistence.last_save.load(Ordering::Relaxed),
        "rdb_last_bgsave_status" => if persistence.rdb_failed.load(Ordering::Relaxed) { "err" } else { "ok" },
        "rdb_last_bgsave_time_sec" => rdb.last_duration_s,
        "rdb_current_bgsave_time_sec" => running.map_or(-1, |running| running.began.elapsed().as_secs() as i64),
        "rdb_saves" => rdb.saves,
        "rdb_last_cow_size" => 0,
        "rdb_last_load_keys_expired" => persistence.load.keys_expired.load(Ordering::Relaxed),
        "rdb_last_load_keys_loaded" => persistence.load.keys_loaded.load(Ordering::Relaxed),
        "aof_enabled" => u8::from(f.config.appendonly),
        "aof_rewrite_in_progress" => u8::from(rewriting.is_some()),
        "aof_rewrite_scheduled" => u8::from(aof.scheduled),
        "aof_last_rewrite_time_sec" => aof.last_duration_s,
        "aof_current_rewrite_time_sec" => rewriting.map_or(-1, |running| running.began.elapsed().as_secs() as i64),
        "aof_last_bgrewrite_status" => if aof.last_failed { "err" } else { "ok" },
        "aof_rewrites" => aof.rewrites,
        "aof_rewrites_consecutive_failures" => aof.consecutive_failures,
        "aof_last_write_status" => if persistence.aof_errno.load(Ordering::Relaxed) != 0 { "err" } else { "ok" },
        "aof_last_cow_size" => 0,
        "module_fork_in_progress" => 0,
        "module_fork_last_cow_size" => 0,
    );
    let (settled, base) = (aof.settled_bytes, aof.base_bytes);
    drop(aof);
    if f.config.appendonly {
        let sum = |figure: fn(&PerCore) -> &AtomicU64| -> u64 {
            f.node.per_core.iter().map(|core| figure(core).load(Ordering::Relaxed)).sum()
        };
        lines!(text,
            "aof_current_size" => settled + sum(|core| &core.log_bytes),
            "aof_base_size" => base,
            "aof_pending_rewrite" => 0,
            "aof_buffer_length" => sum(|core| &core.log_waiting),
            "aof_pending_bio_fsync" => sum(|core| &core.log_syncs),
            "aof_delayed_fsync" => sum(|core| &core.log_delays),
        );
    }
    if persistence.is_loading() {
        loading(&persistence.load, text);
    }
}

/// How far loading has come.
fn loading(progress: &LoadProgress, text: &mut String) {
    let [total, read, used_memory] =
        [&progress.total_bytes, &progress.read_bytes, &progress.rdb_used_memory].map(|figure| figure.load(Ordering::Relaxed));
    let began_s = progress.began_s.load(Ordering::Relaxed);
    let elapsed_s = clock::wall_ms() / 1000 - began_s;
    let left = total.saturating_sub(read);
    // As Redis: a second is as good a guess as any when nothing is known yet.
    let eta_s = if elapsed_s <= 0 { 1 } else { elapsed_s as u64 * left / (read + 1) };
    lines!(text,
        "loading_start_time" => began_s,
        "loading_total_bytes" => total,
        "loading_rdb_used_mem" => used_memory,
        "loading_loaded_bytes" => read,
        "loading_loaded_perc" => format!("{:.2}", 100.0 * read as f64 / total.max(1) as f64),
        "loading_eta_seconds" => eta_s,
    );
}

pub fn replication(f: &Figures, text: &mut String) {
    let (replication, facts) = (&f.node.replication, f.node.replication.facts());
    text.push_str("# Replication\r\n");
    lines!(text,
        "role" => if facts.upstream.is_some() { "slave" } else { "master" },
    );
    facts.upstream.iter().for_each(|upstream| following(f, upstream, text));
    lines!(text,
        "connected_slaves" => facts.replicas.len(),
    );
    if let Some(good) = replication.good_replicas(&f.config) {
        lines!(text, "min_slaves_good_slaves" => good,);
    }
    for (number, replica) in facts.replicas.iter().enumerate() {
        let ReplicaFacts { ip, port, state, offset, lag_s, .. } = replica;
        let _infallible = write!(text, "slave{number}:ip={ip},port={port},state={state},offset={offset},lag={lag_s}\r\n");
    }
    let (offset, backlog) = replication.place();
    let (first_byte, len) = backlog.unwrap_or_default();
    lines!(text,
        "master_failover_state" => facts.failover,
        "master_replid" => facts.id,
        "master_replid2" => facts.second_id,
        "master_repl_offset" => offset,
        "second_repl_offset" => facts.second_offset,
        "repl_backlog_active" => u8::from(backlog.is_some()),
        "repl_backlog_size" => f.config.repl_backlog_size,
        "repl_backlog_first_byte_offset" => first_byte,
        "repl_backlog_histlen" => len,
    );
}

/// What a replica says of its primary, and of itself.
fn following(f: &Figures, upstream: &Upstream, text: &mut String) {
    lines!(text,
        "master_host" => upstream.host,
        "master_port" => upstream.port,
        "master_link_status" => if upstream.is_up { "up" } else { "down" },
        "master_last_io_seconds_ago" => upstream.last_io_s,
        "master_sync_in_progress" => u8::from(upstream.transfer.is_some()),
        "slave_read_repl_offset" => upstream.read_offset,
        "slave_repl_offset" => upstream.applied_offset,
    );
    if let Some(TransferFacts { total_bytes, read_bytes, last_io_s }) = upstream.transfer {
        let total = total_bytes.max(0) as u64;
        let percent = if total > 0 { 100.0 * read_bytes as f64 / total as f64 } else { 0.0 };
        lines!(text,
            "master_sync_total_bytes" => total_bytes,
            "master_sync_read_bytes" => read_bytes,
            "master_sync_left_bytes" => if total > 0 { total as i64 - read_bytes as i64 } else { -1 },
            "master_sync_perc" => format!("{percent:.2}"),
            "master_sync_last_io_seconds_ago" => last_io_s,
        );
    }
    if let Some(seconds) = upstream.down_since_s {
        lines!(text, "master_link_down_since_seconds" => seconds,);
    }
    lines!(text,
        "slave_priority" => f.config.replica_priority,
        "slave_read_only" => u8::from(f.config.replica_read_only),
        "replica_announced" => u8::from(f.config.replica_announced),
    );
}

pub fn cpu(f: &Figures, text: &mut String) {
    let seconds = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let (all, children) = (CpuTime::of(libc::RUSAGE_SELF), CpuTime::of(libc::RUSAGE_CHILDREN));
    // The first core stands for Redis's main thread; the section about the cores has all of them.
    let first = f.cores.first().map(|core| core.cpu).unwrap_or_default();
    text.push_str("# CPU\r\n");
    lines!(text,
        "used_cpu_sys" => seconds(all.system),
        "used_cpu_user" => seconds(all.user),
        "used_cpu_sys_children" => seconds(children.system),
        "used_cpu_user_children" => seconds(children.user),
        "used_cpu_sys_main_thread" => seconds(first.system),
        "used_cpu_user_main_thread" => seconds(first.user),
    );
}

pub fn modules(_f: &Figures, text: &mut String) {
    text.push_str("# Modules\r\n");
}

pub fn cluster(f: &Figures, text: &mut String) {
    text.push_str("# Cluster\r\n");
    lines!(text, "cluster_enabled" => yes(f.config.cluster_enabled),);
}

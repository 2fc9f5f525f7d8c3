//! The sections about what the node has done and holds: stats, commands, errors, latencies, keyspace, cores.

use super::figures::Figures;
use super::lines;
use crate::core::counters::{CommandCounters, percentile};
use std::fmt::Write;

pub fn stats(f: &Figures, text: &mut String) {
    let (counters, stats) = (&f.counters, &f.stats);
    let [commands_per_second, input_per_second, output_per_second] = f.rates;
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let syncs = f.node.replication.facts().counts;
    text.push_str("# Stats\r\n");
    lines!(text,
        "total_connections_received" => counters.connections_received,
        "total_commands_processed" => counters.commands_processed,
        "instantaneous_ops_per_sec" => commands_per_second,
        "total_net_input_bytes" => counters.net_input_bytes,
        "total_net_output_bytes" => counters.net_output_bytes,
        "total_net_repl_input_bytes" => 0,
        "total_net_repl_output_bytes" => 0,
        "instantaneous_input_kbps" => kilobytes(input_per_second),
        "instantaneous_output_kbps" => kilobytes(output_per_second),
        "instantaneous_input_repl_kbps" => kilobytes(0),
        "instantaneous_output_repl_kbps" => kilobytes(0),
        "rejected_connections" => counters.rejected_connections,
        "sync_full" => syncs.sync_full,
        "sync_partial_ok" => syncs.sync_partial_ok,
        "sync_partial_err" => syncs.sync_partial_err,
        "expired_keys" => stats.expired_keys,
        "expired_stale_perc" => "0.00",
        "expired_time_cap_reached_count" => stats.expired_time_cap_reached,
        "expire_cycle_cpu_milliseconds" => 0,
        "evicted_keys" => stats.evicted_keys,
        "evicted_clients" => counters.evicted_clients,
        "total_eviction_exceeded_time" => 0,
        "current_eviction_exceeded_time" => 0,
        "keyspace_hits" => stats.keyspace_hits,
        "keyspace_misses" => stats.keyspace_misses,
        "pubsub_channels" => f.channels,
        "pubsub_patterns" => f.patterns,
        "pubsubshard_channels" => f.shard_channels,
        "latest_fork_usec" => 0,
        "total_forks" => 0,
        "migrate_cached_sockets" => 0,
        "slave_expires_tracked_keys" => 0,
        "active_defrag_hits" => 0,
        "active_defrag_misses" => 0,
        "active_defrag_key_hits" => 0,
        "active_defrag_key_misses" => 0,
        "total_active_defrag_time" => 0,
        "current_active_defrag_time" => 0,
        "tracking_total_keys" => 0,
        "tracking_total_items" => 0,
        "tracking_total_prefixes" => 0,
        "unexpected_error_replies" => 0,
        "total_error_replies" => counters.error_replies,
        "dump_payload_sanitizations" => 0,
        "total_reads_processed" => counters.reads_processed,
        "total_writes_processed" => counters.writes_processed,
        "io_threaded_reads_processed" => 0,
        "io_threaded_writes_processed" => 0,
        "reply_buffer_shrinks" => 0,
        "reply_buffer_expands" => 0,
    );
}

/// Commands with their counters, by full name.
fn commands(f: &Figures) -> impl Iterator<Item = (&'static str, &CommandCounters)> {
    f.node.registry.all().iter().map(|command| command.spec.name).zip(&f.counters.commands)
}

pub fn command_stats(f: &Figures, text: &mut String) {
    text.push_str("# Commandstats\r\n");
    for (name, counters) in commands(f) {
        let CommandCounters { calls, nanos, rejected, failed, .. } = *counters;
        if calls == 0 && rejected == 0 && failed == 0 {
            continue;
        }
        let micros = nanos / 1000;
        let per_call = if calls == 0 { 0.0 } else { nanos as f64 / 1000.0 / calls as f64 };
        // Writing to a string cannot fail, here and below.
        let _infallible = write!(
            text,
            "cmdstat_{name}:calls={calls},usec={micros},usec_per_call={per_call:.2},rejected_calls={rejected},failed_calls={failed}\r\n"
        );
    }
}

pub fn error_stats(f: &Figures, text: &mut String) {
    text.push_str("# Errorstats\r\n");
    let mut errors: Vec<_> = f.counters.errors.iter().collect();
    errors.sort_unstable();
    for (kind, count) in errors {
        let _infallible = write!(text, "errorstat_{}:count={count}\r\n", safe(kind));
    }
}

/// A word without what would break a line of INFO apart.
fn safe(word: &[u8]) -> String {
    String::from_utf8_lossy(word).replace(['#', ':', '\n', '\r'], "_")
}

pub fn latency_stats(f: &Figures, text: &mut String) {
    text.push_str("# Latencystats\r\n");
    if !f.config.latency_tracking {
        return;
    }
    let percentiles = &f.config.latency_tracking_info_percentiles.0;
    for (name, counters) in commands(f) {
        let Some(histogram) = &counters.histogram else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|&percent| format!("p{percent}={:.3}", percentile(histogram, percent) as f64 / 1000.0))
            .collect();
        let _infallible = write!(text, "latency_percentiles_usec_{name}:{}\r\n", shown.join(","));
    }
}

pub fn keyspace(f: &Figures, text: &mut String) {
    text.push_str("# Keyspace\r\n");
    for (db, &(keys, expires, ttl)) in f.databases.iter().enumerate().filter(|(_, database)| database.0 > 0) {
        let _infallible = write!(text, "db{db}:keys={keys},expires={expires},avg_ttl={ttl}\r\n");
    }
}

pub fn cores(f: &Figures, text: &mut String) {
    text.push_str("# Cores\r\n");
    for (id, core) in f.cores.iter().enumerate() {
        let counters = &core.counters;
        let _infallible = write!(
            text,
            "core{id}:keys={},connections={},blocked={},commands={},ops_per_sec={},hops={},net_in={},net_out={},\
             table_bytes={},clients_bytes={},cpu_sys_usec={},cpu_user_usec={}\r\n",
            core.keys(),
            core.clients.connected,
            core.clients.blocked,
            counters.commands_processed,
            core.rates[0],
            counters.hops,
            counters.net_input_bytes,
            counters.net_output_bytes,
            core.table_bytes,
            core.clients.memory,
            core.cpu.system,
            core.cpu.user,
        );
    }
}

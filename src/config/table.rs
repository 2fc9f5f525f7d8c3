//! The table of directives: every one redis-server 7.0.15 knows, and kvcore's own. A directive exists here and nowhere
//! else; `directive.rs` explains a row. The order is that of the families below.

use super::checks;
use super::directive::{Directive, Unit, directives, memory, number, optional_text, value, words};
use super::structures::*;
use super::values::*;

const I32_MAX: i128 = i32::MAX as i128;
const U32_MAX: i128 = u32::MAX as i128;
const I64_MAX: i128 = i64::MAX as i128;
const U64_MAX: i128 = u64::MAX as i128;
const MIB: i128 = 1 << 20;
/// More cores than any machine has; bounds the meshes between cores.
pub const CORES_MAX: usize = 1024;
pub const HZ_MIN: u32 = 1;
pub const HZ_MAX: u32 = 500;

const NO_FORK: &str = "kvcore never forks a child";
const NO_JEMALLOC: &str = "kvcore does not use jemalloc";
const CORES_INSTEAD: &str = "the number of threads is set by cores";
const ALWAYS_LAZY: &str = "large values are always freed in slices";
const FOR_TESTS: &str = "it serves the test-suite of redis-server";
const NO_REHASH: &str = "tables grow a page at a time and are never rehashed as a whole";
const STEADY_SYNC: &str = "files are always written and synced in small steps";
const PIN_BY_CORES: &str = "threads are pinned to the CPUs of the process's affinity mask, see cores and coordinator-cpu";

directives! {
    // The process and its place on the machine.
    cores: usize = 0, "cores", number(0, CORES_MAX as i128).immutable().own();
    coordinator_cpu: i32 = -1, "coordinator-cpu", number(-1, I32_MAX).immutable().own();
    io_uring_features: SwitchedOff = SwitchedOff::default(), "io-uring-features", words().immutable().own();
    daemonize: bool = false, "daemonize", value().immutable();
    supervised: Supervision = Supervision::No, "supervised", value().immutable();
    pidfile: Text = Text::default(), "pidfile", optional_text().immutable();
    dir: Directory = Directory::current(), "dir", value().protected().refused_while_loading();
    disable_thp: bool = true, "disable-thp", value().immutable();
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj", value();
    oom_score_adj_values: [i32; 3] = [0, 200, 800], "oom-score-adj-values", words();
    set_proc_title: bool = true, "set-proc-title", value().immutable().accepted("the process keeps its own title");
    proc_title_template: Text = Text::new("{title} {listen-addr} {server-mode}"), "proc-title-template",
        value().check(checks::title_template).accepted("the process keeps its own title");
    always_show_logo: bool = false, "always-show-logo", value().immutable().accepted("there is no logo");
    io_threads: u32 = 1, "io-threads", number(1, 128).immutable().accepted(CORES_INSTEAD);
    io_threads_do_reads: bool = false, "io-threads-do-reads", value().immutable().accepted(CORES_INSTEAD);
    server_cpulist: Text = Text::default(), "server_cpulist", optional_text().immutable().accepted(PIN_BY_CORES);
    bio_cpulist: Text = Text::default(), "bio_cpulist", optional_text().immutable().accepted(PIN_BY_CORES);
    aof_rewrite_cpulist: Text = Text::default(), "aof_rewrite_cpulist", optional_text().immutable().accepted(NO_FORK);
    bgsave_cpulist: Text = Text::default(), "bgsave_cpulist", optional_text().immutable().accepted(NO_FORK);
    ignore_warnings: Text = Text::default(), "ignore-warnings", value().accepted(NO_FORK);
    crash_log_enabled: bool = true, "crash-log-enabled", value().accepted("a crash is always reported");
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled", value().accepted("a crash tests no memory");
    shutdown_timeout: u32 = 10, "shutdown-timeout", number(0, I32_MAX);
    shutdown_on_sigint: ShutdownBySignal = ShutdownBySignal::default(), "shutdown-on-sigint", words();
    shutdown_on_sigterm: ShutdownBySignal = ShutdownBySignal::default(), "shutdown-on-sigterm", words();
    hz: u32 = 10, "hz", number(0, I32_MAX);
    dynamic_hz: bool = true, "dynamic-hz", value().accepted("background work adapts by itself");
    use_exit_on_panic: bool = false, "use-exit-on-panic", value().hidden().accepted(FOR_TESTS);
    watchdog_period: u32 = 0, "watchdog-period", number(0, I32_MAX).hidden().accepted(FOR_TESTS);

    // The log.
    loglevel: LogLevel = LogLevel::Notice, "loglevel", value();
    logfile: Text = Text::default(), "logfile", value().immutable();
    syslog_enabled: bool = false, "syslog-enabled", value().immutable();
    syslog_ident: Text = Text::new("redis"), "syslog-ident", value().immutable();
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility", value().immutable();
    slowlog_log_slower_than: i64 = 10_000, "slowlog-log-slower-than", number(-1, I64_MAX);
    slowlog_max_len: u64 = 128, "slowlog-max-len", number(0, I64_MAX);
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold", number(0, I64_MAX);
    latency_tracking: bool = true, "latency-tracking", value();
    latency_tracking_info_percentiles: Percentiles = Percentiles(vec![50.0, 99.0, 99.9]),
        "latency-tracking-info-percentiles", words();

    // Connections and the protocol.
    bind: Addresses = Addresses(vec!["*".into(), "-::*".into()]), "bind", words();
    bind_source_addr: Text = Text::default(), "bind-source-addr", optional_text();
    port: u16 = 6379, "port", number(0, 65535);
    unixsocket: Text = Text::default(), "unixsocket", optional_text().immutable();
    unixsocketperm: u32 = 0, "unixsocketperm", number(0, 0o777).unit(Unit::Octal).immutable();
    tcp_backlog: u32 = 511, "tcp-backlog", number(0, I32_MAX).immutable();
    tcp_keepalive: u32 = 300, "tcp-keepalive", number(0, I32_MAX);
    socket_mark_id: u32 = 0, "socket-mark-id", number(0, U32_MAX).immutable();
    timeout: u32 = 0, "timeout", number(0, I32_MAX);
    maxclients: u32 = 10_000, "maxclients", number(1, U32_MAX);
    protected_mode: bool = true, "protected-mode", value();
    proto_max_bulk_len: u64 = 512 << 20, "proto-max-bulk-len", memory(MIB, I64_MAX);
    client_query_buffer_limit: u64 = 1 << 30, "client-query-buffer-limit", memory(MIB, I64_MAX);
    client_output_buffer_limit: OutputLimits = OutputLimits::DEFAULT, "client-output-buffer-limit", words();
    maxmemory_clients: MemoryOrPercent = MemoryOrPercent::Bytes(0), "maxmemory-clients",
        memory(0, I64_MAX).unit(Unit::MemoryOrPercent);
    tracking_table_max_keys: u64 = 1_000_000, "tracking-table-max-keys", number(0, I64_MAX);
    notify_keyspace_events: KeyspaceEvents = KeyspaceEvents::default(), "notify-keyspace-events", value();

    // Who may do what.
    requirepass: Text = Text::default(), "requirepass", optional_text().sensitive();
    aclfile: Text = Text::default(), "aclfile", value().immutable();
    acllog_max_len: u64 = 128, "acllog-max-len", number(0, I64_MAX);
    acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::ResetChannels, "acl-pubsub-default", value();
    enable_protected_configs: ProtectedAction = ProtectedAction::No, "enable-protected-configs", value().immutable();
    enable_debug_command: ProtectedAction = ProtectedAction::No, "enable-debug-command", value().immutable();
    enable_module_command: ProtectedAction = ProtectedAction::No, "enable-module-command",
        value().immutable().accepted("kvcore loads no modules");

    // Databases, memory and the encodings of values.
    databases: u32 = 16, "databases", number(1, I32_MAX).immutable();
    maxmemory: u64 = 0, "maxmemory", memory(0, U64_MAX);
    maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction, "maxmemory-policy", value();
    maxmemory_samples: u32 = 5, "maxmemory-samples", number(1, I32_MAX);
    maxmemory_eviction_tenacity: u32 = 10, "maxmemory-eviction-tenacity", number(0, 100);
    lfu_log_factor: u32 = 10, "lfu-log-factor", number(0, I32_MAX);
    lfu_decay_time: u32 = 1, "lfu-decay-time", number(0, I32_MAX);
    active_expire_effort: u32 = 1, "active-expire-effort", number(1, 10);
    lazyfree_lazy_eviction: bool = false, "lazyfree-lazy-eviction", value().accepted(ALWAYS_LAZY);
    lazyfree_lazy_expire: bool = false, "lazyfree-lazy-expire", value().accepted(ALWAYS_LAZY);
    lazyfree_lazy_server_del: bool = false, "lazyfree-lazy-server-del", value().accepted(ALWAYS_LAZY);
    lazyfree_lazy_user_del: bool = false, "lazyfree-lazy-user-del", value().accepted(ALWAYS_LAZY);
    lazyfree_lazy_user_flush: bool = false, "lazyfree-lazy-user-flush", value().accepted(ALWAYS_LAZY);
    hash_max_listpack_entries: usize = 512, "hash-max-listpack-entries",
        number(0, I64_MAX).alias("hash-max-ziplist-entries");
    hash_max_listpack_value: usize = 64, "hash-max-listpack-value", memory(0, I64_MAX).alias("hash-max-ziplist-value");
    list_max_listpack_size: i32 = -2, "list-max-listpack-size",
        number(i32::MIN as i128, I32_MAX).alias("list-max-ziplist-size");
    list_compress_depth: u32 = 0, "list-compress-depth", number(0, I32_MAX).accepted("nodes of lists are not compressed");
    set_max_intset_entries: usize = 512, "set-max-intset-entries", number(0, I64_MAX);
    zset_max_listpack_entries: usize = 128, "zset-max-listpack-entries",
        number(0, I64_MAX).alias("zset-max-ziplist-entries");
    zset_max_listpack_value: usize = 64, "zset-max-listpack-value", memory(0, I64_MAX).alias("zset-max-ziplist-value");
    hll_sparse_max_bytes: usize = 3000, "hll-sparse-max-bytes", memory(0, I64_MAX);
    stream_node_max_bytes: usize = 4096, "stream-node-max-bytes", memory(0, I64_MAX);
    stream_node_max_entries: u64 = 100, "stream-node-max-entries", number(0, I64_MAX);
    activerehashing: bool = true, "activerehashing", value().accepted(NO_REHASH);
    activedefrag: bool = false, "activedefrag", value().check(checks::active_defrag).accepted(NO_JEMALLOC);
    active_defrag_ignore_bytes: u64 = 100 << 20, "active-defrag-ignore-bytes", memory(1, I64_MAX).accepted(NO_JEMALLOC);
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower", number(0, 1000).accepted(NO_JEMALLOC);
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper", number(0, 1000).accepted(NO_JEMALLOC);
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min", number(1, 99).accepted(NO_JEMALLOC);
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max", number(1, 99).accepted(NO_JEMALLOC);
    active_defrag_max_scan_fields: u64 = 1000, "active-defrag-max-scan-fields", number(1, I64_MAX).accepted(NO_JEMALLOC);
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread", value().accepted(NO_JEMALLOC);

    // Scripts and propagation.
    busy_reply_threshold: u64 = 5000, "busy-reply-threshold", number(0, I64_MAX).alias("lua-time-limit");
    propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore,
        "propagation-error-behavior", value();

    // Snapshots.
    save: Vec<SavePoint> = vec![
        SavePoint { seconds: 3600, changes: 1 },
        SavePoint { seconds: 300, changes: 100 },
        SavePoint { seconds: 60, changes: 10_000 },
    ], "save", words();
    dbfilename: Text = Text::new("dump.rdb"), "dbfilename", value().protected().check(checks::db_filename);
    rdbcompression: bool = true, "rdbcompression", value();
    rdbchecksum: bool = true, "rdbchecksum", value().immutable();
    rdb_del_sync_files: bool = false, "rdb-del-sync-files", value();
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync", value().accepted(STEADY_SYNC);
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error", value();
    sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, "sanitize-dump-payload",
        value().accepted("every payload is always checked");
    rdb_key_save_delay: i32 = 0, "rdb-key-save-delay", number(i32::MIN as i128, I32_MAX).hidden();
    key_load_delay: i32 = 0, "key-load-delay", number(i32::MIN as i128, I32_MAX).hidden();
    loading_process_events_interval_bytes: u32 = 2 << 20, "loading-process-events-interval-bytes",
        number(1024, I32_MAX).hidden().accepted(FOR_TESTS);

    // The append-only file.
    appendonly: bool = false, "appendonly", value().refused_while_loading();
    appendfilename: Text = Text::new("appendonly.aof"), "appendfilename", value().immutable().check(checks::append_filename);
    appenddirname: Text = Text::new("appendonlydir"), "appenddirname", value().immutable().check(checks::append_dirname);
    appendfsync: AppendFsync = AppendFsync::EverySec, "appendfsync", value();
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite", value().accepted(NO_FORK);
    auto_aof_rewrite_percentage: u32 = 100, "auto-aof-rewrite-percentage", number(0, I32_MAX);
    auto_aof_rewrite_min_size: u64 = 64 << 20, "auto-aof-rewrite-min-size", memory(0, I64_MAX);
    aof_load_truncated: bool = true, "aof-load-truncated", value();
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble", value();
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled", value();
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync", value().accepted(STEADY_SYNC);
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc", value();

    // Replication.
    replicaof: Option<PrimaryAddress> = None, "replicaof", words().alias("slaveof").immutable();
    masterauth: Text = Text::default(), "masterauth", optional_text().sensitive();
    masteruser: Text = Text::default(), "masteruser", optional_text().sensitive();
    replica_serve_stale_data: bool = true, "replica-serve-stale-data", value().alias("slave-serve-stale-data");
    replica_read_only: bool = true, "replica-read-only", value().alias("slave-read-only");
    replica_priority: u32 = 100, "replica-priority", number(0, I32_MAX).alias("slave-priority");
    replica_announced: bool = true, "replica-announced", value();
    replica_announce_ip: Text = Text::default(), "replica-announce-ip", optional_text().alias("slave-announce-ip");
    replica_announce_port: u16 = 0, "replica-announce-port", number(0, 65535).alias("slave-announce-port");
    replica_ignore_maxmemory: bool = true, "replica-ignore-maxmemory", value().alias("slave-ignore-maxmemory");
    replica_lazy_flush: bool = false, "replica-lazy-flush", value().alias("slave-lazy-flush").accepted(ALWAYS_LAZY);
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors", value();
    repl_backlog_size: u64 = 1 << 20, "repl-backlog-size", memory(1, I64_MAX);
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl", number(0, I64_MAX);
    repl_timeout: u32 = 60, "repl-timeout", number(1, I32_MAX);
    repl_ping_replica_period: u32 = 10, "repl-ping-replica-period", number(1, I32_MAX).alias("repl-ping-slave-period");
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay", value();
    repl_diskless_sync: bool = true, "repl-diskless-sync", value();
    repl_diskless_sync_delay: u32 = 5, "repl-diskless-sync-delay", number(0, I32_MAX);
    repl_diskless_sync_max_replicas: u32 = 0, "repl-diskless-sync-max-replicas", number(0, I32_MAX);
    repl_diskless_load: DisklessLoad = DisklessLoad::Disabled, "repl-diskless-load", value().refused_while_loading();
    min_replicas_to_write: u32 = 0, "min-replicas-to-write", number(0, I32_MAX).alias("min-slaves-to-write");
    min_replicas_max_lag: u32 = 10, "min-replicas-max-lag", number(0, I32_MAX).alias("min-slaves-max-lag");

    // Cluster.
    cluster_enabled: bool = false, "cluster-enabled", value().immutable();
    cluster_config_file: Text = Text::new("nodes.conf"), "cluster-config-file", value().immutable();
    cluster_node_timeout: u64 = 15_000, "cluster-node-timeout", number(0, I64_MAX);
    cluster_port: u16 = 0, "cluster-port", number(0, 65535).immutable();
    cluster_announce_ip: Text = Text::default(), "cluster-announce-ip", optional_text();
    cluster_announce_hostname: Text = Text::default(), "cluster-announce-hostname",
        optional_text().check(checks::host_name);
    cluster_announce_port: u16 = 0, "cluster-announce-port", number(0, 65535);
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port", number(0, 65535);
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port", number(0, 65535);
    cluster_preferred_endpoint_type: EndpointType = EndpointType::Ip, "cluster-preferred-endpoint-type", value();
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage", value();
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down", value();
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down", value();
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration", value();
    cluster_migration_barrier: u32 = 1, "cluster-migration-barrier", number(0, I32_MAX);
    cluster_replica_no_failover: bool = false, "cluster-replica-no-failover", value().alias("cluster-slave-no-failover");
    cluster_replica_validity_factor: u32 = 10, "cluster-replica-validity-factor",
        number(0, I32_MAX).alias("cluster-slave-validity-factor");
    cluster_link_sendbuf_limit: u64 = 0, "cluster-link-sendbuf-limit", memory(0, U64_MAX);

    // TLS.
    tls_port: u16 = 0, "tls-port", number(0, 65535);
    tls_cert_file: Text = Text::default(), "tls-cert-file", optional_text();
    tls_key_file: Text = Text::default(), "tls-key-file", optional_text();
    tls_key_file_pass: Text = Text::default(), "tls-key-file-pass", optional_text();
    tls_client_cert_file: Text = Text::default(), "tls-client-cert-file", optional_text();
    tls_client_key_file: Text = Text::default(), "tls-client-key-file", optional_text();
    tls_client_key_file_pass: Text = Text::default(), "tls-client-key-file-pass", optional_text();
    tls_dh_params_file: Text = Text::default(), "tls-dh-params-file", optional_text();
    tls_ca_cert_file: Text = Text::default(), "tls-ca-cert-file", optional_text();
    tls_ca_cert_dir: Text = Text::default(), "tls-ca-cert-dir", optional_text();
    tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, "tls-auth-clients", value();
    tls_replication: bool = false, "tls-replication", value();
    tls_cluster: bool = false, "tls-cluster", value();
    tls_protocols: Text = Text::default(), "tls-protocols", optional_text();
    tls_ciphers: Text = Text::default(), "tls-ciphers", optional_text();
    tls_ciphersuites: Text = Text::default(), "tls-ciphersuites", optional_text();
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers", value();
    tls_session_caching: bool = true, "tls-session-caching", value();
    tls_session_cache_size: u32 = 20_480, "tls-session-cache-size", number(0, I32_MAX);
    tls_session_cache_timeout: u32 = 300, "tls-session-cache-timeout", number(0, I32_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fields_are_named_after_them() {
        let mut seen = BTreeSet::new();
        for name in DIRECTIVES.iter().flat_map(Directive::names) {
            assert!(seen.insert(name.to_ascii_lowercase()), "{name} stands twice");
        }
        let fields = format!("{:#?}", Config::default());
        for directive in DIRECTIVES {
            let field = format!("\n    {}: ", directive.name.replace('-', "_"));
            assert!(fields.contains(&field), "{}", directive.name);
        }
    }

    #[test]
    fn bounds_fit_the_type_of_the_field() {
        for directive in DIRECTIVES.iter().filter(|directive| directive.spec.max != 0) {
            let mut config = Config::default();
            for bound in [directive.spec.min, directive.spec.max] {
                let word = match directive.spec.unit {
                    Unit::Octal => format!("{bound:o}"),
                    _ => bound.to_string(),
                };
                let assigned = directive.assign(&mut config, &[word.clone().into_bytes()]);
                assert_eq!(assigned, Ok(()), "{} {word}", directive.name);
                assert_eq!(directive.text(&config), word.into_bytes(), "{}", directive.name);
            }
        }
    }

    #[test]
    fn every_default_reads_back() {
        let config = Config::default();
        for directive in DIRECTIVES.iter().filter(|directive| directive.name != "replicaof") {
            let mut copy = config.clone();
            let text = directive.text(&config);
            let words: Vec<Vec<u8>> = match directive.spec.several_words {
                true => text.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect(),
                false => vec![text],
            };
            assert_eq!(directive.assign(&mut copy, &words), Ok(()), "{}", directive.name);
            assert_eq!(copy, config, "{}", directive.name);
        }
    }
}

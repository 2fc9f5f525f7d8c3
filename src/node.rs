//! Starting a node, and ending it.

use crate::commands::registry::{Registry, RenameError};
use crate::config::Config;
use crate::config::command_line::Launch;
use crate::config::load::LoadError;
use crate::coordinator::Coordinator;
use crate::coordinator::contract::{INBOX_MAX, Order, ToCore, ToCores};
use crate::coordinator::loading;
use crate::coordinator::status::Persistence;
use crate::core::counters::Counters;
use crate::core::feed::Feed;
use crate::core::log::Log;
use crate::core::pubsub::PubSub;
use crate::core::shared::{Node, Pause, PerCore, Relisten, Shutdown, log_level, shard_settings};
use crate::core::spare::SpareBuffers;
use crate::core::{Core, KeyspaceFacts};
use crate::dispatch::Engine;
use crate::dispatch::mesh::{Doorbell, Mesh, meshes};
use crate::observe::latency::LatencyMonitor;
use crate::observe::rates::Rates;
use crate::observe::slowlog::SlowLog;
use crate::observe::{clock, log, memory};
use crate::peers;
use crate::peers::contract::ToPeers;
use crate::peers::status::Replication;
use crate::reactor::disk::RingDisk;
use crate::reactor::listener::{self, ListenError, ListenOptions, Listener};
use crate::reactor::listening::Listening;
use crate::reactor::runtime::Runtime;
use crate::reactor::{Features, Ring, Wake};
use crate::system::process;
use crossbeam_channel::{Receiver, Sender};
use kvshard::Shard;
use kvshard::keyspace::KeyHasher;
use slab::Slab;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How often a port is tried that is taken, and how long in between.
const LISTEN_ATTEMPTS: u32 = 10;
const LISTEN_PAUSE: Duration = Duration::from_millis(50);

/// Runs a node until it is told to end.
pub fn serve(launch: Launch) -> ExitCode {
    match start(launch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            log::warning(&message);
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// One sentence for the user says what is missing.
fn start(launch: Launch) -> Result<(), String> {
    let Launch { config, config_file, cores, coordinator_cpu: _, notices, declared } = launch;
    std::env::set_current_dir(&config.dir.0).map_err(|error| format!("Can't chdir to '{}': {error}", config.dir.0.display()))?;
    let mut registry = Registry::new();
    for line in &declared.renamed_commands {
        let refusal = |error| match error {
            RenameError::NoSuchCommand => LoadError::at(&line.place, "No such command in rename-command"),
            RenameError::NameTaken => LoadError::at(&line.place, "Target command name already exists"),
        };
        registry.rename(&line.words[1], &line.words[2]).map_err(|error| refusal(error).to_string())?;
    }
    if config.daemonize {
        process::daemonize().map_err(|error| format!("Can't become a daemon: {error}"))?;
    }
    log::set_least(log_level(&config));
    log::open(config.logfile.path()).map_err(|error| format!("Can't open the log file: {error}"))?;
    log::warning("oO0OoO0OoO0Oo kvcore is starting oO0OoO0OoO0Oo");
    log::warning(&format!("kvcore version={}, bits=64, pid={}, just started", env!("CARGO_PKG_VERSION"), std::process::id()));
    notices.iter().for_each(|notice| log::warning(notice));
    let config = process::fit_limits(config, cores)?;
    if config.disable_thp {
        process::disable_huge_pages();
    }
    process::block_signals();
    let features = Features::probe(config.io_uring_features.names()).map_err(|error| error.to_string())?;
    for (feature, cost) in features.missing() {
        log::notice(&format!("The kernel has no {feature}: {cost}"));
    }
    let listening = Arc::new(Listening::new(config.port, listen(&config)?));
    let pidfile = write_pidfile(&config)?;
    let (to_coordinator, orders) = crossbeam_channel::unbounded();
    let (replication, to_peers) = Replication::new(peers::new_id(), &config);
    let node = Arc::new(new_node(config, config_file, cores, registry, to_coordinator, replication));
    let first = node.relisten.set(relisten(listening.clone()));
    assert!(first.is_ok(), "nobody else sets it");
    run_cores(&node, features, listening, orders, to_peers)?;
    if let Some(path) = pidfile {
        log::notice("Removing the pid file.");
        let _gone_already = std::fs::remove_file(path);
    }
    log::warning("kvcore is now ready to exit, bye bye...");
    Ok(())
}

fn listen_options(config: &Config) -> ListenOptions<'_> {
    ListenOptions {
        bind: &config.bind.0,
        port: config.port,
        backlog: config.tcp_backlog,
        unix_socket: (!config.unixsocket.is_empty()).then(|| config.unixsocket.path()),
        unix_socket_mode: config.unixsocketperm,
    }
}

fn listen(config: &Config) -> Result<Vec<Listener>, String> {
    if let Some(warning) = listener::backlog_warning(config.tcp_backlog) {
        log::warning(&warning);
    }
    // The kernel closes the sockets of a process that was killed only when its rings are gone: a node that is started again at once
    // meets them.
    let mut attempts = LISTEN_ATTEMPTS;
    loop {
        let mut warnings = Vec::new();
        let listening = listener::listen(&listen_options(config), &mut |warning| warnings.push(warning.to_owned()));
        attempts -= 1;
        if attempts > 0 && matches!(listening, Err(ListenError::Tcp(_))) {
            thread::sleep(LISTEN_PAUSE);
            continue;
        }
        warnings.iter().for_each(|warning| log::warning(warning));
        return listening.map_err(|error| error.to_string());
    }
}

/// What CONFIG SET of `port` and `bind` does.
fn relisten(listening: Arc<Listening>) -> Relisten {
    Box::new(move |config| {
        let replaced = listening.replace_tcp(&listen_options(config), &mut |warning| log::warning(warning));
        replaced.is_ok()
    })
}

fn write_pidfile(config: &Config) -> Result<Option<PathBuf>, String> {
    let path = match (config.pidfile.is_empty(), config.daemonize) {
        (false, _) => config.pidfile.path().to_owned(),
        (true, true) => PathBuf::from("/var/run/redis.pid"),
        (true, false) => return Ok(None),
    };
    // As Redis: a pid file that cannot be written is no reason not to run.
    match std::fs::write(&path, format!("{}\n", std::process::id())) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            log::warning(&format!("Failed to write PID file: {error}"));
            Ok(None)
        }
    }
}

fn new_node(
    config: Config,
    config_file: Option<PathBuf>,
    cores: usize,
    registry: Registry,
    to_coordinator: Sender<Order>,
    replication: Replication,
) -> Node {
    let now = clock::wall_ms() / 1000;
    Node {
        cores,
        registry,
        config: Mutex::new(Arc::new(config)),
        config_file,
        run_id: process::random_hex(40),
        started: Instant::now(),
        started_at: now,
        next_client_id: AtomicU64::new(1),
        next_ticket: AtomicU64::new(1),
        slowlog_next_id: AtomicU64::new(0),
        per_core: (0..cores).map(|_| PerCore::default()).collect(),
        monitors: AtomicUsize::new(0),
        pause: Pause::default(),
        shutdown: Shutdown::default(),
        persistence: Persistence::new(now),
        replication,
        to_coordinator,
        peak_memory: AtomicU64::new(0),
        startup_memory: AtomicU64::new(0),
        relisten: OnceLock::new(),
    }
}

/// What a core's thread waits for after it has made its ring.
struct Assignment {
    mesh: Mesh,
    listening: Option<Arc<Listening>>,
}

fn run_cores(
    node: &Arc<Node>,
    features: Features,
    listening: Arc<Listening>,
    orders: Receiver<Order>,
    to_peers: Receiver<ToPeers>,
) -> Result<(), String> {
    let seeds = process::random_words();
    let hasher = KeyHasher::new(seeds, node.cores as u16);
    let mut cpus = core_affinity::get_core_ids().unwrap_or_default();
    if node.cores >= cpus.len() {
        // With no CPU to spare, other processes' work would delay whichever core it meets: the scheduler is left to place them.
        cpus.clear();
    }
    let (wake_sender, wakes) = mpsc::channel::<(usize, Result<Wake, String>)>();
    let mut threads = Vec::new();
    let mut assignments = Vec::new();
    let mut inboxes = Vec::new();
    for id in 0..node.cores {
        let (assign, assigned) = mpsc::channel::<Assignment>();
        assignments.push(assign);
        let (node, hasher, wake_sender) = (node.clone(), hasher.clone(), wake_sender.clone());
        let cpu = cpus.get(id).copied();
        let (to_core, inbox) = crossbeam_channel::bounded(INBOX_MAX);
        inboxes.push(to_core);
        let body = move || -> Result<(), String> {
            if let Some(cpu) = cpu {
                core_affinity::set_for_current(cpu);
            }
            let ring = match Ring::new(&features) {
                Ok(ring) => ring,
                Err(error) => {
                    let _starter_gone = wake_sender.send((id, Err(error.to_string())));
                    return Ok(());
                }
            };
            let _starter_gone = wake_sender.send((id, Ok(ring.wake_handle())));
            drop(wake_sender);
            let Ok(Assignment { mesh, listening }) = assigned.recv() else { return Ok(()) };
            let engine = Engine::new(new_core(id, &node, hasher, seeds[0], inbox), mesh);
            let ran = Runtime::new(ring, engine, listening).run();
            node.shutdown.request();
            ran.map_err(|error| format!("core {id}: {error}"))
        };
        let thread = thread::Builder::new().name(format!("kvcore-{id}")).spawn(body).map_err(|error| error.to_string())?;
        threads.push(thread);
    }
    drop(wake_sender);
    let mut all: Vec<(usize, Wake)> = Vec::new();
    for (id, wake) in wakes.iter().take(node.cores) {
        all.push((id, wake?));
    }
    all.sort_by_key(|&(id, _)| id);
    let bells = Arc::new(all.into_iter().map(|(_, wake)| Doorbell::new(wake)).collect::<Vec<_>>());
    node.startup_memory.store(memory::used(), Ordering::Relaxed);
    if loading::is_expected(&node.current_config()) {
        node.persistence.close(false);
    }
    let mut listening = Some(listening);
    for (mesh, assign) in meshes(node.cores, bells.clone()).into_iter().zip(&assignments) {
        let listening = listening.take();
        assign.send(Assignment { mesh, listening }).map_err(|_| "a core ended before it began".to_owned())?;
    }
    log::notice(&format!("Server initialized: {} cores, {} commands", node.cores, node.registry.len()));
    let to_cores = |inboxes| {
        let to_ring = bells.clone();
        ToCores::new(inboxes, Box::new(move |core: usize| to_ring[core].ring_from_outside()))
    };
    let peers = {
        let (node, to_cores) = (node.clone(), to_cores(inboxes.clone()));
        let body = move || {
            let served = peers::run(node, to_peers, to_cores);
            // A node whose peers cannot be served goes on for its clients.
            served.unwrap_or_else(|message| log::warning(&message));
        };
        thread::Builder::new().name("kvcore-peers".into()).spawn(body).map_err(|error| error.to_string())?
    };
    let to_cores = to_cores(inboxes);
    let coordinator = Coordinator { node: node.clone(), orders, to_cores, aof: None };
    let coordinator = thread::Builder::new()
        .name("kvcore-coord".into())
        .spawn(move || -> Result<(), String> {
            let mut disk = RingDisk::new(&features).map_err(|error| format!("coordinator: {error}"))?;
            // While it loads nobody is served. Afterwards it must not delay those who serve.
            coordinator.run(&mut disk, process::yield_to_others)
        })
        .map_err(|error| error.to_string())?;
    let to_wake = bells.clone();
    process::watch_signals(node.clone(), move || to_wake.iter().for_each(Doorbell::ring_from_outside));
    let mut result = Ok(());
    for thread in threads {
        let ended = thread.join().unwrap_or_else(|_| Err("a core's thread panicked".to_owned()));
        bells.iter().for_each(Doorbell::ring_from_outside);
        result = result.and(ended);
    }
    node.persistence.give_up.store(true, Ordering::Relaxed);
    let _ended = node.to_coordinator.send(Order::Exit);
    node.replication.tell(ToPeers::Exit);
    result = result.and(peers.join().map_err(|_| "the thread for other nodes' connections panicked".to_owned()));
    result.and(coordinator.join().unwrap_or_else(|_| Err("the coordinator panicked".to_owned())))
}

fn new_core(id: usize, node: &Arc<Node>, hasher: KeyHasher, seed: u64, inbox: Receiver<ToCore>) -> Core {
    let config = node.current_config();
    let settings = shard_settings(&config);
    let databases = config.databases as usize;
    let new_shard = |salt: u64| Box::new(Shard::new(hasher.clone(), databases, settings.clone(), seed.wrapping_add(salt)));
    let mut core = Core {
        id,
        node: node.clone(),
        config: config.clone(),
        connections: Slab::new(),
        by_client: hashbrown::HashMap::new(),
        shard: Some(new_shard(2 * id as u64)),
        scratch: new_shard(2 * id as u64 + 1),
        pubsub: PubSub::default(),
        monitors: Vec::new(),
        counters: Counters::new(node.registry.all().len()),
        slowlog: SlowLog::default(),
        latency: LatencyMonitor::default(),
        now: clock::wall_ms(),
        spare_output: SpareBuffers::default(),
        to_flush: Vec::new(),
        to_close: Vec::new(),
        to_receive: Vec::new(),
        to_hush: Vec::new(),
        to_resume: Vec::new(),
        to_unblock: Vec::new(),
        lent_facts: KeyspaceFacts::default(),
        reset_on_return: false,
        rates: Rates::new(clock::wall_ms()),
        log: Log::default(),
        feed: Feed::default(),
        inbox,
        to_save: Vec::new(),
        to_rewrite: false,
        loading: false,
        is_replica: false,
    };
    core.apply_config(config);
    core
}

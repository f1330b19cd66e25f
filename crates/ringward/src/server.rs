//! Puts a process together: load, sockets, workers, admin listener, control plane. `run` and `demo` both do it here.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringward_config::{Config, Diagnostic, Diagnostics, IoDriver, Location, Severity};
use ringward_proxy::{Control, Driver, DriverMode, ListenSocket, Phase};
use ringward_telemetry::{
    BuildInfo, ClosedSets, ControlMetrics, Exporter, Limits, LogStats, LogThread, RecordSender, Registry,
};
use ringward_tls::HandshakeReason;
use rustix::process::{Resource, Rlimit};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::admin::Admin;
use crate::admin_socket::AdminSocket;
use crate::control::{ControlPlane, Heirlooms, Services, Signals};
use crate::discovery::Finder;
use crate::failure::{EXIT_SUCCESS, Failure};
use crate::health::Health;
use crate::load::{self, Gathered, Loaded};
use crate::memory::MemoryWatch;
use crate::publish::{self, Publisher};
use crate::reload::{self, Reloader, Reloads};
use crate::service_manager::{Inherited, ServiceManager};
use crate::sockets::{self, ListenError, Opened, Wanted};
use crate::trust::network::Network;
use crate::trust::operations::Operator;
use crate::trust::{self, TrustKeeper};
use crate::upgrade::{self, BequeathedAdminSocket, Bequest, OperatorsEstate, Predecessor, Upgrades, Verdict};
use crate::upstream_health::HealthChecker;
use crate::watch::{Interests, Watch};
use crate::workers::{self, Workers};
use crate::{logs, version};

/// A process that serves, and waits to be looked after by [`Server::serve`].
pub(crate) struct Server {
    control: Arc<Control>,
    workers: Workers,
    reloader: Reloader,
    publisher: Arc<Publisher>,
    trust: Arc<TrustKeeper>,
    network: Network,
    registry: Registry,
    metrics: Arc<ControlMetrics>,
    log: LogThread,
    log_stats: Arc<LogStats>,
    admin: Option<TcpListener>,
    operators: Option<AdminSocket>,
    watched: Interests,
    stop: Arc<Notify>,
    manager: ServiceManager,
    heirlooms: Heirlooms,
    /// A predecessor goes on instead of it.
    withdrawn: bool,
    runtime: Runtime,
    signals: Signals,
    /// What was taken.
    pub(crate) outline: Outline,
}

/// What a started process has taken.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    /// Addresses by listener name, with the ports that were taken.
    pub(crate) listeners: Vec<(String, SocketAddr)>,
    /// Address of the admin listener.
    pub(crate) admin: Option<SocketAddr>,
    /// How many workers.
    pub(crate) workers: usize,
    /// What they run on.
    pub(crate) driver: Driver,
}

impl Server {
    /// As [`Server::start`], on sockets that the service manager has opened, if it has.
    ///
    /// # Errors
    /// As those of [`Server::start`], and if such a socket is of no use.
    pub(crate) fn start_as_service(path: &Path) -> Result<Server, Failure> {
        upgrade::remember_program();
        let mut inherited = Inherited::from_env().map_err(|error| Failure::Usage(error.to_string()))?;
        let mut bequest = Bequest::of_the_dead(inherited.take_kept());
        if !bequest.is_empty() {
            // What of it is not used any more has to be closed everywhere, or its address is not free.
            ServiceManager::from_env().take_back();
        }
        let mut server = Server::start(path, inherited, &mut bequest)?;
        server.manager = ServiceManager::from_env();
        server.set_backlogs();
        Ok(server)
    }

    /// As [`Server::start`], with what the process hands over that has started this one. It serves together with that one when this
    /// returns, and alone soon after, or it goes again.
    ///
    /// # Errors
    /// As those of [`Server::start`], and if nothing is handed over.
    pub(crate) fn start_as_successor(path: &Path) -> Result<Server, Failure> {
        upgrade::remember_program();
        let met = Predecessor::meet().map_err(|error| Failure::Usage(error.to_string()))?;
        let (predecessor, mut bequest) = met;
        let started = Server::start(path, Inherited::default(), &mut bequest);
        let mut server = started.inspect_err(|failure| predecessor.report_refusal(&failure.to_string()))?;
        match predecessor.report_ready(&bequest) {
            Verdict::Stay => {
                server.manager = ServiceManager::from_env();
                server.operators.iter_mut().for_each(AdminSocket::own);
                server.set_backlogs();
                if let Some(Err(error)) = server.trust.state_dir().map(|state| state.note_holder()) {
                    tracing::warn!(%error, "the state directory names the former process as its holder");
                }
            }
            Verdict::Withdraw => server.withdraw(),
        }
        Ok(server)
    }

    /// Sockets that others have opened may have longer or shorter queues than the configuration says. Not to be changed as long as
    /// another process serves by them.
    fn set_backlogs(&self) {
        let Ok(sockets) = self.workers.listening() else { return };
        let listeners = &self.reloader.config().listeners;
        for (name, taken) in sockets.iter().filter(|(_, taken)| !taken.shared) {
            if let Some(listener) = listeners.iter().find(|listener| listener.name == *name) {
                // If not even that can be done, they are as long as they were.
                let _ = rustix::net::listen(&taken.socket, backlog(listener));
            }
        }
    }

    /// Serves what it has accepted so far, and nothing more.
    fn withdraw(&mut self) {
        self.withdrawn = true;
        self.control.hand_over(self.outline.listeners.iter().map(|(_, address)| *address).collect());
        self.stop.notify_one();
    }

    /// Loads the configuration and starts everything, with what others have opened: the service manager, or a predecessor.
    ///
    /// # Errors
    /// What is wrong with the configuration or the files that it names, a port in use, a socket that no listener wants, or no
    /// workers.
    pub(crate) fn start(path: &Path, inherited: Inherited, bequest: &mut Bequest) -> Result<Server, Failure> {
        // First of all: until then a signal that asks for a reload ends the process.
        let (runtime, mut signals) = control_runtime()?;
        refuse_huge_pages();
        collect_entropy();
        let gathered = load::gather(path).map_err(Failure::Configuration)?;
        let watched = Interests::of(&gathered.watched());
        let (trust, loaded) = load(gathered, bequest).map_err(Failure::Configuration)?;
        let config: &Config = &loaded.config;
        let registry = Registry::new(words(), Limits::default());
        let (version, state) = trust.current();
        let snapshot = publish::build(&loaded, &state, &trust, FIRST_GENERATION, &registry);
        let snapshot = snapshot.map_err(Failure::Configuration)?;
        let workers = workers::count(config.server.workers);
        raise_descriptor_limit(config);
        let Sockets { admin, operators, listeners } =
            open_sockets(config, workers, inherited, bequest).map_err(Failure::Configuration)?;
        bequest.drop_the_rest();
        let log_stats = Arc::new(LogStats::default());
        let (queues, log) = start_log(config, workers, &registry, &log_stats)?;

        let control = Control::new(snapshot, workers);
        let metrics = Arc::new(ControlMetrics::default());
        let publisher = Publisher::new(
            control.clone(),
            registry.clone(),
            metrics.clone(),
            trust.clone(),
            loaded.clone(),
            version,
        );
        let publisher = Arc::new(publisher);
        let network = runtime.block_on(async {
            tokio::select! {
                network = connect(&control, &metrics, &publisher, &loaded) => network,
                () = signals.stop() => Err(Failure::Reported(EXIT_SUCCESS)),
            }
        })?;
        let driver = driver_mode(config.server.io);
        let mut outline = Outline {
            listeners: listeners.iter().map(|(name, opened)| (name.clone(), opened.address)).collect(),
            admin: admin.as_ref().map(|admin| admin.address),
            workers,
            driver: Driver::Epoll,
        };
        let sockets = per_worker(listeners, workers)
            .map_err(|error| Failure::Runtime(format!("cannot give each worker its sockets: {error}")))?;
        let started = Workers::start(control.clone(), registry.clone(), driver, sockets, queues);
        let (workers, driver) = started.map_err(|error| {
            control.advance(Phase::Stopped);
            Failure::Runtime(error.to_string())
        })?;
        outline.driver = driver;
        let preparation = network.preparation();
        let reloader =
            Reloader::new(path, control.clone(), publisher.clone(), preparation, metrics.clone(), loaded);
        let admin = admin.and_then(|mut admin| admin.sockets.pop());
        let stop = Arc::new(Notify::new());
        let heirlooms = heirlooms(path, admin.as_ref(), operators.as_ref(), trust.clone());
        let heirlooms = heirlooms.map_err(|error| {
            control.advance(Phase::Stopped);
            Failure::Runtime(format!("no descriptors left: {error}"))
        })?;
        Ok(Server {
            control,
            workers,
            reloader,
            publisher,
            trust,
            network,
            registry,
            metrics,
            log,
            log_stats,
            admin,
            operators,
            watched,
            stop,
            manager: ServiceManager::default(),
            heirlooms,
            withdrawn: false,
            runtime,
            signals,
            outline,
        })
    }

    /// Ends [`Server::serve`] when notified, as a signal would.
    pub(crate) fn stop_handle(&self) -> Arc<Notify> {
        self.stop.clone()
    }

    /// Serves until the process is told to stop and all workers have ended.
    ///
    /// # Errors
    /// If something broke that cannot be repaired.
    pub(crate) fn serve(self) -> Result<(), Failure> {
        let build = BuildInfo { version: version::VERSION, revision: version::REVISION };
        let news = Arc::new(Notify::new());
        let checker = HealthChecker::new(self.reloader.upstreams(), news.clone(), self.metrics.clone());
        let (plans, finder_metrics) = (self.reloader.upstreams(), self.metrics.clone());
        let metrics = self.metrics.clone();
        let exporter = Arc::new(Exporter::new(self.registry, self.metrics, self.log_stats, build));
        let health = Health::new(self.control.clone(), exporter.clone(), self.outline.workers);
        let result = self.runtime.block_on(async {
            let mut services = Services::default();
            let reloads = Reloads::new();
            if let Some(socket) = self.admin.filter(|_| !self.withdrawn) {
                let admin = Admin::new(socket, exporter, health)
                    .map_err(|error| Failure::Runtime(format!("cannot serve the admin listener: {error}")))?;
                services.start_of_the_serving("admin listener", admin.serve());
            }
            services.start("publisher", self.publisher.clone().follow());
            services.start("sampling of the session cache", self.publisher.clone().sample());
            self.network.start(&mut services);
            services.start("health checks", checker.run());
            services.start("discovery of endpoints", Finder::new(plans, news, finder_metrics).run());
            services
                .start_of_the_serving("clock of the ticket keys", trust::keys::keep_time(self.trust.clone()));
            let upgrades = Upgrades::new();
            if let Some(socket) = self.operators.filter(|_| !self.withdrawn) {
                let path = socket.path().to_owned();
                let operations = Operator::new(
                    self.control.clone(),
                    self.publisher.clone(),
                    self.trust.clone(),
                    reloads.asking(),
                    upgrades.asking(),
                );
                tracing::info!(path = %path.display(), "admin socket listening");
                services.start("admin socket", async move {
                    match socket.serve(Arc::new(operations)).await {
                        Err(error) => error,
                    }
                });
            }
            let watch = Watch::new();
            watch.set(self.watched.clone(), &self.watched);
            announce(&self.outline);
            let plane = ControlPlane {
                control: self.control,
                workers: self.workers,
                reloader: self.reloader,
                reloads,
                upgrades,
                heirlooms: self.heirlooms,
                manager: self.manager,
                memory: MemoryWatch::new(metrics.clone()),
                metrics,
                services,
                watch,
                signals: self.signals,
                stop: self.stop,
            };
            plane.run().await
        });
        // A reload under way is of no use any more.
        self.runtime.shutdown_background();
        if !self.log.stop(LOG_GRACE) {
            tracing::warn!("access records were lost: their output did not take them in time");
        }
        tracing::info!("stopped");
        result
    }
}

fn control_runtime() -> Result<(Runtime, Signals), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Runtime(format!("cannot start the control plane: {error}")))?;
    let signals = {
        let _within = runtime.enter();
        Signals::new()?
    };
    Ok((runtime, signals))
}

/// Takes back what the process remembers, and makes what a snapshot needs.
fn load(gathered: Gathered, bequest: &mut Bequest) -> Result<(Arc<TrustKeeper>, Arc<Loaded>), Diagnostics> {
    // Before anything is served: what was refused before the last end is refused again from the first connection on.
    let remembered = trust::remembered(gathered.config(), bequest)?;
    let loaded = gathered.build(None, &remembered.floors().current()).map_err(|refused| refused.problems)?;
    // Not sooner: it takes random numbers, which are being collected.
    let trust = remembered.keeper(&loaded.config);
    logs::init(loaded.config.log.level);
    if let Err(error) = trust.floors().raise(loaded.all_lists()) {
        tracing::error!(%error, "the numbers of revocation lists cannot be remembered");
    }
    Ok((trust, Arc::new(loaded)))
}

/// Gets what has to be fetched before the first client comes, as far as that is to be had, and puts it in force.
async fn connect(
    control: &Control,
    metrics: &Arc<ControlMetrics>,
    publisher: &Publisher,
    loaded: &Loaded,
) -> Result<Network, Failure> {
    let mut network = Network::new(publisher.trust().clone(), metrics, control.sightings().clone());
    let (prepared, ()) = tokio::join!(network.before_serving(loaded), loaded.upstreams.prepare());
    if let Err(problems) = prepared {
        // Nothing better is in force, and other hosts have clients, too.
        tracing::error!(problems = reload::brief(&problems), "a certificate serves without what it demands");
    }
    let (version, _) = publisher.trust().current();
    publisher.publish(version).await.map_err(Failure::Configuration)?;
    Ok(network)
}

/// Copies of what a successor gets beside the sockets of the workers.
fn heirlooms(
    config: &Path,
    admin: Option<&TcpListener>,
    operators: Option<&AdminSocket>,
    trust: Arc<TrustKeeper>,
) -> io::Result<Heirlooms> {
    let admin = admin.map(TcpListener::try_clone).transpose()?;
    let operators = operators.map(|operators| {
        let (socket, lock) = operators.copies()?;
        let copies = OperatorsEstate { path: operators.path().to_owned(), socket, lock };
        io::Result::Ok((copies, operators.retirement()))
    });
    Ok(Heirlooms { config: config.to_owned(), admin, operators: operators.transpose()?, trust })
}

fn announce(outline: &Outline) {
    let Outline { listeners, admin, workers, driver } = outline;
    for (listener, address) in listeners {
        tracing::info!(listener, %address, "listening");
    }
    if let Some(address) = admin {
        tracing::info!(%address, "admin listening");
    }
    tracing::info!(version = version::VERSION, workers, driver = driver.as_str(), "ready");
}

/// The words of closed sets that other crates own.
pub(crate) fn words() -> ClosedSets {
    // Once per process, and needed until its end.
    let handshake_reasons =
        HandshakeReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().leak();
    ClosedSets {
        handshake_reasons,
        response_flags: ringward_proxy::FLAGS,
        upstream_errors: ringward_proxy::UPSTREAM_FLAGS,
        resumption_declines: &["unknown_session", "incompatible_session", "no_auth_time"],
    }
}

/// All listening sockets of a process.
struct Sockets {
    admin: Option<Opened>,
    operators: Option<AdminSocket>,
    /// With the name of their listener.
    listeners: Vec<(String, Opened)>,
}

/// Takes as many descriptors as we may: the usual soft limit of 1024 is there for programs that use `select`, and each
/// connection needs one here and one upstream.
fn raise_descriptor_limit(config: &Config) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
    let wanted = descriptors_wanted(config);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        tracing::warn!(allowed, wanted, "the limit on open files is below what `connections_max` may need");
    }
    reserve_descriptors(allowed);
}

/// Descriptors that a configuration may need: one downstream and one upstream for each connection.
pub(crate) fn descriptors_wanted(config: &Config) -> u64 {
    let connections: usize = config.listeners.iter().map(|listener| listener.limits.connections_max).sum();
    DESCRIPTORS_PER_CONNECTION * connections as u64
}

/// Makes room for the descriptors of the future. Whoever opens one for which the kernel's table has no room waits until all CPUs
/// have seen a larger table, about ten milliseconds, and so do all whom that worker serves.
fn reserve_descriptors(allowed: Option<u64>) {
    let last = allowed.unwrap_or(u64::MAX).min(DESCRIPTORS_RESERVED_MAX).saturating_sub(1);
    let Ok(last) = i32::try_from(last) else { return };
    // The table stays when the descriptor is closed. Without it some will wait, which is nothing worse.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), last);
}

/// It takes 20 ms once in a process, the first who needs random numbers waits for it, and files can be read meanwhile.
fn collect_entropy() {
    // Without a thread, whoever is the first does it.
    let _ = thread::Builder::new().name("entropy".to_owned()).spawn(ringward_tls::seed_random);
}

/// Memory comes in pages of 4 KiB. Of the buffers that each connection has, some of them not of our making (28 KiB in the `h2`
/// crate), an idle one has touched little more than the first pages; in huge pages all of them would be resident.
fn refuse_huge_pages() {
    // A kernel without huge pages has none to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Opens all listening sockets; all that cannot be opened are reported together.
fn open_sockets(
    config: &Config,
    workers: usize,
    mut inherited: Inherited,
    bequest: &mut Bequest,
) -> Result<Sockets, Diagnostics> {
    let mut problems = Diagnostics::new();
    let all: Vec<SocketAddr> =
        config.listeners.iter().flat_map(|listener| &listener.bind).map(|bind| bind.addr).collect();
    bequest.keep_bound_to(&all);
    let mut failed = |error: &ListenError, at: &Location| {
        let diagnostic = config.diagnostic(Severity::Error, at, error.to_string());
        problems.push(diagnostic.with_help(error.help()));
    };
    let admin = config.admin.metrics.as_ref().and_then(|bind| {
        if let Some((address, socket)) = bequest.take_admin(bind.addr) {
            return Some(Opened { address, sockets: vec![socket], shared: false });
        }
        let wanted = Wanted { address: bind.addr, backlog: ADMIN_BACKLOG };
        sockets::open(wanted, 1, &all).inspect_err(|error| failed(error, &bind.at)).ok()
    });
    let mut opened = Vec::new();
    // By name first: what is meant for one listener may be bound to the address of another.
    let named: Vec<_> =
        config.listeners.iter().map(|listener| inherited.take_named(&listener.name)).collect();
    for (listener, named) in config.listeners.iter().zip(named) {
        let mut open = |taken: Opened| {
            if taken.shared {
                let (address, sockets) = (taken.address, taken.sockets.len());
                tracing::info!(listener = listener.name, %address, sockets, "listening on what the service manager has opened");
            }
            opened.push((listener.name.clone(), taken));
        };
        let backlog = backlog(listener);
        let managed = bequest.take_managed(&listener.name);
        let is_named = !named.is_empty() || !managed.is_empty();
        named.into_iter().for_each(|sockets| open(sockets.into()));
        managed.into_iter().for_each(|sockets| open(Opened::handed_over(sockets, true)));
        for bind in &listener.bind {
            if let Some((address, sockets)) = bequest.take_bound(&listener.name, bind.addr) {
                if let Err(error) = sockets::check_families(&sockets[0], bind.addr, &all) {
                    failed(&error, &bind.at);
                }
                open(Opened::handed_over((address, sockets), false));
                continue;
            }
            // What the service manager has opened for this listener takes the place of all that it would open.
            if is_named {
                continue;
            }
            match inherited.take_bound(bind.addr) {
                Some(sockets) => open(sockets.into()),
                None => match sockets::open(Wanted { address: bind.addr, backlog }, workers, &all) {
                    Ok(sockets) => open(sockets),
                    Err(error) => failed(&error, &bind.at),
                },
            }
        }
    }
    problems.extend(inherited.left().map(|(what, address)| {
        let message = format!("no listener wants {what} on {address}, which the service manager has opened");
        let help = "give the socket unit the `name` of a listener (`FileDescriptorName=`), or a listener its address \
                    as `bind`";
        Diagnostic::whole_file(config.file(), message, Some(help.to_owned()))
    }));
    let operators = config.admin.socket.as_ref().and_then(|named| {
        if let Some(BequeathedAdminSocket { path, socket, lock }) = bequest.take_operators(&named.path) {
            return Some(AdminSocket::adopt(&path, socket, lock));
        }
        let bound = AdminSocket::bind(&named.path);
        bound
            .map_err(|error| problems.push(config.diagnostic(Severity::Error, &named.at, error.to_string())))
            .ok()
    });
    if problems.is_empty() { Ok(Sockets { admin, operators, listeners: opened }) } else { Err(problems) }
}

fn backlog(listener: &ringward_config::Listener) -> i32 {
    i32::try_from(listener.backlog).unwrap_or(i32::MAX)
}

/// The sockets of one worker, by listener name.
type WorkerSockets = Vec<(String, Vec<ListenSocket>)>;

/// From sockets by address to sockets by worker.
fn per_worker(opened: Vec<(String, Opened)>, workers: usize) -> io::Result<Vec<WorkerSockets>> {
    let mut all: Vec<WorkerSockets> = (0..workers).map(|_| Vec::new()).collect();
    for (name, opened) in opened {
        for (worker, more) in all.iter_mut().zip(opened.per_worker(workers)?) {
            match worker.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sockets)) => sockets.extend(more),
                None => worker.push((name.clone(), more)),
            }
        }
    }
    Ok(all)
}

fn start_log(
    config: &Config,
    workers: usize,
    registry: &Registry,
    stats: &Arc<LogStats>,
) -> Result<(Vec<RecordSender>, LogThread), Failure> {
    let output = logs::open_access(&config.log.access).map_err(|error| Failure::Usage(error.to_string()))?;
    let (senders, receivers) = workers::queues(workers, config.log.queue_records);
    let log = logs::start_writer(output, receivers, registry.clone(), stats.clone());
    Ok((senders, log.map_err(|error| Failure::Runtime(format!("cannot start the log writer: {error}")))?))
}

/// The driver that the configuration wants.
pub(crate) fn driver_mode(driver: IoDriver) -> DriverMode {
    match driver {
        IoDriver::Auto => DriverMode::Auto,
        IoDriver::IoUring => DriverMode::IoUring,
        IoDriver::Epoll => DriverMode::Epoll,
    }
}

const FIRST_GENERATION: u64 = 1;
/// Downstream and upstream.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// A table of so many takes half a megabyte.
const DESCRIPTORS_RESERVED_MAX: u64 = 1 << 16;
const ADMIN_BACKLOG: i32 = 64;
/// Time for the last access records when the process ends.
const LOG_GRACE: Duration = Duration::from_secs(5);

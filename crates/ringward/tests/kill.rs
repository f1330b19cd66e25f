//! SIGKILL at any moment: the next start serves from what is on disk, and nobody gets in who was refused before.
//!
//! Round by round something is being written (revocation lists and their numbers by reloads, the deny list by commands, the ring of
//! ticket keys, copies of what is fetched at the start), and the writer is killed in the middle of it. What has been said to be done
//! must hold after that; what was under way may have happened or not, but is never found half done: then the program would not start.
//! The times until the first answer are printed.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever asks for them")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringward_testkit::{
    Authority, Crl, DEADLINE, Issued, Leaf, OcspDatabase, Pki, Process, Responder, Script, Upstream,
    eventually,
};

use self::support::{Gateway, HOST, Host, ringward};

/// What is being done when the end comes.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Lists are replaced, each revoking one client more, and put in force.
    Reload,
    /// Clients are put on the deny list.
    Deny,
    /// The keys of tickets are rotated by a command, which is killed, too.
    Rotate,
    /// The program starts without copies of what it fetches.
    Start,
}

/// A gateway that is killed again and again, and what is known of it.
struct Victim {
    gateway: Gateway,
    random: fastrand::Rng,
    ring: PathBuf,
    /// Of the list in the file.
    number: u64,
    /// Whom lists and the deny list refuse since that was in force.
    refused: Vec<Issued>,
    /// Whom a list refuses that was written and may not have been in force.
    listed: Vec<Issued>,
    /// Whom the list admits that is fetched, and whom it refuses.
    fetched: [Issued; 2],
    lists: Upstream,
    _responder: Responder,
    /// How long the last start took.
    took: Duration,
}

#[test]
fn whatever_moment_it_is_killed_at_the_next_start_serves_and_forgets_no_refusal() {
    let mut victim = Victim::new();
    for round in 0..ROUNDS {
        for work in [Work::Reload, Work::Deny, Work::Rotate, Work::Start] {
            let before = victim.refused.len();
            victim.killed_during(work);
            victim.start_again();
            let (took, more) = (victim.took, victim.refused.len() - before);
            println!(
                "round {round}: killed during {work:?}, {more} more refused, served again after {took:?}"
            );
            victim.check();
        }
    }
    victim.forgets_no_number();
}

impl Victim {
    fn new() -> Victim {
        let root = Authority::root("Test Root");
        let issuing = root.intermediate("Issuing");
        let lists = Upstream::start();
        let [admitted, revoked] = ["admitted", "revoked"].map(|name| issuing.issue(&Leaf::client(name)));
        let list = issuing.sign_crl(&Crl::new().number(7).revoke(revoked.serial()));
        lists.on(
            "/issuing.crl",
            Script::new().respond_bytes(200, &[("content-type", "application/pkix-crl")], &list),
        );
        let builder = Gateway::builder().signed_by(&root).stateful().workers(2);
        let database = OcspDatabase::new(builder.pki(), "server", &issuing);
        let responder = database.serve();
        let server = issuing.issue(&Leaf::server(HOST).ocsp_url(&responder.url()));
        database.good(&server);
        builder.pki().write_pem("server", &server);
        builder.pki().write_authorities("issuing.pem", &[&issuing]);
        write_list(builder.pki(), &root, 1, &[]);
        let ring = builder.pki().path().join("tickets.ring");
        assert!(ringward().args(["keys", "new", "--file"]).arg(&ring).output().unwrap().status.success());
        let gateway = builder
            .section("[keys]\nfile = \"tickets.ring\"")
            .trust_key("crl = [\"crl/\"]")
            .trust_key(&format!("crl_urls = [\"http://{}/issuing.crl\"]", lists.address()))
            .trust_key("crl_issuers = [\"issuing.pem\"]")
            .host(
                Host::new(&[HOST])
                    .certificate("{ chain = \"server.pem\", key = \"server.key\", staple = \"fetch\" }"),
            )
            .start();
        Victim {
            gateway,
            random: fastrand::Rng::with_seed(SEED),
            ring,
            number: 1,
            refused: Vec::new(),
            listed: Vec::new(),
            fetched: [admitted, revoked],
            lists,
            _responder: responder,
            took: Duration::from_millis(500),
        }
    }

    /// Begins some work and kills the program at a random moment of it.
    fn killed_during(&mut self, work: Work) {
        let within = if matches!(work, Work::Start) { self.took } else { WORK_MAX };
        let moment = within.mul_f64(self.random.f64());
        let config = self.gateway.pki.path().join("ringward.toml");
        let Gateway { process, pki, root, .. } = &mut self.gateway;
        if matches!(work, Work::Start) {
            process.kill();
            forget_copies(pki);
            let mut next = Process::start(ringward().arg("run").arg("-c").arg(&config));
            // No synchronisation: any moment is as good as any other.
            thread::sleep(moment);
            next.kill();
            return;
        }
        let over = AtomicBool::new(false);
        let mut random = self.random.fork();
        let (refused, listed, number) = (&mut self.refused, &mut self.listed, &mut self.number);
        let ring = &self.ring;
        thread::scope(|scope| {
            let config = config.as_path();
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    match work {
                        Work::Reload => {
                            *number += 1;
                            listed.push(root.issue(&Leaf::client(&format!("listed-{number}"))));
                            let all: Vec<&Issued> = refused.iter().chain(&*listed).collect();
                            write_list(pki, root, *number, &all);
                            let reload = ringward().arg("reload").arg("-c").arg(config).output().unwrap();
                            if reload.status.success() {
                                refused.append(listed);
                            }
                        }
                        Work::Deny => {
                            let name = format!("denied-{}.example.com", random.u64(..));
                            let denied = root.issue(&Leaf::client("denied").dns(&name));
                            let revoke = ["revoke", "--identity", &name, "--reason", "test", "-c"];
                            if ringward().args(revoke).arg(config).output().unwrap().status.success() {
                                refused.push(denied);
                            }
                        }
                        Work::Rotate => {
                            let rotate =
                                Process::start(ringward().args(["keys", "rotate", "--file"]).arg(ring));
                            thread::sleep(Duration::from_millis(random.u64(..40)));
                            drop(rotate);
                        }
                        Work::Start => unreachable!("it was done above"),
                    }
                }
            });
            thread::sleep(moment);
            process.kill();
            over.store(true, Ordering::SeqCst);
        });
    }

    fn start_again(&mut self) {
        let began = Instant::now();
        self.gateway.kill_and_start_again();
        self.gateway.assert_serves();
        self.took = began.elapsed();
        // The file is whole, so this start has read it.
        self.refused.append(&mut self.listed);
    }

    /// Who was refused is, who is trusted is not, and nothing was found damaged.
    fn check(&self) {
        let [admitted, revoked] = &self.fetched;
        eventually(DEADLINE, "the list is fetched, or its copy read", || self.admits(admitted));
        assert!(!self.admits(revoked), "revoked by the list that is fetched");
        for refused in self.refused.iter().rev().take(CHECKED_EACH_TIME) {
            assert!(!self.admits(refused), "{:?} gets in again", refused.serial());
        }
        let stderr = self.gateway.process.stderr();
        assert!(!stderr.contains("ERROR") && !stderr.contains("damaged"), "{stderr}");
        let ring = ringward().args(["keys", "show", "--file"]).arg(&self.ring).output().unwrap();
        assert!(ring.status.success(), "{ring:?}");
    }

    /// After all that, copies serve while nobody answers, and a list with an older number is still refused.
    fn forgets_no_number(&mut self) {
        self.lists.on("/issuing.crl", Script::new().respond(503, &[], ""));
        self.start_again();
        self.check();
        assert!(self.refused.iter().all(|refused| !self.admits(refused)));
        let before = self.number - 1;
        let said =
            self.gateway.refused_change(|gateway| write_list(&gateway.pki, &gateway.root, before, &[]));
        assert!(said["problems"].as_str().unwrap().contains("older"), "{said}");
        // Drafts of what was not finished do not pile up.
        let files: Vec<_> = fs::read_dir(self.gateway.pki.path().join("state")).unwrap().flatten().collect();
        assert!(files.len() < 12, "{files:?}");
    }

    fn admits(&self, identity: &Issued) -> bool {
        let client = self.gateway.client().identity(identity);
        client.connect(self.gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
    }
}

fn write_list(pki: &Pki, root: &Authority, number: u64, revoked: &[&Issued]) {
    let list = revoked.iter().fold(Crl::new().number(number), |list, issued| list.revoke(issued.serial()));
    pki.write("crl/root.crl", root.sign_crl(&list));
}

/// What is fetched, as if it never had been.
fn forget_copies(pki: &Pki) {
    for entry in fs::read_dir(pki.path().join("state")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !REFUSALS.contains(&name.as_str()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Files of the state directory that are no copies.
const REFUSALS: [&str; 3] = ["deny-list", "crl-floors", "lock"];
/// Of each kind of work.
const ROUNDS: usize = 4;
/// Time for some commands, each of which is a process.
const WORK_MAX: Duration = Duration::from_millis(600);
const SEED: u64 = 0x6b69_6c6c;
/// All of them at the end.
const CHECKED_EACH_TIME: usize = 12;

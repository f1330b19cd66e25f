//! Makes a fleet: authorities first, then class after class, on all cores and with as many identities in memory as a batch has.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;

use rcgen::{ExtendedKeyUsagePurpose, SanType, SerialNumber};
use rustls::pki_types::DnsName;
use time::format_description::well_known::Rfc3339;

use super::authority::{Authority, Subject, Times};
use super::{Class, Files, FleetError, FleetPlan, KeyType};

/// Makes a fleet in `dir`, which is new or empty.
///
/// # Errors
/// If the plan cannot be carried out, before anything is written; if there is something in `dir`; if the file system refuses, in which case
/// there is no `fleet.toml`.
pub(crate) fn make(plan: &FleetPlan, dir: &Path) -> Result<(), FleetError> {
    plan.check()?;
    let server_names = server_names(plan)?;
    begin(dir)?;
    let files = Files::of(dir);
    let times = Times::now(plan.valid_days);

    let gateway = Authority::new("Load Gateway", &times)?;
    let subject = Subject {
        common_name: "Load Gateway".to_owned(),
        organization: None,
        alternative_names: server_names,
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    };
    let server = gateway.issue(subject, KeyType::P256, times.of(Class::Valid))?;
    write(&files.server_chain, &(server.certificate + &gateway.issuing_pem), CERTIFICATE_MODE)?;
    write(&files.server_key, &server.key, KEY_MODE)?;
    write(&files.server_ca, &gateway.root_pem(), CERTIFICATE_MODE)?;

    let maker = Maker {
        plan,
        times,
        trusted: (1..=plan.authorities)
            .map(|number| Authority::new(&format!("Load Clients {number}"), &times))
            .collect::<Result<_, _>>()?,
        stranger: Authority::new("Load Strangers", &times)?,
    };
    let roots: String = maker.trusted.iter().map(Authority::root_pem).collect();
    write(&files.client_ca, &roots, CERTIFICATE_MODE)?;
    let issuers: String = maker.trusted.iter().map(|authority| authority.issuing_pem.as_str()).collect();
    write(&files.client_issuers, &issuers, CERTIFICATE_MODE)?;
    let mut revoked = vec![Vec::new(); maker.trusted.len()];
    for (class, numbers) in plan.classes() {
        let serials = maker.write_class(class, numbers.clone(), &files.class(class))?;
        for (number, serial) in numbers.zip(serials) {
            revoked[maker.authority(number)].push(serial);
        }
    }
    let mut lists = String::new();
    for (authority, leaves) in maker.trusted.iter().zip(revoked) {
        lists += &authority.revocation_lists(leaves, &times)?;
    }
    write(&files.client_crl, &lists, CERTIFICATE_MODE)?;
    write(&files.summary, &summary(plan, &times), CERTIFICATE_MODE)
}

/// What identities are made of.
struct Maker<'p> {
    plan: &'p FleetPlan,
    times: Times,
    trusted: Vec<Authority>,
    stranger: Authority,
}

impl Maker<'_> {
    /// Writes the identities with these numbers, and returns the serials that are to be revoked.
    fn write_class(
        &self,
        class: Class,
        numbers: Range<u32>,
        path: &Path,
    ) -> Result<Vec<SerialNumber>, FleetError> {
        let failed = |reason| FleetError::Write { path: path.to_owned(), reason };
        let mut file = BufWriter::new(create(path, KEY_MODE).map_err(failed)?);
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX));
        let mut serials = Vec::new();
        for batch in pieces(numbers, BATCH * threads) {
            let made = thread::scope(|scope| {
                let workers: Vec<_> = pieces(batch, BATCH)
                    .map(|piece| scope.spawn(move || self.identities(class, piece)))
                    .collect();
                let ended = |worker: thread::ScopedJoinHandle<'_, _>| {
                    worker.join().expect("nothing panics where certificates are made")
                };
                workers.into_iter().map(ended).collect::<Result<Vec<_>, _>>()
            })?;
            for (pem, more) in made {
                file.write_all(pem.as_bytes()).map_err(failed)?;
                serials.extend(more);
            }
        }
        file.flush().map_err(failed)?;
        Ok(serials)
    }

    fn identities(
        &self,
        class: Class,
        numbers: Range<u32>,
    ) -> Result<(String, Vec<SerialNumber>), FleetError> {
        let (mut pem, mut serials) = (String::new(), Vec::new());
        for number in numbers {
            let authority = match class {
                Class::WrongCa => &self.stranger,
                _ => &self.trusted[self.authority(number)],
            };
            let subject = self.subject(class, number)?;
            let issued = authority.issue(subject, self.plan.key_type, self.times.of(class))?;
            for part in [&issued.key, &issued.certificate, &authority.issuing_pem] {
                pem += part;
            }
            if class == Class::Revoked {
                serials.push(issued.serial);
            }
        }
        Ok((pem, serials))
    }

    /// The index of the authority that an identity is from.
    fn authority(&self, number: u32) -> usize {
        number as usize % self.trusted.len()
    }

    fn subject(&self, class: Class, number: u32) -> Result<Subject, FleetError> {
        let common_name = name(number);
        let tenant = format!("tenant-{:02}", number % self.plan.tenants);
        let uri = format!("spiffe://{TRUST_DOMAIN}/{tenant}/{common_name}");
        let uri = uri
            .try_into()
            .map_err(|reason| FleetError::Certificate { subject: common_name.clone(), reason })?;
        Ok(Subject {
            common_name,
            organization: Some(tenant),
            alternative_names: vec![SanType::URI(uri)],
            usage: match class {
                Class::NoClientAuth => ExtendedKeyUsagePurpose::ServerAuth,
                _ => ExtendedKeyUsagePurpose::ClientAuth,
            },
        })
    }
}

fn name(number: u32) -> String {
    format!("client-{number:06}")
}

fn pieces(numbers: Range<u32>, size: usize) -> impl Iterator<Item = Range<u32>> {
    let end = numbers.end;
    numbers.step_by(size).map(move |begin| begin..end.min(begin.saturating_add(size as u32)))
}

/// The names of the gateway, as its certificate has them.
fn server_names(plan: &FleetPlan) -> Result<Vec<SanType>, FleetError> {
    let mut names = Vec::new();
    for text in &plan.server_names {
        let refused = || FleetError::ServerName(text.clone());
        let name = match text.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                DnsName::try_from(text.strip_prefix("*.").unwrap_or(text)).map_err(|_| refused())?;
                SanType::DnsName(text.as_str().try_into().map_err(|_| refused())?)
            }
        };
        names.push(name);
    }
    let loopback = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if !names.contains(&loopback) {
        names.push(loopback);
    }
    Ok(names)
}

/// Makes the directories. Those above `dir` are not ours to be strict with.
fn begin(dir: &Path) -> Result<(), FleetError> {
    let failed = |reason| FleetError::Write { path: dir.to_owned(), reason };
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).map_err(failed)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_dir(dir).map_err(failed)?.next().is_some() {
                return Err(FleetError::NotEmpty(dir.to_owned()));
            }
            fs::set_permissions(dir, Permissions::from_mode(DIRECTORY_MODE)).map_err(failed)?;
        }
        made => made.map_err(failed)?,
    }
    DirBuilder::new().mode(DIRECTORY_MODE).create(Files::of(dir).clients).map_err(failed)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), FleetError> {
    let written = create(path, mode).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|reason| FleetError::Write { path: path.to_owned(), reason })
}

/// The mode is set when the file is made, so that a key is at no moment readable by others.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// TOML that says what there is.
fn summary(plan: &FleetPlan, times: &Times) -> String {
    let written = |time: time::OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    let (_, not_after) = times.of(Class::Valid);
    // A host name and an address have nothing in them that TOML would read otherwise.
    let names: Vec<_> = plan.server_names.iter().map(|name| format!("\"{name}\"")).collect();
    let key_type = match plan.key_type {
        KeyType::P256 => "p256",
        KeyType::Rsa2048 => "rsa2048",
        KeyType::Ed25519 => "ed25519",
    };
    let mut text = format!(
        "# Made by ringward-load {}; for people to read.\n\
         made = {}\nnot_after = {}\nserver_names = [{}]\nkey_type = \"{key_type}\"\nauthorities = {}\ntenants = {}\n",
        env!("CARGO_PKG_VERSION"),
        written(times.now),
        written(not_after),
        names.join(", "),
        plan.authorities,
        plan.tenants,
    );
    for (class, numbers) in plan.classes() {
        let (not_before, not_after) = times.of(class);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[class.{class}]\ncount = {}\nfirst = \"{}\"\nlast = \"{}\"\nnot_before = {}\nnot_after = {}\nright = {}\n",
            numbers.len(),
            name(numbers.start),
            name(numbers.end - 1),
            written(not_before),
            written(not_after),
            class.is_right(),
        );
    }
    text
}

/// For SPIFFE IDs. RFC 6761 §6.2: `test` is nobody's.
const TRUST_DOMAIN: &str = "fleet.test";
/// How many identities a thread makes at a time: with P-256 some milliseconds, and 200 KB.
const BATCH: usize = 128;
/// What is in memory is this many batches at the most.
const THREADS_MAX: usize = 64;
const DIRECTORY_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

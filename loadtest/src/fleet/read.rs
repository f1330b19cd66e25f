//! Reads fleets back: one made by `ringward-load pki`, or files of the same form that somebody else has made. Whether keys are those of
//! their certificates is seen when they are used (`configs`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{Class, Files, FleetError, IDENTITIES_MAX, Identity};

/// Reads one class.
///
/// # Errors
/// If `dir` is no whole fleet, or there is none of it; else which file, and which identity in it, is the problem.
pub(crate) fn identities(dir: &Path, class: Class) -> Result<Vec<Identity>, FleetError> {
    let files = Files::of(dir);
    if !files.summary.exists() {
        return Err(FleetError::Unfinished(dir.to_owned()));
    }
    let path = files.class(class);
    let none = || FleetError::NoneOfClass { dir: dir.to_owned(), class };
    let file = File::open(&path).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound => none(),
        _ => FleetError::Read { path: path.clone(), reason },
    })?;
    let identities = Reader { path, read: 0 }.identities(BufReader::new(file))?;
    if identities.is_empty() { Err(none()) } else { Ok(identities) }
}

/// Where a file has been read to.
struct Reader {
    path: PathBuf,
    /// Identities that began so far.
    read: usize,
}

impl Reader {
    fn identities(mut self, mut file: impl BufRead) -> Result<Vec<Identity>, FleetError> {
        let mut identities = Vec::new();
        let mut current: Option<(PrivateKeyDer<'static>, Vec<CertificateDer<'static>>)> = None;
        while let Some((kind, der)) = self.section(&mut file)? {
            let key = match kind {
                SectionKind::Certificate => {
                    let chain = current.as_mut().map(|(_, chain)| chain);
                    let chain =
                        chain.ok_or_else(|| self.malformed("a certificate is where its key should be"))?;
                    if chain.len() == CHAIN_MAX {
                        return Err(self.malformed("there are more than ten certificates"));
                    }
                    chain.push(der.into());
                    continue;
                }
                SectionKind::PrivateKey => PrivateKeyDer::Pkcs8(der.into()),
                SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
                SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
                _ => return Err(self.malformed("there is something that is neither key nor certificate")),
            };
            if let Some((key, chain)) = current.replace((key, Vec::new())) {
                identities.push(self.identity(self.read - 1, key, chain)?);
            }
        }
        if let Some((key, chain)) = current {
            identities.push(self.identity(self.read, key, chain)?);
        }
        Ok(identities)
    }

    /// The next section. Whether it begins an identity is known from its label, so that what cannot be decoded is counted as well.
    fn section(&mut self, file: &mut impl BufRead) -> Result<Option<(SectionKind, Vec<u8>)>, FleetError> {
        let mut text = Vec::new();
        loop {
            let begin = text.len();
            let left = (SECTION_BYTES_MAX - begin) as u64;
            let read = file.by_ref().take(left).read_until(b'\n', &mut text);
            let read = read.map_err(|reason| FleetError::Read { path: self.path.clone(), reason })?;
            let line = &text[begin..];
            if line.starts_with(b"-----BEGIN ") && contains(line, b"PRIVATE KEY-----") {
                if self.read == IDENTITIES_MAX as usize {
                    return Err(self.malformed("there are more than a million: leave out some"));
                }
                self.read += 1;
            }
            if text.len() == SECTION_BYTES_MAX {
                return Err(self.malformed("a section is longer than 64 KiB"));
            }
            if read == 0 || line.starts_with(b"-----END ") {
                break;
            }
        }
        pem::from_buf(&mut &*text).map_err(|reason| FleetError::Pem {
            file: self.path.clone(),
            identity: self.read.max(1),
            reason,
        })
    }

    fn identity(
        &self,
        number: usize,
        key: PrivateKeyDer<'static>,
        mut chain: Vec<CertificateDer<'static>>,
    ) -> Result<Identity, FleetError> {
        let malformed = |reason| FleetError::Malformed { file: self.path.clone(), identity: number, reason };
        let leaf = chain.first().ok_or_else(|| malformed("there is a key and no certificate"))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| malformed("the first certificate cannot be read"))?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.ok_or_else(|| malformed("the first certificate has no common name"))?.to_owned();
        chain.shrink_to_fit();
        Ok(Identity { name, chain, key })
    }

    fn malformed(&self, reason: &'static str) -> FleetError {
        FleetError::Malformed { file: self.path.clone(), identity: self.read.max(1), reason }
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// A large RSA key has 13 KiB, a certificate rarely more than 4.
const SECTION_BYTES_MAX: usize = 64 << 10;
/// More than any gateway follows.
const CHAIN_MAX: usize = 10;

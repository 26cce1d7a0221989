//! Certificates from files and folders.
//!
//! What goes in: paths and the time. What comes out: a [`Store`], with notices about what will soon be wrong, or every
//! mistake that was found, each with its file and advice. It owns chains and keys. Always true: what is in a store is
//! valid now, its chain holds together, and its key matches.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::pem::Pem;
use super::{chain, pem, provider};

/// What a certificate's file may end with in a folder.
const CERTIFICATE_ENDINGS: [&str; 4] = ["pem", "crt", "cer", "cert"];
/// Files that one thread reads before it is worth starting another.
const FILES_PER_THREAD_MIN: usize = 64;

/// A mistake in a certificate file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertError {
    /// The file; empty when the mistake is not in a file.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub advice: String,
}

impl CertError {
    pub(super) fn new(file: &Path, what: &str, advice: &str) -> Self {
        Self { file: file.to_owned(), what: what.to_owned(), advice: advice.to_owned() }
    }

    pub(super) fn general(what: &str, advice: &str) -> Self {
        Self::new(Path::new(""), what, advice)
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}: ", self.file.display())?;
        }
        f.write_str(&self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, " ({})", self.advice) }
    }
}

impl std::error::Error for CertError {}

/// Something about a certificate file that works, but should be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The file.
    pub file: PathBuf,
    /// What should be known.
    pub what: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

/// A chain with its key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) key: Arc<CertifiedKey>,
    file: PathBuf,
    subject: String,
    issuer: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// What there is to say about one certificate of a [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file it came from.
    pub file: PathBuf,
    /// Host names (`*.` for wildcards) and addresses.
    pub names: Vec<String>,
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// Who issued it, as RFC 4514 writes it.
    pub issuer: String,
    /// Since when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Whole days until then.
    pub days_left: i64,
    /// The kind of key: `RSA`, `ECDSA` or `ED25519`.
    pub key: String,
    /// Certificates in the chain, this one included.
    pub chain_len: usize,
}

/// Certificates with their keys, in the order of the configuration; the first one is the default.
#[derive(Debug, Default)]
pub struct Store {
    certificates: Vec<Certificate>,
}

impl Store {
    /// Reads files and folders.
    ///
    /// A file holds a certificate and its chain, and its key in the same file or beside it (`x.key`, `x.pem.key`, or
    /// `privkey.pem` beside `fullchain.pem`). Of a folder, every such file is read, and those of its folders too.
    /// Every mistake in every file is named.
    pub fn load(paths: &[PathBuf], now: SystemTime) -> Result<(Self, Vec<Notice>), Vec<CertError>> {
        let mut errors = Vec::new();
        let mut files = Vec::new();
        for path in paths {
            match list(path) {
                Ok(listed) => files.extend(listed),
                Err(error) => errors.push(error),
            }
        }
        let mut store = Self::default();
        let mut notices = Vec::new();
        for loaded in load_all(&files, now) {
            match loaded {
                Ok((certificate, told)) => {
                    store.certificates.extend(certificate);
                    notices.extend(told);
                }
                Err(error) => errors.push(error),
            }
        }
        if store.certificates.is_empty() && errors.is_empty() {
            let file = paths.first().map_or(Path::new(""), |path| path);
            let advice = "name a PEM file with a certificate and its key, or a folder with such files";
            errors.push(CertError::new(file, "no certificate found", advice));
        }
        if errors.is_empty() { Ok((store, notices)) } else { Err(errors) }
    }

    /// A store of one chain and key given as PEM text.
    pub fn from_pem(pem: &str, now: SystemTime) -> Result<Self, CertError> {
        let file = Path::new("");
        let certificate = certificate(file, pem::parse(file, pem.as_bytes())?, now, &mut Vec::new())?;
        Ok(Self { certificates: vec![certificate] })
    }

    /// What there is to say about each certificate.
    pub fn describe(&self, now: SystemTime) -> Vec<Description> {
        let describe = |certificate: &Certificate| Description {
            file: certificate.file.clone(),
            names: certificate.names.clone(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            days_left: chain::seconds_between(now, certificate.not_after).div_euclid(24 * 3600),
            key: format!("{:?}", certificate.key.key.algorithm()),
            chain_len: certificate.key.cert.len(),
        };
        self.certificates.iter().map(describe).collect()
    }

    /// The first certificate many times, under other names.
    #[cfg(test)]
    pub(super) fn repeated(&self, count: usize, name: impl Fn(usize) -> String) -> Self {
        let first = &self.certificates[0];
        let certificate = |at| Certificate {
            names: vec![name(at)],
            key: Arc::clone(&first.key),
            file: first.file.clone(),
            subject: first.subject.clone(),
            issuer: first.issuer.clone(),
            not_before: first.not_before,
            not_after: first.not_after,
        };
        Self { certificates: (0..count).map(certificate).collect() }
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// A chain and key to show to servers; names of hosts do not matter in it.
pub(super) fn identity(
    file: &Path,
    key_file: Option<&Path>,
    now: SystemTime,
) -> Result<CertifiedKey, CertError> {
    let mut pem = pem::read(file)?;
    match key_file {
        Some(key_file) => pem.key = Some(key_of(key_file)?),
        None if pem.key.is_none() => find_key(file, &mut pem, &mut Vec::new())?,
        None => {}
    }
    chain::check(file, &pem.certificates, now, &mut Vec::new())?;
    certified(file, pem)
}

/// The certificate files that a path stands for.
fn list(path: &Path) -> Result<Vec<PathBuf>, CertError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for entry in entries(path)? {
        if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
    }
    let mut files = certificate_files(files);
    for folder in folders {
        files.extend(certificate_files(entries(&folder)?));
    }
    Ok(files)
}

/// What is in a folder, in order of name, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CertError> {
    let unreadable = |error: std::io::Error| {
        CertError::new(
            folder,
            &format!("cannot be read: {error}"),
            "let the user that starts ringgate read it",
        )
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            entries.push(path);
        }
    }
    entries.sort();
    Ok(entries)
}

/// The files of a folder that may hold certificates of hosts.
fn certificate_files(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let named = |name: &str| files.iter().any(|file| file.file_name().is_some_and(|found| found == name));
    if named("fullchain.pem") && named("privkey.pem") {
        // A folder of Let's Encrypt: its other files repeat parts of these two.
        return files.into_iter().filter(|file| file.ends_with("fullchain.pem")).collect();
    }
    let is_certificate = |file: &PathBuf| {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        file.is_file() && CERTIFICATE_ENDINGS.contains(&ending)
    };
    files.into_iter().filter(is_certificate).collect()
}

type Loaded = Result<(Option<Certificate>, Vec<Notice>), CertError>;

/// Reads many files, on several threads when there are very many.
fn load_all(files: &[PathBuf], now: SystemTime) -> Vec<Loaded> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let per_thread = files.len().div_ceil(threads).max(FILES_PER_THREAD_MIN);
    let load = move |file: &PathBuf| load_file(file, now);
    std::thread::scope(|scope| {
        let mut parts = files.chunks(per_thread);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(load).collect::<Vec<_>>())).collect();
        let mut loaded: Vec<Loaded> = first.iter().map(load).collect();
        for other in others {
            match other.join() {
                Ok(part) => loaded.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        loaded
    })
}

/// One file: its certificate, or nothing when it holds only a key or only authorities.
fn load_file(file: &Path, now: SystemTime) -> Loaded {
    let mut notices = Vec::new();
    let mut pem = pem::read(file)?;
    if pem.certificates.is_empty()
        && pem.key.is_some()
        && file.extension().is_some_and(|ending| ending == "pem")
    {
        // The key of another file, such as privkey.pem; that file finds it, or says that it has none.
        return match partner_of_key(file) {
            true => Ok((None, notices)),
            false => Err(CertError::new(
                file,
                "a key, but no certificate in it",
                "put the certificate in front of it",
            )),
        };
    }
    if pem.key.is_some() {
        tell_if_exposed(file, &mut notices);
    } else if !pem.certificates.is_empty() {
        find_key(file, &mut pem, &mut notices)?;
        if pem.key.is_none() && pem.certificates.iter().all(chain::is_authority) {
            let what = "holds only certificates of authorities and is not used".to_owned();
            return Ok((None, vec![Notice { file: file.to_owned(), what }]));
        }
    }
    let certificate = certificate(file, pem, now, &mut notices)?;
    Ok((Some(certificate), notices))
}

fn certificate(
    file: &Path,
    pem: Pem,
    now: SystemTime,
    notices: &mut Vec<Notice>,
) -> Result<Certificate, CertError> {
    let leaf = chain::check(file, &pem.certificates, now, notices)?;
    if leaf.names.is_empty() {
        return Err(CertError::new(
            file,
            "the certificate names no host",
            "have it issued with the host names as subject alternative names",
        ));
    }
    let key = Arc::new(certified(file, pem)?);
    Ok(Certificate {
        names: leaf.names,
        key,
        file: file.to_owned(),
        subject: leaf.subject,
        issuer: leaf.issuer,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    })
}

/// Joins a chain with its key, if they match.
fn certified(file: &Path, pem: Pem) -> Result<CertifiedKey, CertError> {
    let Some(key) = pem.key else {
        return Err(CertError::new(
            file,
            "no key for this certificate",
            "put the key into the same file, or into a file of the same name that ends with .key",
        ));
    };
    let provider = provider();
    let Ok(key) = provider.key_provider.load_private_key(key) else {
        let advice = "use an ECDSA (P-256, P-384), RSA (2048 bits or more) or Ed25519 key";
        return Err(CertError::new(file, "the key cannot be used", advice));
    };
    let mut certified = CertifiedKey::new(pem.certificates, key);
    if certified.keys_match().is_ok() {
        return Ok(certified);
    }
    let matches = |at: usize| {
        let one = CertifiedKey::new(vec![certified.cert[at].clone()], Arc::clone(&certified.key));
        one.keys_match().is_ok()
    };
    let (what, advice) = if (1..certified.cert.len()).any(matches) {
        (
            "the key belongs to another certificate of the chain",
            "put the host's certificate first, its issuers behind it",
        )
    } else {
        ("the key does not match the certificate", "use the key that the certificate was requested with")
    };
    certified.cert.clear();
    Err(CertError::new(file, what, advice))
}

/// Where the key of a certificate file may be, besides the file itself.
pub fn key_files(file: &Path) -> [PathBuf; 3] {
    let mut behind = file.as_os_str().to_owned();
    behind.push(".key");
    [file.with_extension("key"), PathBuf::from(behind), file.with_file_name("privkey.pem")]
}

fn find_key(file: &Path, pem: &mut Pem, notices: &mut Vec<Notice>) -> Result<(), CertError> {
    let [stem, behind, beside] = key_files(file);
    let candidates =
        if file.ends_with("fullchain.pem") { vec![stem, behind, beside] } else { vec![stem, behind] };
    if let Some(key_file) = candidates.iter().find(|candidate| *candidate != file && candidate.exists()) {
        pem.key = Some(key_of(key_file)?);
        tell_if_exposed(key_file, notices);
    }
    Ok(())
}

fn key_of(file: &Path) -> Result<rustls::pki_types::PrivateKeyDer<'static>, CertError> {
    pem::read(file)?
        .key
        .ok_or_else(|| CertError::new(file, "no key in it", "name a PEM file with a private key"))
}

/// True when a key file belongs to a certificate file of the same folder.
fn partner_of_key(file: &Path) -> bool {
    file.ends_with("privkey.pem") && file.with_file_name("fullchain.pem").exists()
}

fn tell_if_exposed(file: &Path, notices: &mut Vec<Notice>) {
    let readable_by_all = std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    if readable_by_all {
        let what = "every user of this machine can read the key; chmod 600 hides it".to_owned();
        notices.push(Notice { file: file.to_owned(), what });
    }
}

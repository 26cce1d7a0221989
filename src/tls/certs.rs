//! Certificates (stub).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Certificates by name.
#[derive(Debug)]
pub struct Store {
    files: Vec<PathBuf>,
}

/// Something that will be wrong.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Where.
    pub file: PathBuf,
    /// What.
    pub what: String,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file it came from.
    pub file: PathBuf,
    /// Host names (`*.` for wildcards) and addresses.
    pub names: Vec<String>,
    /// Whole days until it ends.
    pub days_left: i64,
    /// The kind of key.
    pub key: String,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct CertError {
    /// Where.
    pub file: PathBuf,
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Store {
    /// Stub.
    pub fn load(paths: &[PathBuf], _now: SystemTime) -> Result<(Self, Vec<Notice>), Vec<CertError>> {
        let errors: Vec<_> = paths.iter().filter_map(|path| exists(path).err()).collect();
        if errors.is_empty() { Ok((Self { files: paths.to_vec() }, Vec::new())) } else { Err(errors) }
    }

    /// Stub.
    pub fn describe(&self, _now: SystemTime) -> Vec<Description> {
        let describe = |file: &PathBuf| Description {
            file: file.clone(),
            names: vec!["www.foobar.com".into()],
            days_left: 90,
            key: "ECDSA".into(),
        };
        self.files.iter().map(describe).collect()
    }
}

pub(super) fn exists(file: &Path) -> Result<(), CertError> {
    std::fs::metadata(file).map(|_| ()).map_err(|error| CertError {
        file: file.to_owned(),
        what: format!("cannot be read: {error}"),
        advice: "check the path and its permissions".into(),
    })
}

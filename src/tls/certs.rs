//! Certificates (stub).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Certificates by name.
#[derive(Debug)]
pub struct Store {}

/// Something that will be wrong.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Where.
    pub file: PathBuf,
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
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
        if errors.is_empty() { Ok((Self {}, Vec::new())) } else { Err(errors) }
    }
}

pub(super) fn exists(file: &Path) -> Result<(), CertError> {
    std::fs::metadata(file).map(|_| ()).map_err(|error| CertError {
        file: file.to_owned(),
        what: format!("cannot be read: {error}"),
        advice: "check the path and its permissions".into(),
    })
}

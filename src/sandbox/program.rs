//! Where the program's file is: the path by which its next version is started.
//!
//! What goes in: how this process was started. What comes out: a path. It owns nothing. Always true: the path names the
//! file that lies there now, not the one that runs.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What the kernel puts behind the path of a program whose file was replaced.
const DELETED: &[u8] = b" (deleted)";

/// The path by which the program was started, looked up again.
pub fn program() -> Option<PathBuf> {
    let name = std::env::args_os().next().unwrap_or_default();
    let search = std::env::var_os("PATH").unwrap_or_default();
    find(&name, &search, std::env::current_exe().ok(), &|path| path.is_file())
}

/// By the name it was called, else where the kernel found it.
fn find(
    name: &OsStr,
    search: &OsStr,
    running: Option<PathBuf>,
    is_there: &dyn Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.components().count() > 1 || named.is_absolute() {
        if is_there(named) {
            return Some(named.to_owned());
        }
    } else if !name.is_empty() {
        let mut paths = std::env::split_paths(search).map(|folder| folder.join(name));
        if let Some(path) = paths.find(|path| is_there(path)) {
            return Some(path);
        }
    }
    let mut bytes = running?.into_os_string().into_vec();
    if bytes.ends_with(DELETED) {
        bytes.truncate(bytes.len() - DELETED.len());
    }
    Some(PathBuf::from(OsStr::from_bytes(&bytes))).filter(|path| is_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_again() {
        let there = |path: &Path| {
            ["/usr/bin/ringgate", "/opt/ringgate", "./target/ringgate"]
                .iter()
                .any(|one| path == Path::new(one))
        };
        let cases = [
            ("/opt/ringgate", "", "/opt/ringgate-1", Some("/opt/ringgate")),
            ("./target/ringgate", "", "", Some("./target/ringgate")),
            ("ringgate", "/bin:/usr/bin", "", Some("/usr/bin/ringgate")),
            ("ringgate", "/bin", "/opt/ringgate", Some("/opt/ringgate")),
            ("gone", "/bin", "/opt/ringgate (deleted)", Some("/opt/ringgate")),
            ("", "/bin", "/opt/gone (deleted)", None),
        ];
        for (name, search, running, expected) in cases {
            let found = find(OsStr::new(name), OsStr::new(search), Some(running.into()), &there);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{name} {search} {running}");
        }
    }
}

//! Which files the process may reach, by Landlock.
//!
//! What goes in: a configuration. What comes out: a list of folders with rights ([`paths`]), put into force for this
//! thread and all that it starts (`confine`). It owns nothing. Always true: a file that the configuration names is
//! given by its folder, so that a file that replaces it can be read too; connecting to Unix sockets needs no right.
//!
//! The next version of the program lies where this one does, under a number that cannot be known yet: so the program's
//! folder may be executed as a whole. In a folder of its own (`/opt/ringgate`) that is this program alone.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Outcome;
use crate::config::model::Config;
use crate::net::Address;

/// The newest rules that are asked for (kernel 6.15); what a kernel does not know is left out.
const RULES: ABI = ABI::V7;

/// Folders and files of the host that are read: names and addresses, authorities, time zones, libraries (also for the
/// program's next version), the process and its share of the machine. Of other processes Landlock shows what everybody
/// may see.
const SYSTEM_READ: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/dev/urandom",
    "/dev/random",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Written besides read.
const SYSTEM_WRITTEN: &[&str] = &["/dev/null"];

/// Dynamic programs are started through these.
const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-riscv64-lp64d.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// What may be done beneath a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read files and list folders.
    Read,
    /// Also write, make, rename and remove files and sockets.
    Write,
    /// Read and execute.
    Execute,
}

impl Right {
    fn flags(self) -> BitFlags<AccessFs> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        match self {
            Self::Read => read,
            Self::Execute => read | AccessFs::Execute,
            Self::Write => {
                read | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::RemoveFile
                    | AccessFs::MakeReg
                    | AccessFs::MakeSock
            }
        }
    }
}

/// A file or folder, and what may be done with it and beneath it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The file or folder. What does not exist when the sandbox is entered cannot be reached later either.
    pub path: PathBuf,
    /// What may be done.
    pub right: Right,
}

/// Everything that a process with this configuration reaches, sorted, each once. `programs` are the paths of the program.
pub fn paths(config: &Config, config_file: Option<&Path>, programs: &[PathBuf]) -> Vec<Access> {
    let mut list = BTreeSet::new();
    let mut add = |path: PathBuf, right| {
        list.insert(Access { path, right });
    };
    for path in config_file.into_iter().chain(config.files.read.iter().map(PathBuf::as_path)) {
        add(folder(path), Right::Read);
        // A folder of certificates is named itself.
        add(path.to_owned(), Right::Read);
    }
    let listening = config.listeners.iter().map(|listener| &listener.address).chain(&config.admin.listen);
    let sockets = listening.filter_map(|address| match address {
        Address::Unix(path) => Some(path),
        Address::Tcp(_) => None,
    });
    for path in sockets.chain(&config.files.written) {
        add(folder(path), Right::Write);
    }
    for program in programs {
        add(folder(program), Right::Execute);
        // A link leads to its folder too.
        add(program.clone(), Right::Execute);
    }
    LOADERS.iter().for_each(|path| add(path.into(), Right::Execute));
    SYSTEM_READ.iter().for_each(|path| add(path.into(), Right::Read));
    SYSTEM_WRITTEN.iter().for_each(|path| add(path.into(), Right::Write));
    list.into_iter().collect()
}

/// The folder that a path lies in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Adds the folders that symbolic links lead to: `live/site/key.pem` may be `../../archive/site/key7.pem`, next week
/// `key8.pem`.
fn with_targets(list: &[Access]) -> BTreeSet<Access> {
    let mut all: BTreeSet<Access> = list.iter().cloned().collect();
    for access in list {
        let is_link = std::fs::symlink_metadata(&access.path).is_ok_and(|about| about.is_symlink());
        if is_link && let Ok(target) = std::fs::canonicalize(&access.path) {
            let path = if target.is_dir() { target } else { folder(&target) };
            all.insert(Access { path, right: access.right });
        }
    }
    all
}

/// Puts the list into force, as far as the kernel knows Landlock.
pub(super) fn confine(list: &[Access]) -> Outcome {
    verdict(restrict(list).map(|status| status.ruleset))
}

fn restrict(list: &[Access]) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        // Whoever takes over this process cannot send signals to others.
        .scope(Scope::Signal)?
        .create()?;
    for access in with_targets(list) {
        let Ok(about) = std::fs::metadata(&access.path) else { continue };
        let Ok(path) = PathFd::new(&access.path) else { continue };
        let all = if about.is_dir() { AccessFs::from_all(RULES) } else { AccessFs::from_file(RULES) };
        rules = rules.add_rule(PathBeneath::new(path, access.right.flags() & all))?;
    }
    rules.restrict_self()
}

/// In words.
fn verdict(result: Result<RulesetStatus, impl std::error::Error + 'static>) -> Outcome {
    match result {
        Ok(RulesetStatus::FullyEnforced) => Outcome::Whole,
        Ok(RulesetStatus::PartiallyEnforced) => {
            Outcome::Partly("this kernel confines most uses of files, but not all (6.15 does)")
        }
        Ok(RulesetStatus::NotEnforced) => Outcome::Missing(
            "files are not confined: the kernel has no Landlock (5.13 has), or it is not in its list of security \
             modules (lsm=landlock,...)"
                .into(),
        ),
        Err(error) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            let layers = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::E2BIG);
            let advice = if layers { " (too many sandboxes inside one another)" } else { "" };
            Outcome::Missing(format!("files are not confined: {error}{advice}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list without what every process gets.
    fn own(text: &str, file: Option<&str>) -> Vec<String> {
        let name = file.unwrap_or("/etc/ringgate/site.toml");
        let loaded = crate::config::parse_in(text, name, &crate::config::Nowhere);
        let mut config = loaded.map(|loaded| loaded.config).unwrap();
        config.files.written.push("/var/log/ringgate/access.log".into());
        let basis: BTreeSet<Access> = paths(&Config::default(), None, &[]).into_iter().collect();
        let all = paths(&config, file.map(Path::new), &["/usr/bin/ringgate".into()]);
        let word = |right| match right {
            Right::Read => "read",
            Right::Write => "write",
            Right::Execute => "execute",
        };
        let show = |access: Access| format!("{} {}", word(access.right), access.path.display());
        all.into_iter().filter(|access| !basis.contains(access)).map(show).collect()
    }

    #[test]
    fn a_configuration_opens_its_folders_and_no_more() {
        let site = "[http.a]\nlisten = [\"127.0.0.1:80\", \"unix:/run/ringgate/a.sock\"]\nroutes = [ { answer = { status = \
                    200, file = \"pages/hello.html\" } } ]\nerror_pages = { 503 = \"/srv/sorry.html\" }\n[admin]\nlisten = [\"unix:/run/admin/a.sock\"]\n";
        let cases = [
            (
                Some("/etc/ringgate/site.toml"),
                vec![
                    "read /etc/ringgate",
                    "read /etc/ringgate/pages",
                    "read /etc/ringgate/pages/hello.html",
                    "read /etc/ringgate/site.toml",
                    "write /run/admin",
                    "write /run/ringgate",
                    "read /srv",
                    "read /srv/sorry.html",
                    "execute /usr/bin",
                    "execute /usr/bin/ringgate",
                    "write /var/log/ringgate",
                ],
            ),
            (
                Some("site.toml"),
                vec![
                    "write /run/admin",
                    "write /run/ringgate",
                    "read /srv",
                    "read /srv/sorry.html",
                    "execute /usr/bin",
                    "execute /usr/bin/ringgate",
                    "write /var/log/ringgate",
                    "read .",
                    "read pages",
                    "read pages/hello.html",
                    "read site.toml",
                ],
            ),
        ];
        for (file, expected) in cases {
            assert_eq!(own(site, file), expected);
        }
    }

    #[test]
    fn links_lead_to_the_folders_of_their_targets() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("archive")).unwrap();
        std::fs::write(at("archive/key1.pem"), "").unwrap();
        std::os::unix::fs::symlink("archive/key1.pem", at("key.pem")).unwrap();
        let list = [Access { path: at("key.pem"), right: Right::Read }];
        let archive = std::fs::canonicalize(at("archive")).unwrap();
        assert!(with_targets(&list).contains(&Access { path: archive, right: Right::Read }));
    }

    #[test]
    fn says_what_the_kernel_cannot_do() {
        let fine = |status| verdict(Ok::<_, io::Error>(status));
        assert_eq!(fine(RulesetStatus::FullyEnforced), Outcome::Whole);
        assert!(matches!(fine(RulesetStatus::PartiallyEnforced), Outcome::Partly(_)));
        assert!(matches!(fine(RulesetStatus::NotEnforced), Outcome::Missing(why) if why.contains("5.13")));
        let error = io::Error::from_raw_os_error(libc::E2BIG);
        assert!(matches!(verdict(Err(error)), Outcome::Missing(why) if why.contains("inside one another")));
    }

    /// Landlock binds the calling thread alone, which ends with the test.
    #[test]
    fn nothing_else_can_be_opened_or_executed() {
        use std::os::unix::net::{UnixListener, UnixStream};
        use std::process::Command;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["site", "logs", "other"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("file"), "text").unwrap();
        }
        let server = UnixListener::bind(at("other").join("server.sock")).unwrap();
        let mut config = Config::default();
        config.files.written.push(at("logs").join("file"));
        let list = paths(&config, Some(&at("site").join("file")), &["/usr/bin/true".into()]);
        let outcome = confine(&list);
        assert!(!matches!(outcome, Outcome::Missing(_)), "{outcome:?}");

        let refused = |result: io::Result<()>| {
            result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        let read = |name: &str| std::fs::read(at(name)).map(drop);
        let write = |name: &str| std::fs::write(at(name), "text");
        assert!(read("site/file").is_ok() && refused(write("site/file")) && refused(write("site/new")));
        assert!(write("logs/file").is_ok() && write("logs/new").is_ok());
        assert!(std::fs::rename(at("logs/file"), at("logs/file.1")).is_ok());
        assert!(refused(read("other/file")) && refused(write("other/file")));
        assert!(
            refused(std::fs::read("/etc/shadow").map(drop)) && refused(std::fs::read_dir("/root").map(drop))
        );
        // Servers behind Unix sockets need no right.
        assert!(UnixStream::connect(at("other").join("server.sock")).is_ok());
        drop(server);
        // A dynamic program of the program's own folder, and one of another folder.
        assert!(Command::new("/usr/bin/true").status().unwrap().success());
        assert!(refused(Command::new("/usr/sbin/nologin").status().map(drop)));
    }
}

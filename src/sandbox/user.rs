//! From root to a user who may do little.
//!
//! What goes in: `[process] user` and `group`. What comes out: a process with that identity and no capability but that of
//! binding low ports. It owns nothing. Always true: when it returns well, the identity was read back and becoming root
//! again was tried and failed.

use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{self, AccessFlags, Gid, Group, Uid, User};

use super::{Error, Note};
use crate::config::model::{Config, Process, Sandbox};

/// Files about which it is noted that the new user cannot read them, at most.
const NOTES_MAX: usize = 3;

/// An entry of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    /// For the list of supplementary groups; empty when the number stands in no database.
    name: String,
    uid: u32,
    gid: u32,
}

/// What to do about the identity of the process.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It stays who it is.
    Stay,
    /// It stays root, because nobody said who to become.
    StayRoot,
    /// It becomes this user.
    Become(Account),
}

/// The databases of users and groups.
trait Names {
    fn user(&self, name: &str) -> Option<Account>;
    fn user_by_number(&self, uid: u32) -> Option<Account>;
    fn group(&self, name: &str) -> Option<u32>;
}

/// Those of the host.
struct Host;

impl Names for Host {
    fn user(&self, name: &str) -> Option<Account> {
        User::from_name(name).ok().flatten().map(Account::from)
    }

    fn user_by_number(&self, uid: u32) -> Option<Account> {
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map(Account::from)
    }

    fn group(&self, name: &str) -> Option<u32> {
        Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

/// See [`super::drop_privileges`].
pub(super) fn drop_privileges(config: &Config) -> Result<Vec<Note>, Error> {
    let mut notes = Vec::new();
    match plan(&config.process, unistd::geteuid().as_raw(), unistd::getegid().as_raw(), &Host)? {
        Plan::Become(account) => {
            become_user(&account)?;
            notes = unreadable(&config.files.read, config.process.user.as_deref().unwrap_or_default());
        }
        Plan::Stay if config.process.sandbox == Sandbox::Off => {}
        Plan::Stay => keep_only(&[Capability::CAP_NET_BIND_SERVICE])?,
        Plan::StayRoot => {
            if config.process.sandbox != Sandbox::Off {
                // Files of others, as far as the sandbox shows them: root reads certificates that belong to somebody else.
                keep_only(&[Capability::CAP_NET_BIND_SERVICE, Capability::CAP_DAC_OVERRIDE])?;
            }
            let advice = "name a user that it becomes once it listens: [process] user = \"ringgate\"";
            notes.push(Note(format!("it runs as root; {advice}")));
        }
    }
    Ok(notes)
}

/// Who to become.
fn plan(process: &Process, uid: u32, gid: u32, names: &dyn Names) -> Result<Plan, Error> {
    let Some(wanted) = &process.user else {
        return Ok(if uid == 0 { Plan::StayRoot } else { Plan::Stay });
    };
    let number = wanted.parse::<u32>().ok();
    let found = names.user(wanted).or_else(|| names.user_by_number(number?));
    let group = match &process.group {
        None => None,
        Some(name) => Some(names.group(name).or_else(|| name.parse().ok()).ok_or_else(|| {
            Error::new(format!(
                "[process] group: there is no group \"{name}\"; make it with `groupadd --system {name}`"
            ))
        })?),
    };
    let account = match (found, number, group) {
        (Some(account), _, group) => Account { gid: group.unwrap_or(account.gid), ..account },
        (None, Some(uid), Some(gid)) => Account { name: String::new(), uid, gid },
        (None, Some(uid), None) => {
            return Err(Error::new(format!(
                "[process] user: no user has the number {uid}, so that its group is not known; name it too: group = \"...\""
            )));
        }
        (None, None, _) => {
            return Err(Error::new(format!(
                "[process] user: there is no user \"{wanted}\"; make it with `useradd --system --shell /usr/sbin/nologin \
                 {wanted}`"
            )));
        }
    };
    match uid {
        _ if account.uid == uid && (uid != 0 || process.group.is_none() || account.gid == gid) => {
            Ok(Plan::Stay)
        }
        0 => Ok(Plan::Become(account)),
        _ => Err(Error::new(format!(
            "[process] user: only root can become \"{wanted}\", and this process was started as user {uid}; start it as \
             root or as \"{wanted}\", or remove the key"
        ))),
    }
}

/// Becomes this user, for good.
fn become_user(account: &Account) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let failed = |what: &'static str| {
        move |errno: nix::errno::Errno| Error::new(format!("root cannot be dropped: {what}: {errno}"))
    };
    let keep = kept(&[Capability::CAP_NET_BIND_SERVICE])?;
    narrow_bounds(&keep)?;
    // Without this, the change of the user takes all capabilities.
    caps::securebits::set_keepcaps(true).map_err(about_capabilities)?;
    match std::ffi::CString::new(account.name.as_str()) {
        Ok(name) if !account.name.is_empty() => {
            unistd::initgroups(&name, gid).map_err(failed("initgroups"))?;
        }
        _ => unistd::setgroups(&[gid]).map_err(failed("setgroups"))?,
    }
    unistd::setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    unistd::setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
    set_all(&keep)?;
    caps::securebits::set_keepcaps(false).map_err(about_capabilities)?;
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    verify(uid, gid)
}

/// Reads the identity back, and tries to become root again.
fn verify(uid: Uid, gid: Gid) -> Result<(), Error> {
    let users = unistd::getresuid().map(|ids| [ids.real, ids.effective, ids.saved]);
    let groups = unistd::getresgid().map(|ids| [ids.real, ids.effective, ids.saved]);
    let back = unistd::setuid(Uid::from_raw(0)).is_ok() || unistd::seteuid(Uid::from_raw(0)).is_ok();
    if users == Ok([uid; 3]) && groups == Ok([gid; 3]) && (!back || uid.is_root()) {
        return Ok(());
    }
    Err(Error::new("root cannot be dropped: the kernel gives it back; start the process as its user instead"))
}

/// Gives up all capabilities but these.
fn keep_only(wanted: &[Capability]) -> Result<(), Error> {
    let keep = kept(wanted)?;
    narrow_bounds(&keep)?;
    // A service manager that gave no more may well have forbidden to ask (`SystemCallFilter=~@privileged`).
    if caps::read(None, CapSet::Permitted).map_err(about_capabilities)? == keep {
        return Ok(());
    }
    set_all(&keep)
}

/// Those of the wanted capabilities that the process has.
fn kept(wanted: &[Capability]) -> Result<CapsHashSet, Error> {
    let have = caps::read(None, CapSet::Permitted).map_err(about_capabilities)?;
    Ok(wanted.iter().copied().filter(|wanted| have.contains(wanted)).collect())
}

/// Takes the others out of what a started program could get. Who may not narrow the bounds is no root, and gets nothing
/// from a started program because of no_new_privs.
fn narrow_bounds(keep: &CapsHashSet) -> Result<(), Error> {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(about_capabilities)?;
    if !may {
        return Ok(());
    }
    let bounds = caps::read(None, CapSet::Bounding).map_err(about_capabilities)?;
    let mut others = bounds.difference(keep);
    others.try_for_each(|other| caps::drop(None, CapSet::Bounding, *other)).map_err(about_capabilities)
}

/// Makes these all capabilities there are. They are ambient too, so that the program's next version can bind low ports.
fn set_all(keep: &CapsHashSet) -> Result<(), Error> {
    caps::clear(None, CapSet::Ambient).map_err(about_capabilities)?;
    // What is effective must be permitted at every step: first fewer, then more.
    let effective = caps::read(None, CapSet::Effective).map_err(about_capabilities)?;
    let fewer: CapsHashSet = effective.intersection(keep).copied().collect();
    caps::set(None, CapSet::Effective, &fewer).map_err(about_capabilities)?;
    caps::set(None, CapSet::Permitted, keep).map_err(about_capabilities)?;
    caps::set(None, CapSet::Inheritable, keep).map_err(about_capabilities)?;
    caps::set(None, CapSet::Effective, keep).map_err(about_capabilities)?;
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::set(None, CapSet::Ambient, keep).map_err(about_capabilities)?;
    }
    Ok(())
}

fn about_capabilities(error: caps::errors::CapsError) -> Error {
    Error::new(format!("capabilities cannot be dropped: {error}"))
}

/// Notes files of the configuration that this process, which was root when it read them, can read no more.
fn unreadable(files: &[std::path::PathBuf], user: &str) -> Vec<Note> {
    let closed = |path: &Path| unistd::access(path, AccessFlags::R_OK).is_err();
    let within = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).find(|path| path.is_file() && closed(path))
    };
    let found = files.iter().filter_map(|path| if closed(path) { Some(path.clone()) } else { within(path) });
    let note = |path: std::path::PathBuf| {
        Note(format!(
            "{} cannot be read by the user {user}: a reload will fail; let it, with `chgrp` and `chmod g+r` or setfacl",
            path.display()
        ))
    };
    found.take(NOTES_MAX).map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Book;

    impl Names for Book {
        fn user(&self, name: &str) -> Option<Account> {
            let account = |name: &str, uid, gid| Some(Account { name: name.into(), uid, gid });
            match name {
                "root" => account(name, 0, 0),
                "ringgate" => account(name, 101, 102),
                _ => None,
            }
        }

        fn user_by_number(&self, uid: u32) -> Option<Account> {
            ["root", "ringgate"].iter().filter_map(|name| self.user(name)).find(|account| account.uid == uid)
        }

        fn group(&self, name: &str) -> Option<u32> {
            (name == "web").then_some(33)
        }
    }

    fn planned(user: &str, group: &str, uid: u32, gid: u32) -> Result<Plan, Error> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let process = Process { user: some(user), group: some(group), sandbox: Sandbox::Auto };
        plan(&process, uid, gid, &Book)
    }

    #[test]
    fn becomes_whom_it_can() {
        let account = |name: &str, uid, gid| Plan::Become(Account { name: name.into(), uid, gid });
        let cases = [
            ("", "", 0, 0, Plan::StayRoot),
            ("", "", 1000, 1000, Plan::Stay),
            ("root", "", 0, 0, Plan::Stay),
            ("root", "web", 0, 0, account("root", 0, 33)),
            ("ringgate", "", 0, 0, account("ringgate", 101, 102)),
            ("ringgate", "web", 0, 0, account("ringgate", 101, 33)),
            ("ringgate", "44", 0, 0, account("ringgate", 101, 44)),
            ("101", "", 0, 0, account("ringgate", 101, 102)),
            ("7", "web", 0, 0, account("", 7, 33)),
            ("ringgate", "", 101, 102, Plan::Stay),
        ];
        for (user, group, uid, gid, expected) in cases {
            assert_eq!(planned(user, group, uid, gid), Ok(expected), "{user} {group} {uid}");
        }
    }

    #[test]
    fn says_why_it_cannot_become_somebody() {
        let cases = [
            ("rinngate", "", 0, "useradd --system"),
            ("7", "", 0, "name it too: group"),
            ("ringgate", "wbe", 0, "groupadd --system wbe"),
            ("ringgate", "", 1000, "only root can become \"ringgate\""),
        ];
        for (user, group, uid, word) in cases {
            let error = planned(user, group, uid, uid).unwrap_err().to_string();
            assert!(error.contains(word) && error.starts_with("[process] "), "{error}");
        }
    }
}

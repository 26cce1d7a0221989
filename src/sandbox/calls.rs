//! Which system calls the process may make, by seccomp.
//!
//! What goes in: the two tables below. What comes out: filters in force for every thread. It owns nothing. Always true: a
//! filter is inherited by every thread and program that is started later.
//!
//! What is not listed fails with ENOSYS, "this kernel does not have it": libraries know that answer and do without (the
//! C library asks for `clone3` and then takes `clone`, whose arguments can be seen here). A call that nobody thought of, in
//! a path that is rarely taken, thus costs one operation and not every client. What no server ever calls, and whoever
//! breaks into one does (`ptrace`, `mount`, `bpf` ...), ends the process at once.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::Outcome;

/// Calls that serve, whatever their arguments.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // The rings.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll,
    libc::SYS_pselect6, libc::SYS_eventfd2, libc::SYS_signalfd4,
    libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // Sockets; `socket` itself is below.
    libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_shutdown,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    // Files.
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_close_range,
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd,
    libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_unlinkat, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_fadvise64, libc::SYS_flock, libc::SYS_fchmod, libc::SYS_fchmodat,
    libc::SYS_umask, libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice,
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_fcntl,
    // Memory; `mmap` and `mprotect` are below.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_mlock,
    libc::SYS_munlock, libc::SYS_membarrier, libc::SYS_get_mempolicy, libc::SYS_mbind,
    // Threads, signals, time.
    libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_futex, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_tgkill, libc::SYS_kill, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity, libc::SYS_getcpu, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigpending, libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_getrusage, libc::SYS_sysinfo, libc::SYS_uname,
    libc::SYS_getrandom, libc::SYS_prlimit64, libc::SYS_getrlimit, libc::SYS_setrlimit,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_capget, libc::SYS_getpgid,
    // The program's next version; Landlock says what can be executed.
    libc::SYS_execve, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal,
    // Giving up still more.
    libc::SYS_seccomp, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self,
];

/// Older forms of the above, which C libraries use where they exist.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_rename,
    libc::SYS_unlink, libc::SYS_chmod, libc::SYS_pipe, libc::SYS_dup2, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_time, libc::SYS_arch_prctl,
    libc::SYS_vfork, libc::SYS_fork, libc::SYS_getpgrp,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[c_long] = &[];

/// Calls that no server makes: the process ends.
#[rustfmt::skip]
const DEADLY: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp, libc::SYS_pidfd_getfd,
    // The kernel.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot, libc::SYS_add_key, libc::SYS_request_key,
    libc::SYS_keyctl, libc::SYS_syslog, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_swapon, libc::SYS_swapoff,
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen,
    libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_pivot_root,
    libc::SYS_chroot, libc::SYS_setns, libc::SYS_unshare, libc::SYS_open_by_handle_at,
    // The clock and the host's name.
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_sethostname, libc::SYS_setdomainname,
];

/// Flags of `clone` that make namespaces: mounts, cgroup, host name, IPC, users, processes, network.
const NAMESPACES: u64 = 0x7e02_0000;

/// Kinds of sockets: Unix, IPv4, IPv6, and netlink (the C library asks it which addresses the host has).
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// What is asked of a descriptor: not to block, to close on exec, its terminal's kind and size, bytes to read.
const IOCTLS: [u64; 6] =
    [libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX, libc::FIONREAD, libc::TCGETS, libc::TIOCGWINSZ];

/// What a thread or process says about itself: its name, huge pages, names of memory, capabilities it has, what happens when
/// its parent ends, no new privileges, whether it can be dumped.
const PRCTLS: [i32; 10] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE,
    libc::PR_SET_VMA,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_PDEATHSIG,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_DUMPABLE,
];

/// Puts both filters into force for all threads.
pub(super) fn filter() -> Outcome {
    // The deadly one first: installing a filter is a call too, which only the other one could forbid.
    let installed = programs().and_then(|programs| {
        programs
            .iter()
            .try_for_each(|program| apply_filter_all_threads(program).map_err(|error| advise(&error)))
    });
    match installed {
        Ok(()) => Outcome::Whole,
        Err(why) => Outcome::Missing(why),
    }
}

fn advise(error: &seccompiler::Error) -> String {
    let advice = match error {
        seccompiler::Error::Seccomp(error) => match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL) => ": the kernel was built without CONFIG_SECCOMP_FILTER",
            Some(libc::EPERM | libc::EACCES) => {
                ": the host forbids it; look at the container's seccomp profile"
            }
            _ => "",
        },
        _ => "",
    };
    format!("system calls are not filtered: {error}{advice}")
}

/// The two filters, as the kernel wants them.
fn programs() -> Result<[BpfProgram; 2], String> {
    let build = |rules, mismatch, matching| -> Result<BpfProgram, String> {
        let arch = std::env::consts::ARCH;
        let target = TargetArch::try_from(arch)
            .map_err(|_| format!("system calls are not filtered: not known how on {arch}"))?;
        SeccompFilter::new(rules, mismatch, matching, target)
            .and_then(BpfProgram::try_from)
            .map_err(|error| format!("system calls are not filtered: {error}"))
    };
    let deadly = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    Ok([
        build(deadly, SeccompAction::Allow, SeccompAction::KillProcess)?,
        build(allowed()?, missing, SeccompAction::Allow)?,
    ])
}

/// Calls with the arguments they may have; without rules, any.
fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let mut list: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_OLD).map(|call| (*call, Vec::new())).collect();
    let any_of = |argument, values: &mut dyn Iterator<Item = u64>| {
        values.map(|value| rule(argument, SeccompCmpOp::Eq, value)).collect::<Result<Vec<_>, _>>()
    };
    let without = |argument, bits: u64| rule(argument, SeccompCmpOp::MaskedEq(bits), 0);
    let (write, execute) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    list.insert(libc::SYS_socket, any_of(0, &mut FAMILIES.iter().map(|family| *family as u64))?);
    list.insert(libc::SYS_ioctl, any_of(1, &mut IOCTLS.into_iter())?);
    list.insert(libc::SYS_prctl, any_of(0, &mut PRCTLS.iter().map(|what| *what as u64))?);
    list.insert(libc::SYS_clone, vec![without(0, NAMESPACES)?]);
    // Memory is written or executed, never both, and what was written does not become executable.
    list.insert(libc::SYS_mmap, vec![without(2, write)?, without(2, execute)?]);
    list.insert(libc::SYS_mprotect, vec![without(2, execute)?]);
    Ok(list)
}

fn rule(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| format!("system calls are not filtered: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deadly_is_not_allowed() {
        let allowed = allowed().unwrap();
        let both: Vec<_> = DEADLY.iter().filter(|call| allowed.contains_key(call)).collect();
        assert!(both.is_empty(), "{both:?}");
        // The C library takes `clone` instead, whose flags can be seen.
        assert!(!allowed.contains_key(&libc::SYS_clone3));
    }

    #[test]
    fn the_filters_fit_the_kernel() {
        for program in programs().unwrap() {
            assert!(program.len() < 4096, "{}", program.len());
        }
    }

    #[test]
    fn a_refused_filter_comes_with_advice() {
        let refused = |errno| advise(&seccompiler::Error::Seccomp(std::io::Error::from_raw_os_error(errno)));
        assert!(refused(libc::ENOSYS).contains("CONFIG_SECCOMP_FILTER"));
        assert!(refused(libc::EPERM).contains("container"));
    }

    /// In force for the calling thread alone, which ends with the test, and for what it starts.
    fn filter_this_thread() {
        for program in programs().unwrap() {
            seccompiler::apply_filter(&program).unwrap();
        }
    }

    #[test]
    fn other_calls_are_missing_and_some_end_the_process() {
        use nix::errno::Errno;
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        use std::os::unix::process::ExitStatusExt;
        use std::process::Command;

        filter_this_thread();
        let folder = std::env::temp_dir().join("ringgate-must-not-be");
        assert_eq!(nix::unistd::mkdir(&folder, nix::sys::stat::Mode::S_IRWXU), Err(Errno::ENOSYS));
        let open = |family| socket(family, SockType::Stream, SockFlag::empty(), None).map(drop);
        assert_eq!(open(AddressFamily::Inet6), Ok(()));
        assert_eq!(open(AddressFamily::Vsock), Err(Errno::ENOSYS));
        // A dynamic program can be started, and names can be looked up.
        let started =
            |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().unwrap();
        assert!(started("/usr/bin/true", &[]).status.success());
        assert!(started("/usr/bin/getent", &["ahosts", "localhost"]).status.success());
        // unshare(2), as a user who breaks out would.
        let killed = started("/usr/bin/unshare", &["--user", "true"]).status;
        assert_eq!(killed.signal(), Some(libc::SIGSYS), "{killed:?}");
        // Threads go on being made, and joined.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    }
}

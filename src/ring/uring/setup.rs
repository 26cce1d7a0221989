//! Making an io_uring: what this kernel can, what it forbids, and what to do about it.
//!
//! What goes in: wishes ([`Tuning`]). What comes out: a ring and what could be had of the wishes, or an error with
//! advice. It owns nothing. Always true: a ring is used only by the thread that made it, and can do no more than the
//! operations listed here, where the kernel lets itself be told so.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::register::Restriction;
use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use crate::limits::{COMPLETION_ENTRIES, GATHER_US, LENT_PAGES_MAX, RECV_LIMIT_BYTES, SUBMISSION_ENTRIES};
use crate::ring::lend::{BUFFER_GROUP, Buffers};

/// Which of the kernel's abilities are used. The default is all that pay off; less is for older kernels and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// One receive operation delivers again and again (kernel 6.0).
    pub multishot: bool,
    /// Bytes that one multishot receive takes in all before it must be started again (kernel 6.17); 0 for no limit.
    pub limit: u32,
    /// One accept operation delivers again and again (kernel 5.19).
    pub multishot_accept: bool,
    /// The kernel's deferred work runs only when this thread enters the ring (kernel 6.1).
    pub defer: bool,
    /// Pages that the kernel may have for receiving, at most [`crate::limits::LENT_PAGES_MAX`].
    pub lend: usize,
    /// While several completions are expected, a wait goes on for them for so many microseconds (kernel 6.12); 0 ends it
    /// with the first one.
    pub gather_us: u32,
    /// The ring refuses every operation that it does not need, for good: whoever takes over this process cannot open a
    /// file or start a connection of another kind with it.
    pub restricted: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            multishot: true,
            limit: RECV_LIMIT_BYTES,
            multishot_accept: true,
            defer: true,
            lend: LENT_PAGES_MAX,
            gather_us: GATHER_US,
            restricted: true,
        }
    }
}

/// The operations that the rings of workers are made of.
const OPERATIONS: [u8; 7] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel2::CODE,
    opcode::Connect::CODE,
    opcode::Read::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
];

/// IORING_UNREGISTER_PBUF_RING of the kernel's interface: what is registered with a ring that is in use already. (The ring
/// of buffers is registered before the restrictions hold.)
const UNREGISTER_BUFFERS: u8 = 23;

/// Says whether io_uring can be used here; if not, why, in one line.
pub fn probe() -> Result<(), String> {
    open(Tuning::default()).map(drop).map_err(|error| error.to_string())
}

/// Says whether rings can be restricted to the operations they need.
pub fn restricts() -> bool {
    open(Tuning::default()).is_ok_and(|(_, _, tuning)| tuning.restricted)
}

/// Opens a ring with its ring of buffers.
pub(super) fn open(mut tuning: Tuning) -> io::Result<(IoUring, Buffers, Tuning)> {
    let mut ring = create(&mut tuning).map_err(|error| advise("cannot set up io_uring", &error))?;
    let buffers = Buffers::new(&ring.submitter())
        .map_err(|error| advise("cannot register a buffer ring with io_uring", &error))?;
    if tuning.restricted {
        tuning.restricted = ring.submitter().register_restrictions(&mut restrictions()).is_ok();
    }
    // By this thread, which is the only one that may submit from now on.
    ring.submitter().register_enable_rings().map_err(|error| advise("cannot enable an io_uring", &error))?;
    if !ring.params().is_feature_min_timeout() {
        tuning.gather_us = 0;
    }
    if tuning.multishot && tuning.limit > 0 && !accepts(&mut ring, tuning.limit)? {
        tuning.limit = 0;
    }
    if tuning.multishot && tuning.limit == 0 && !accepts(&mut ring, 0)? {
        tuning.multishot = false;
    }
    if !tuning.multishot {
        tuning.limit = 0;
    }
    Ok((ring, buffers, tuning))
}

/// Exactly what the ring uses.
fn restrictions() -> Vec<Restriction> {
    let flags = squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    let mut list =
        vec![Restriction::sqe_flags_allowed(flags.bits()), Restriction::register_op(UNREGISTER_BUFFERS)];
    list.extend(OPERATIONS.map(Restriction::sqe_op));
    list
}

fn create(tuning: &mut Tuning) -> io::Result<IoUring> {
    let mut result = Err(io::Error::from_raw_os_error(libc::EINVAL));
    // From the newest kernel to the oldest: 6.6, 6.1, 6.0, 5.19.
    for (defer, single, direct) in
        [(true, true, true), (true, true, false), (false, true, false), (false, false, false)]
    {
        if defer && !tuning.defer {
            continue;
        }
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETION_ENTRIES).setup_clamp().setup_submit_all().setup_r_disabled();
        if defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if single {
            builder.setup_single_issuer();
        }
        if direct {
            builder.setup_no_sqarray();
        }
        result = builder.build(SUBMISSION_ENTRIES);
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            _ => {
                tuning.defer = defer;
                break;
            }
        }
    }
    let ring = result?;
    if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() {
        Ok(ring)
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

fn advise(what: &str, error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here: look at `sysctl kernel.io_uring_disabled` (0 allows it) and, in a container, at its \
             seccomp profile"
        }
        Some(libc::ENOSYS) => {
            "the kernel was built without it, or a seccomp profile hides it (the default of many containers)"
        }
        Some(libc::EINVAL) => {
            "the kernel is too old; 5.19 is the oldest that will do, 6.1 or later is better"
        }
        Some(libc::ENOMEM) => {
            "not enough memory that may be locked: raise the limit (`ulimit -l`, LimitMEMLOCK= in systemd)"
        }
        Some(libc::EMFILE) => {
            "too many files are open; raise the limit (`ulimit -n`, LimitNOFILE= in systemd)"
        }
        _ => "",
    };
    let dash = if advice.is_empty() { "" } else { ": " };
    io::Error::new(error.kind(), format!("{what}: {error}{dash}{advice}"))
}

/// Tries a multishot receive, with a limit or without, on a connection that has ended: a kernel that does not know the
/// form says EINVAL.
fn accepts(ring: &mut IoUring, limit: u32) -> io::Result<bool> {
    let (ours, theirs) = UnixStream::pair()?;
    drop(theirs);
    let entry = limited(opcode::RecvMulti::new(Fd(ours.as_raw_fd()), BUFFER_GROUP).build(), limit);
    // SAFETY: no memory is named; the ring of buffers is empty, so that nothing can be received.
    if unsafe { ring.submission().push(&entry) }.is_err() {
        return Ok(false);
    }
    ring.submit_and_wait(1)?;
    let results: Vec<i32> = ring.completion().map(|entry| entry.result()).collect();
    Ok(results.iter().all(|result| *result != -libc::EINVAL))
}

/// Limits what one multishot receive takes in all. The field is `optlen` of `struct io_uring_sqe`, at offset 44 of the
/// kernel's interface; the io-uring crate has no name for it in receives.
pub(super) fn limited(mut entry: Entry, bytes: u32) -> Entry {
    const _: () = assert!(size_of::<Entry>() == 64, "an entry is the kernel's struct");
    if bytes > 0 {
        let field = (&raw mut entry).cast::<u8>();
        // SAFETY: an entry is 64 bytes of plain integers laid out as the kernel's struct; bytes 44..48 are within it.
        unsafe { field.add(44).cast::<u32>().write_unaligned(bytes) };
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_with_advice() {
        let cases = [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "seccomp"),
            (libc::EINVAL, "too old"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
        ];
        for (errno, word) in cases {
            let text = advise("cannot set up io_uring", &io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(word) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_ring_refuses_what_it_does_not_need() {
        let result_of = |tuning: Tuning, entry: Entry| {
            let (mut ring, _buffers, got) = open(tuning).unwrap();
            assert_eq!(got.restricted, tuning.restricted);
            // SAFETY: the entries of this test name static memory or none.
            unsafe { ring.submission().push(&entry) }.unwrap();
            ring.submit_and_wait(1).unwrap();
            ring.completion().next().unwrap().result()
        };
        let file = c"/etc/hostname".as_ptr();
        let forbidden = || {
            [
                opcode::OpenAt::new(Fd(libc::AT_FDCWD), file).build(),
                opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
                opcode::Nop::new().build(),
                // A flag that is not ours, on an operation that is.
                opcode::Send::new(Fd(-1), file.cast(), 1).build().flags(squeue::Flags::ASYNC),
            ]
        };
        for defer in [true, false] {
            let tuning = Tuning { defer, ..Tuning::default() };
            for entry in forbidden() {
                assert_eq!(result_of(tuning, entry), -libc::EACCES);
            }
            for entry in forbidden() {
                let free = Tuning { restricted: false, ..tuning };
                assert_ne!(result_of(free, entry), -libc::EACCES);
            }
            let send = opcode::Send::new(Fd(-1), file.cast(), 1).build();
            assert_eq!(result_of(tuning, send), -libc::EBADF);
        }
    }

    #[test]
    fn a_ring_registers_nothing_more_once_it_is_in_use() {
        let (ring, _buffers, _) = open(Tuning::default()).unwrap();
        let error = ring.submitter().register_files(&[0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        assert!(ring.submitter().unregister_buf_ring(BUFFER_GROUP).is_ok());
    }

    #[test]
    fn a_limit_goes_into_its_field_only() {
        let bytes = |entry: Entry| {
            let mut bytes = [0u8; 64];
            // SAFETY: an entry is 64 bytes of plain integers.
            unsafe { std::ptr::copy_nonoverlapping((&raw const entry).cast(), bytes.as_mut_ptr(), 64) };
            bytes
        };
        let plain = bytes(limited(opcode::RecvMulti::new(Fd(3), 7).build(), 0));
        let mut expected = plain;
        expected[44..48].copy_from_slice(&65_536u32.to_ne_bytes());
        assert_eq!(bytes(limited(opcode::RecvMulti::new(Fd(3), 7).build(), 65_536)), expected);
    }
}

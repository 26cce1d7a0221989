//! The host's cores: which ones this process may use, and staying on one.
//!
//! What goes in: a core's number. What comes out: a list of them. It owns nothing. Always true: a worker that cannot be
//! pinned still works.

#![allow(unsafe_code)]

use std::mem;

/// The cores that this thread may run on, by number; empty when the kernel does not say.
pub fn cores() -> Vec<usize> {
    // SAFETY: a CPU set is plain bits; zero is an empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is valid for the kernel to write, and as long as is said.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) } != 0 {
        return Vec::new();
    }
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the numbers are below CPU_SETSIZE.
    (0..most).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Keeps the calling thread on one core; false when the kernel refuses.
pub fn pin(core: usize) -> bool {
    if core >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return false;
    }
    // SAFETY: a CPU set is plain bits; zero is an empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is valid for the kernel to read, and as long as is said.
    unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) == 0 }
}

/// Asks for small pages: with huge ones, memory that is only reserved would count as used, 2 MiB at a time.
pub extern "C" fn prefer_small_pages() {
    // SAFETY: plain numbers; the call changes how later memory of this process is backed, nothing else.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Has a program call [`prefer_small_pages`] before anything else runs in it: the allocator takes its first memory before
/// `main`, on which a kernel that gives huge pages to everybody would spend three of them (6 MiB).
#[macro_export]
macro_rules! small_pages_from_the_start {
    () => {
        // SAFETY: what the section holds is called once, by one thread, before `main`; a function without arguments is what
        // is expected there, and this one needs nothing that is set up later.
        #[used]
        #[allow(unsafe_code)]
        #[unsafe(link_section = ".preinit_array")]
        static SMALL_PAGES: extern "C" fn() = $crate::ring::prefer_small_pages;
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_a_core_that_it_may_use() {
        std::thread::spawn(|| {
            let first = cores()[0];
            assert!(pin(first));
            assert_eq!(cores(), [first]);
        })
        .join()
        .unwrap();
    }
}

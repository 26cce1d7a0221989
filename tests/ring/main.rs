//! Every kernel keeps the rules of `ring/mod.rs`: one suite, run over io_uring, over io_uring as older kernels have it,
//! and over epoll, with real sockets.

#![allow(clippy::unwrap_used)]

mod rig;
mod rules;
mod scarce;
mod storm;

use ringgate::ring::uring::{Tuning, Uring};
use ringgate::ring::{Epoll, Io};

/// Makes a kernel with a pool of so many pages.
type Make = fn(usize) -> Box<dyn Io>;

fn uring(pages: usize) -> Box<dyn Io> {
    Box::new(Uring::new(pages).unwrap())
}

/// As on kernel 6.1: receives repeat, but without a limit of their own.
fn uring_unlimited(pages: usize) -> Box<dyn Io> {
    Box::new(Uring::with(pages, Tuning { limit: 0, ..Tuning::default() }).unwrap())
}

/// As on kernel 5.19, as little as possible.
fn uring_oldest(pages: usize) -> Box<dyn Io> {
    let none =
        Tuning { multishot: false, limit: 0, multishot_accept: false, defer: false, ..Tuning::default() };
    Box::new(Uring::with(pages, none).unwrap())
}

fn epoll(pages: usize) -> Box<dyn Io> {
    Box::new(Epoll::new(pages).unwrap())
}

macro_rules! on_every_kernel {
    ($($file:ident :: $name:ident,)*) => {
        on_every_kernel!(@ uring, $($file::$name,)*);
        on_every_kernel!(@ uring_unlimited, $($file::$name,)*);
        on_every_kernel!(@ uring_oldest, $($file::$name,)*);
        on_every_kernel!(@ epoll, $($file::$name,)*);
    };
    (@ $kernel:ident, $($file:ident :: $name:ident,)*) => {
        mod $kernel {
            $(#[test] fn $name() { crate::rig::alone(|| crate::$file::$name(super::$kernel)); })*
        }
    };
}

on_every_kernel! {
    rules::echoes_over_tcp_and_unix,
    rules::bytes_and_the_end_may_come_with_the_connect,
    rules::tells_both_ends,
    rules::unasked_bytes_wait_and_then_flow,
    rules::dripped_bytes_share_pages,
    rules::short_sends_lose_nothing,
    rules::half_close_reaches_both_sides,
    rules::reset_is_a_failure_at_the_other_end,
    rules::refused_connects_fail,
    rules::close_ends_everything_in_flight,
    rules::an_id_is_not_seen_again,
    rules::a_second_receive_is_a_bug,
    rules::a_deadline_ends_the_wait,
    rules::a_waker_ends_the_wait,
    rules::pausing_leaves_connections_in_the_queue,
    rules::unlisten_hands_out_the_queue,
    rules::a_unix_path_is_shared_and_removed,
    rules::busy_ports_and_paths_come_with_advice,
    scarce::a_thousand_connections_leak_nothing,
    scarce::two_pages_serve_fifty_connections,
    scarce::no_descriptors_pause_the_listener,
    scarce::dropping_closes_everything,
    storm::a_storm_loses_no_byte_and_no_page,
}

//! The actors' ends of connections: bytes flow there by themselves, at the pace that the actor chose.
//!
//! What goes in: pokes (something changed at an end) and events. What comes out: happenings, and bytes under way. It owns
//! nothing. Always true: at most one read and one write event is under way per end; the end of a stream, or a reset, is
//! told once and after everything that arrived.

use super::actor::{ConnId, Happening};
use super::state::{Event, State};
use super::wire::{Owner, Side};

impl State {
    pub(super) fn poke_actor(&mut self, conn: usize, side: Side) {
        let whole = &self.conns[conn];
        let end = &whole.ends[side as usize];
        if !end.open || !end.stands {
            return;
        }
        let read = whole.readable(side) && !end.held && !end.end_told && !end.read_scheduled;
        let write = end.outgoing.len() > 0 && whole.writable(side) && !end.write_scheduled;
        let (reads, writes) = (end.reads.pause, end.writes.pause);
        if read {
            self.conns[conn].ends[side as usize].read_scheduled = true;
            let wait = self.random.time(reads.0, reads.1);
            self.after(wait, Event::Read(conn, side as u8));
        }
        if write {
            self.conns[conn].ends[side as usize].write_scheduled = true;
            let wait = self.random.time(writes.0, writes.1);
            self.after(wait, Event::Write(conn, side as u8));
        }
    }

    pub(super) fn actor_reads(&mut self, conn: usize, side: Side) {
        let whole = &mut self.conns[conn];
        let end = &mut whole.ends[side as usize];
        end.read_scheduled = false;
        let Owner::Actor(actor) = end.owner else { return };
        if !end.open || end.held || end.end_told {
            return;
        }
        let id = ConnId::new(conn, side);
        let (piece_max, reset) = (end.reads.piece_max, end.reset);
        let pipe = whole.towards(side);
        if pipe.arrived > 0 {
            let max = if piece_max == usize::MAX { piece_max } else { self.random.between(1, piece_max) };
            let bytes = pipe.read(max).to_vec();
            self.poke(conn, side.across());
            self.tell(actor, Happening::Data(id, &bytes));
            self.poke(conn, side);
        } else if let Some(errno) = reset {
            let end = &mut whole.ends[side as usize];
            (end.open, end.end_told, end.owner) = (false, true, Owner::Gone);
            self.tell(actor, Happening::Reset(id, errno));
        } else if pipe.fin_arrived {
            whole.ends[side as usize].end_told = true;
            self.tell(actor, Happening::Eof(id));
        }
    }

    pub(super) fn actor_writes(&mut self, conn: usize, side: Side) {
        let whole = &mut self.conns[conn];
        let space = whole.pipes[side as usize].space();
        let end = &mut whole.ends[side as usize];
        end.write_scheduled = false;
        let Owner::Actor(actor) = end.owner else { return };
        if !end.open || end.reset.is_some() || space == 0 || end.outgoing.len() == 0 {
            return;
        }
        let piece_max = end.writes.piece_max;
        let piece = if piece_max == usize::MAX { piece_max } else { self.random.between(1, piece_max) };
        let bytes = end.outgoing.take(piece.min(space).min(end.outgoing.len())).to_vec();
        let flushed = end.outgoing.len() == 0;
        self.write(conn, side, &bytes);
        if flushed {
            self.tell(actor, Happening::Flushed(ConnId::new(conn, side)));
            self.actor_flush(conn, side);
        } else {
            self.poke(conn, side);
        }
    }

    /// Ends the stream or closes, if that was asked for and everything is on its way.
    pub(super) fn actor_flush(&mut self, conn: usize, side: Side) {
        let end = &self.conns[conn].ends[side as usize];
        if !end.open {
            return;
        }
        if end.close_after && (end.outgoing.len() == 0 || end.reset.is_some()) {
            self.hang_up(conn, side, false);
        } else if end.outgoing.len() == 0 && end.shut_after {
            self.end_stream(conn, side);
        }
    }
}

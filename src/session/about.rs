//! A client's HTTP connection from outside: what it is doing, and whether it goes along with a new configuration.
//!
//! What goes in: the session. What comes out: [`About`] for people, [`Followed`] for the worker. It owns nothing. Always true:
//! a session changes its configuration whole or not at all.

use super::About;
use super::http::{HttpSession, Phase};
use super::moves::{Followed, Moves};

impl HttpSession {
    /// See [`Session::about`](super::Session::about).
    pub fn about(&self) -> About {
        let phase = match self.phase {
            Phase::Proxy => "proxy_header",
            Phase::Handshake => "tls_handshake",
            Phase::Head if self.head_begun || self.requests == 0 => "head",
            Phase::Head => "idle",
            Phase::Exchange => "exchange",
            Phase::Tunnel => "tunnel",
            Phase::Flush | Phase::Linger | Phase::Closed => "closing",
        };
        let dial = self.exchange.as_ref().map(|exchange| &exchange.dial);
        About {
            kind: "http",
            phase,
            client: self.ends.client,
            requests: self.requests,
            pool: dial.map(|dial| dial.pool),
            server: dial.and_then(|dial| dial.link.as_ref()).map(|link| link.server),
        }
    }

    /// See [`Session::follow`](super::Session::follow).
    pub fn follow(&mut self, moves: &Moves) -> Followed {
        let Some(site) = moves.http(self.site) else { return Followed::Never };
        if let Some(exchange) = &mut self.exchange
            && !exchange.dial.follow(moves)
        {
            return if self.phase == Phase::Tunnel { Followed::Never } else { Followed::Later };
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.route = exchange.route.and_then(|route| moves.route(self.site, route));
        }
        self.site = site;
        Followed::Yes
    }
}

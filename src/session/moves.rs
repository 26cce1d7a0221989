//! From one configuration to the next: what becomes of the ids that a living session holds.
//!
//! What goes in: the old configuration and the new one. What comes out: the new id of each thing that both have, found by
//! its name (a server: by pool, name and address). It owns the tables. Always true: an id without a successor belongs
//! to something that was removed, or that serves in another way than when the session began.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::config::model::{Block, Config, Http, Pool, Tcp};
use crate::ids::{HttpId, ListenerId, PoolId, ServerId, SqlId, TcpId};

/// The successors of all ids of a configuration.
#[derive(Debug)]
pub struct Moves {
    /// By address alone: the socket stays open.
    doors: Vec<Option<u32>>,
    listeners: Vec<Option<u32>>,
    http: Vec<Option<u32>>,
    /// By old block, then by old route.
    routes: Vec<Vec<Option<u32>>>,
    tcp: Vec<Option<u32>>,
    sql: Vec<Option<u32>>,
    pools: Vec<Option<u32>>,
    servers: Vec<Option<u32>>,
    /// By old server: connections to it may be kept for requests of the new configuration.
    same_wire: Vec<bool>,
}

/// Whether a session went along with a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Followed {
    /// It lives by the new configuration now.
    Yes,
    /// Not yet: the exchange in progress needs something that was removed. To be asked again when it is over.
    Later,
    /// What it is about was removed: it is to end in an orderly way.
    Never,
}

impl Moves {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let pool_of = |config: &Config, at: usize| -> String {
            config.pools[config.servers[at].pool.index()].name.clone()
        };
        let server_key = |config: &Config, at: usize| {
            let server = &config.servers[at];
            (pool_of(config, at), server.name.clone(), server.address.clone())
        };
        let serves_same = |from: usize, to: usize| match (
            old.block(old.listeners[from].serves),
            new.block(new.listeners[to].serves),
        ) {
            (Block::Http(from), Block::Http(to)) => from.name == to.name,
            (Block::Tcp(from), Block::Tcp(to)) => from.name == to.name,
            (Block::Sql(from), Block::Sql(to)) => from.name == to.name,
            _ => false,
        };
        let listener_key =
            |config: &Config, at: usize| (config.listeners[at].address.clone(), config.listeners[at].v6only);
        let key = |at: usize| listener_key(old, at);
        let doors = successors(old.listeners.len(), new.listeners.len(), key, |at| listener_key(new, at));
        let mut listeners = doors.clone();
        drop_unless(&mut listeners, serves_same);
        let name = |at: usize| old.http[at].name.as_str();
        let mut http = successors(old.http.len(), new.http.len(), name, |at| new.http[at].name.as_str());
        drop_unless(&mut http, |from, to| same_http(&old.http[from], &new.http[to]));
        let routes = (0..old.http.len()).map(|from| match http[from] {
            Some(to) => same_routes(&old.http[from], &new.http[to as usize]),
            None => Vec::new(),
        });
        let routes = routes.collect();
        let name = |at: usize| old.tcp[at].name.as_str();
        let mut tcp = successors(old.tcp.len(), new.tcp.len(), name, |at| new.tcp[at].name.as_str());
        drop_unless(&mut tcp, |from, to| same_tcp(&old.tcp[from], &new.tcp[to]));
        let name = |at: usize| old.sql[at].name.as_str();
        let sql = successors(old.sql.len(), new.sql.len(), name, |at| new.sql[at].name.as_str());
        let name = |at: usize| old.pools[at].name.as_str();
        let pools = successors(old.pools.len(), new.pools.len(), name, |at| new.pools[at].name.as_str());
        let key = |at: usize| server_key(old, at);
        let servers = successors(old.servers.len(), new.servers.len(), key, |at| server_key(new, at));
        let same_wire = (0..old.servers.len())
            .map(|from| {
                servers[from].is_some_and(|to| {
                    let to = &new.servers[to as usize];
                    let (from, to) =
                        (&old.pools[old.servers[from].pool.index()], &new.pools[to.pool.index()]);
                    has_same_wire(from, to)
                })
            })
            .collect();
        Self { doors, listeners, http, routes, tcp, sql, pools, servers, same_wire }
    }

    /// The successor of a listening socket, whatever block it leads to now.
    pub fn door(&self, id: ListenerId) -> Option<ListenerId> {
        self.doors.get(id.index()).copied().flatten().map(ListenerId)
    }

    /// The successor of a listener that leads to the same block.
    pub fn listener(&self, id: ListenerId) -> Option<ListenerId> {
        self.listeners.get(id.index()).copied().flatten().map(ListenerId)
    }

    /// The successor of an `[http]` block.
    pub fn http(&self, id: HttpId) -> Option<HttpId> {
        self.http.get(id.index()).copied().flatten().map(HttpId)
    }

    /// The successor of a route: the one with the same host and path.
    pub fn route(&self, http: HttpId, route: u32) -> Option<u32> {
        self.routes.get(http.index())?.get(route as usize).copied().flatten()
    }

    /// The successor of a `[tcp]` block.
    pub fn tcp(&self, id: TcpId) -> Option<TcpId> {
        self.tcp.get(id.index()).copied().flatten().map(TcpId)
    }

    /// The successor of an `[sql]` block.
    pub fn sql(&self, id: SqlId) -> Option<SqlId> {
        self.sql.get(id.index()).copied().flatten().map(SqlId)
    }

    /// The successor of a pool.
    pub fn pool(&self, id: PoolId) -> Option<PoolId> {
        self.pools.get(id.index()).copied().flatten().map(PoolId)
    }

    /// The successor of a server.
    pub fn server(&self, id: ServerId) -> Option<ServerId> {
        self.servers.get(id.index()).copied().flatten().map(ServerId)
    }

    /// The successor of a server to which unused connections may be kept.
    pub fn kept(&self, id: ServerId) -> Option<ServerId> {
        self.server(id).filter(|_| self.same_wire[id.index()])
    }
}

/// By old position the new position with the same key. Keys that occur several times are matched in order.
fn successors<K: Hash + Eq>(
    old: usize,
    new: usize,
    old_key: impl Fn(usize) -> K,
    new_key: impl Fn(usize) -> K,
) -> Vec<Option<u32>> {
    let mut places: HashMap<K, Vec<u32>> = HashMap::new();
    for at in (0..new).rev() {
        places.entry(new_key(at)).or_default().push(u32::try_from(at).unwrap_or(u32::MAX));
    }
    (0..old).map(|at| places.get_mut(&old_key(at)).and_then(Vec::pop)).collect()
}

fn drop_unless(list: &mut [Option<u32>], holds: impl Fn(usize, usize) -> bool) {
    for (from, to) in list.iter_mut().enumerate() {
        *to = to.filter(|to| holds(from, *to as usize));
    }
}

fn same_routes(old: &Http, new: &Http) -> Vec<Option<u32>> {
    let key =
        |http: &Http, at: usize| http.routes.get(at).map(|(host, path, _)| (host.clone(), path.clone()));
    successors(old.routes.len(), new.routes.len(), |at| key(old, at), |at| key(new, at))
}

/// What a connection was opened as must stay what it is.
fn same_http(old: &Http, new: &Http) -> bool {
    old.tls.is_some() == new.tls.is_some()
}

fn same_tcp(old: &Tcp, new: &Tcp) -> bool {
    old.tls.is_some() == new.tls.is_some()
}

fn has_same_wire(old: &Pool, new: &Pool) -> bool {
    let tls = match (&old.tls, &new.tls) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    tls && old.send_proxy == new.send_proxy && new.keep_alive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Nowhere;

    fn config(text: &str) -> Config {
        crate::config::parse_in(text, "test.toml", &Nowhere).unwrap().config
    }

    #[test]
    fn what_keeps_its_name_is_found_again() {
        let old = config(
            "http.a = { listen = ['127.0.0.1:81', '127.0.0.1:82'], pool = 'x' }
             http.b = { listen = ['127.0.0.1:83'], pool = 'y' }
             pool.x = { servers = ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.2:80'] }
             pool.y = { servers = ['10.0.0.1:80'] }",
        );
        let new = config(
            "http.b = { listen = ['127.0.0.1:82', '127.0.0.1:83'], pool = 'x' }
             http.c = { listen = ['127.0.0.1:84'], pool = 'x' }
             pool.x = { servers = ['10.0.0.3:80', '10.0.0.2:80'], proxy_protocol = 'v1' }",
        );
        let moves = Moves::between(&old, &new);
        let listeners: Vec<_> = (0..3).map(|at| moves.listener(ListenerId(at)).map(|id| id.0)).collect();
        assert_eq!(listeners, [None, None, Some(1)], "82 leads to another block now");
        assert_eq!((moves.http(HttpId(0)), moves.http(HttpId(1))), (None, Some(HttpId(0))));
        assert_eq!((moves.pool(PoolId(0)), moves.pool(PoolId(1))), (Some(PoolId(0)), None));
        let servers: Vec<_> = (0..4).map(|at| moves.server(ServerId(at)).map(|id| id.0)).collect();
        assert_eq!(servers, [None, Some(1), None, None], "one of two twins is left");
        assert_eq!(moves.kept(ServerId(1)), None, "the connection speaks differently now");
        let same = Moves::between(&new, &new);
        assert_eq!(same.kept(ServerId(1)), Some(ServerId(1)));
    }
}

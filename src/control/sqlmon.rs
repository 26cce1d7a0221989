//! The SQL monitor: every server of every `[sql]` block is asked again and again what it is and how far.
//!
//! What goes in: editions. What comes out: roles, lag, positions and accounts in the clusters that workers look at, a line of
//! the log for each change, numbers for people. It owns: a task and a connection per server, and what a block remembers.
//! Always true: a block and a server whose configuration stays keep what is known of them over reloads; a server that no
//! edition has is not asked any more.
//!
//! [`judge`] decides who is what, [`lag`] how far, [`status`] and [`accounts`] read what servers say, [`client`] and
//! [`tables`] speak with them; [`server`] is the task, [`block`] puts answers together.

mod accounts;
mod block;
mod client;
mod judge;
mod lag;
mod server;
mod status;
mod tables;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::checks::CheckView;
use crate::cluster::{Member, Role};
use crate::config::model::{Config, Sql, SqlUsers};
use crate::ids::ServerId;
use crate::net::Address;
use crate::worker::edition::Edition;
use crate::worker::shared::Shared;

use block::Block;
use client::Plan;
use server::{Round, Watched};

/// What there is to say about a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockView {
    /// How often a primary followed another one.
    pub primary_changes: u64,
    /// Two servers take writes.
    pub is_double: bool,
    /// Accounts that may log in.
    pub accounts: usize,
}

/// By what a server of a block is known from edition to edition.
type Known = (String, Address);

/// All monitored blocks.
pub struct Monitor {
    shared: Arc<Shared>,
    blocks: HashMap<String, Watch>,
}

/// A block and its servers by what they are known by.
struct Watch {
    block: Rc<Block>,
    servers: HashMap<Known, Rc<Watched>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.servers.values().for_each(|server| server.stop());
        // The block knows its servers, and who was primary.
        self.block.forget();
    }
}

impl Monitor {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, blocks: HashMap::new() }
    }

    /// Begins to ask servers that are new in an edition, and stops with those that it does not have. To be called in the same
    /// breath as the edition is published, within a `LocalSet`.
    pub fn follow(&mut self, edition: &Edition) {
        let mut before = std::mem::take(&mut self.blocks);
        for (sql, cluster) in edition.config.sql.iter().zip(&edition.clusters) {
            let mut watch = before.remove(&sql.name).unwrap_or_else(|| {
                let block = Rc::new(Block::new(&sql.name, cluster.clone()));
                Watch { block, servers: HashMap::new() }
            });
            watch.block.cluster.replace(cluster.clone());
            match &sql.users {
                SqlUsers::Listed(users) => cluster.use_accounts(Arc::new(accounts::listed(users))),
                // What the table said before may have been replaced by a list.
                SqlUsers::FromServer => watch.block.hurry_accounts(),
            }
            self.follow_servers(&mut watch, &edition.config, sql);
            self.blocks.insert(sql.name.clone(), watch);
        }
    }

    fn follow_servers(&self, watch: &mut Watch, config: &Config, sql: &Sql) {
        let mut before = std::mem::take(&mut watch.servers);
        let mut order = Vec::new();
        let mut new = Vec::new();
        for id in &config.pools[sql.pool.index()].servers {
            let server = &config.servers[id.index()];
            if !server.is_found() {
                continue;
            }
            let plan = Rc::new(plan(config, sql, *id));
            let known = (server.name.clone(), server.address.clone());
            let watched = before.remove(&known).unwrap_or_else(|| {
                let watched = watched(&known, *id, plan.clone());
                new.push(watched.clone());
                watched
            });
            watched.server.set(*id);
            watched.users.replace(sql.users.clone());
            let old = watched.plan.replace(plan.clone());
            if !old.is_like(&plan) {
                watched.hurry.notify_one();
            }
            order.push(watched.clone());
            watch.servers.insert(known, watched);
        }
        before.into_values().for_each(|gone| gone.stop());
        watch.block.servers.replace(order);
        for watched in new {
            let round = Round {
                block: Rc::downgrade(&watch.block),
                watched: Rc::downgrade(&watched),
                shared: self.shared.clone(),
            };
            watched.task.replace(Some(tokio::task::spawn_local(round.run()).abort_handle()));
        }
    }

    /// What there is to say about a block of this name.
    pub fn view(&self, name: &str) -> BlockView {
        self.blocks.get(name).map_or_else(BlockView::default, |watch| BlockView {
            primary_changes: watch.block.changes.get(),
            is_double: watch.block.is_double.get(),
            accounts: watch.block.cluster.borrow().accounts().len(),
        })
    }

    /// What the last question to a server said; `None` for a server that is not of a block.
    pub fn check_view(&self, edition: &Edition, server: ServerId) -> Option<CheckView> {
        let about = &edition.config.servers[server.index()];
        let sql = edition.config.sql.iter().find(|sql| sql.pool == about.pool)?;
        let watch = self.blocks.get(&sql.name)?;
        let watched = watch.servers.get(&(about.name.clone(), about.address.clone()))?;
        Some(watched.view())
    }
}

/// What is known of a server of a block; `None` for another one.
pub fn member(edition: &Edition, server: ServerId) -> Option<&Member> {
    edition.clusters.iter().find_map(|cluster| cluster.member(server))
}

fn watched(known: &Known, id: ServerId, plan: Rc<Plan>) -> Rc<Watched> {
    let (name, address) = known;
    let shown = address.to_string();
    let title = if *name == shown { shown } else { format!("{name} ({shown})") };
    let (ip, port) = match address {
        Address::Tcp(address) => (address.ip().to_string(), address.port()),
        Address::Unix(_) => (String::new(), 0),
    };
    Rc::new(Watched {
        title,
        hosts: [ip, plan.host.clone()],
        port,
        server: Cell::new(id),
        plan: RefCell::new(plan),
        users: RefCell::default(),
        hurry: Notify::new(),
        task: RefCell::default(),
        seen: RefCell::default(),
        tried: Cell::new(false),
        view: RefCell::default(),
        server_id: Cell::new(None),
        contested: Cell::new(false),
        role: Cell::new(Role::Unknown),
        replicates: Cell::new(false),
        behind: Cell::new(None),
        trouble: RefCell::default(),
        stopped: RefCell::default(),
        unread: RefCell::default(),
    })
}

fn plan(config: &Config, sql: &Sql, id: ServerId) -> Plan {
    let (server, pool) = (&config.servers[id.index()], &config.pools[sql.pool.index()]);
    Plan {
        address: server.address.clone(),
        host: server.host.clone(),
        account: sql.account.clone(),
        tls: pool.tls.clone(),
        send_proxy: pool.send_proxy,
    }
}

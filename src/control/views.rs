//! The process as JSON: what the admin interface, the dashboard and `ringgate top` show.
//!
//! What goes in: the state. What comes out: values of the admin interface's version 1. It owns nothing. Always true: fields
//! are added, never renamed; nothing secret is in them.

use std::sync::mpsc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::checks::CheckView;
use super::handover;
use super::live::{Difference, Name};
use super::names::Names;
use super::state::State;
use super::{sqlmon, stats};
use crate::balance::ServerView;
use crate::clock;
use crate::config::model::{Balance, Block, Config};
use crate::counters::Count;
use crate::ids::{ListenerId, WorkerId};
use crate::limits::STALE_NAMES_MAX;
use crate::worker::edition::Edition;
use crate::worker::shared::{Ask, SessionView};

/// The process as a whole.
pub fn status(state: &State, with_history: bool) -> Value {
    let (shared, edition) = (&state.shared, state.shared.edition());
    let checks = state.check_counts();
    let loaded_at = jiff::Timestamp::try_from(state.loaded_at()).map(|at| at.to_string()).unwrap_or_default();
    let mut view = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_s": clock::now().since(state.since).as_secs(),
        "engine": state.engine.to_string(),
        "workers": shared.workers(),
        "edition": edition.number,
        "loaded_at": loaded_at,
        "file": state.origin.file.as_ref().map(|file| file.display().to_string()),
        "draining": shared.is_draining(),
        "connections": {
            "open": shared.sum(Count::Open),
            "accepted": shared.sum(Count::Accepted),
            "max": edition.config.limits.connections_max,
        },
        "requests": shared.sum(Count::Requests),
        "checks": {
            "done": checks.done,
            "failed": checks.failed,
            "went_down": checks.went_down,
            "came_up": checks.came_up,
        },
        "names": names(state.names()),
        "workers_load": (0..shared.workers()).map(|at| load(state, at)).collect::<Vec<_>>(),
    });
    state.stats.put_whole(&mut view, with_history);
    view
}

fn load(state: &State, worker: usize) -> Value {
    let counters = &state.shared.seat(WorkerId(u32::try_from(worker).unwrap_or(0))).counters;
    json!({
        "worker": worker,
        "busy": state.stats.busy(worker),
        "connections": counters.get(Count::Open),
        "turns": counters.get(Count::Turns),
        "pages_lent": counters.get(Count::PagesLent),
    })
}

fn names(names: &Names) -> Value {
    let stale = names.stale();
    let shown = stale.iter().take(STALE_NAMES_MAX);
    let view = |(name, error): (&String, &String)| json!({ "name": name, "error": error });
    json!({ "failures": names.failures(), "failing": stale.len(), "stale": shown.map(view).collect::<Vec<_>>() })
}

/// What listens.
pub fn listeners(state: &State) -> Value {
    let edition = state.shared.edition();
    let view = |(at, listener): (u32, &crate::config::model::Listener)| {
        let (block, kind, tls) = match edition.config.block(listener.serves) {
            Block::Http(http) => (&http.name, "http", http.tls.is_some()),
            Block::Tcp(tcp) => (&tcp.name, "tcp", tcp.tls.is_some()),
            Block::Sql(sql) => (&sql.name, "sql", sql.tls.is_some()),
        };
        let (accepted, open) = edition.meters.listener(ListenerId(at)).sums();
        let address = listener.address.to_string();
        let rate = state.stats.listener_rate(&address);
        json!({
            "address": address, "block": block, "kind": kind, "tls": tls,
            "open": open, "accepted": accepted, "rate": rate,
        })
    };
    (0u32..).zip(&edition.config.listeners).map(view).collect()
}

/// Pools and servers.
pub fn servers(state: &State, with_history: bool) -> Value {
    let edition = state.shared.edition();
    let file = state.expanded(&state.file());
    let views: Vec<ServerView> = edition.balancer.servers().collect();
    let pools = (0u32..).zip(&edition.config.pools).map(|(at, pool)| {
        let list: Vec<Value> = pool
            .servers
            .iter()
            .map(|id| server_view(state, &file, &edition, &views[id.index()], with_history))
            .collect();
        json!({
            "name": pool.name,
            "balance": balance_word(pool.balance),
            "waiting": edition.waiting(crate::ids::PoolId(at)),
            "servers": list,
        })
    });
    json!({ "pools": pools.collect::<Vec<_>>() })
}

/// One server; null when there is none of that name.
pub fn server(state: &State, (pool, name): &Name) -> Value {
    let edition = state.shared.edition();
    let Some(id) = super::live::find_id(&edition.config, pool, name) else { return Value::Null };
    let view = edition.balancer.servers().nth(id.index());
    view.map_or(Value::Null, |view| {
        server_view(state, &state.expanded(&state.file()), &edition, &view, false)
    })
}

fn server_view(
    state: &State,
    file: &Config,
    edition: &Edition,
    view: &ServerView,
    with_history: bool,
) -> Value {
    let server = &edition.config.servers[view.server.index()];
    let pool = &edition.config.pools[server.pool.index()].name;
    let written = super::live::find(file, &(pool.clone(), server.name.clone())).map(|one| one.weight);
    let check = if server.is_found() { state.check_view(edition, view.server) } else { Some(not_found()) };
    let word = if server.is_found() { view.state(clock::now()) } else { "down" };
    let sums = edition.meters.server(view.server).sums();
    let mut all = json!({
        "name": server.name,
        "of": server.lookup.as_ref().map(|_| server.name_in_file()),
        "address": if server.is_found() { server.address.to_string() } else { "not resolved".into() },
        "state": word,
        "admin": view.admin.word(),
        "weight": server.weight,
        "weight_file": written,
        "backup": server.backup,
        "in_flight": view.in_flight,
        "connections_max": server.connections_max,
        "requests": sums.exchanges(),
        "errors": sums.failed + view.failed,
        "check": checked(check),
    });
    if let Some(member) = sqlmon::member(edition, view.server) {
        all["role"] = member.role().word().into();
        all["lag_ms"] = json!(member.lag().map(|lag| (lag.as_secs_f64() * 1e4).round() / 10.0));
        all["reached"] = member.is_reached().into();
    }
    state.stats.put_server(&stats::known(&edition.config, view.server), &mut all, with_history);
    all
}

/// What there is to say about a name that was never resolved.
fn not_found() -> CheckView {
    CheckView { text: "its name cannot be resolved".into(), ..CheckView::default() }
}

fn checked(view: Option<CheckView>) -> Value {
    let view = view.unwrap_or_default();
    json!({
        "result": view.result(),
        "text": view.text,
        "at": view.at.and_then(|at| jiff::Timestamp::try_from(at).ok()).map(|at| at.to_string()),
        "failures": view.failures,
    })
}

const fn balance_word(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastConnections => "least_connections",
        Balance::IpHash => "ip_hash",
        Balance::RandomTwo => "random_two",
    }
}

/// Connections of all workers, the oldest first.
pub async fn sessions(state: &State, limit: usize) -> Value {
    let (tell, told) = mpsc::channel();
    state.shared.ask(|_| {
        let tell = tell.clone();
        Ask::Sessions(limit, Box::new(move |views| _ = tell.send(views)))
    });
    drop(tell);
    let lists = handover::answers(&told, state.shared.workers()).await;
    let mut views: Vec<SessionView> = lists.into_iter().flatten().collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.age));
    views.iter().take(limit).map(session).collect()
}

fn session(view: &SessionView) -> Value {
    json!({
        "worker": view.worker.0,
        "id": format!("{}.{}", view.id.slot, view.id.generation),
        "client": view.about.client.map(|client| client.to_string()),
        "listener": view.listener,
        "kind": view.about.kind,
        "phase": view.about.phase,
        "age_s": view.age.as_secs_f64(),
        "requests": view.about.requests,
        "pool": view.pool,
        "server": view.server,
    })
}

/// Certificates of all listeners.
pub fn certs(config: &Config) -> Value {
    let view = |(block, one): (&str, &crate::tls::certs::Description)| {
        json!({
            "block": block,
            "file": one.file.display().to_string(),
            "names": one.names,
            "issuer": one.issuer,
            "not_after": jiff::Timestamp::try_from(one.not_after).map(|at| at.to_string()).ok(),
            "days_left": days_until(one.not_after),
        })
    };
    config.certificates().map(view).collect()
}

/// Whole days until a moment; negative when it is over.
fn days_until(moment: SystemTime) -> i64 {
    const DAY: u64 = 24 * 3600;
    match moment.duration_since(clock::wall()) {
        Ok(left) => i64::try_from(left.as_secs() / DAY).unwrap_or(i64::MAX),
        Err(over) => -1 - i64::try_from(over.duration().as_secs() / DAY).unwrap_or(0),
    }
}

/// Where the process and the file disagree.
pub fn differences(list: &[Difference]) -> Value {
    let view = |one: &Difference| json!({ "what": one.what, "file": one.file, "process": one.process });
    list.iter().map(view).collect()
}

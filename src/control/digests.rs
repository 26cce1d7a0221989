//! Shapes of SQL statements as JSON: the busiest and the slowest, by block, with what splitting did.
//!
//! What goes in: the workers' tables, asked for when somebody wants to see them, and sums of the meters. What comes out: values of
//! the admin interface's version 1. It owns nothing. Always true: no literal of a statement is in it.

use std::cmp::Reverse;
use std::sync::mpsc;

use serde_json::{Map, Value, json};

use super::handover;
use super::state::State;
use crate::access::Wait;
use crate::ids::SqlId;
use crate::meters::digests::{Digest, DigestSums, Table};
use crate::route::split::Pin;
use crate::worker::edition::Edition;
use crate::worker::shared::Ask;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// What took the most time altogether.
    Time,
    /// What came most often.
    Count,
    /// Of what one took longest.
    Max,
    /// What failed most often.
    Errors,
}

impl By {
    /// The order of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        let all =
            [("time", Self::Time), ("count", Self::Count), ("max", Self::Max), ("errors", Self::Errors)];
        all.into_iter().find(|(known, _)| *known == word).map(|(_, by)| by)
    }

    const fn of(self, sums: &DigestSums) -> u64 {
        match self {
            Self::Time => sums.nanos,
            Self::Count => sums.count,
            Self::Max => sums.nanos_max,
            Self::Errors => sums.errors,
        }
    }
}

/// The shapes of all blocks, or of one: so many at most of each.
pub async fn view(state: &State, block: Option<&str>, by: By, limit: usize) -> Value {
    let (tell, told) = mpsc::channel();
    state.shared.ask(|_| {
        let tell = tell.clone();
        Ask::Digests(Box::new(move |tables| _ = tell.send(tables)))
    });
    drop(tell);
    let all = handover::answers(&told, state.shared.workers()).await;
    let edition = state.shared.edition();
    let blocks =
        (0u32..).zip(&edition.config.sql).filter(|(_, sql)| block.is_none_or(|name| name == sql.name));
    let view = |(at, sql): (u32, &crate::config::model::Sql)| {
        let mut table = Table::default();
        let own = all.iter().flatten().filter(|(name, _)| *name == sql.name);
        own.for_each(|(_, other)| table.merge(other));
        let mut view = shapes(&table, by, limit);
        view.insert("block".into(), sql.name.clone().into());
        view.insert("split".into(), split(&edition, SqlId(at)));
        Value::Object(view)
    };
    json!({ "blocks": blocks.map(view).collect::<Vec<_>>() })
}

fn shapes(table: &Table, by: By, limit: usize) -> Map<String, Value> {
    let mut list: Vec<(u64, &Digest)> = table.shapes().collect();
    list.sort_by_key(|(digest, shape)| (Reverse(by.of(&shape.sums)), *digest));
    let mut whole = *table.gone();
    list.iter().for_each(|(_, shape)| whole.merge(&shape.sums));
    let known = list.len();
    let shown = list.iter().take(limit).map(|(digest, shape)| {
        let mut view = sums(&shape.sums);
        view.insert("digest".into(), format!("{digest:016x}").into());
        view.insert("share".into(), share(shape.sums.nanos, whole.nanos).into());
        view.insert("text".into(), json!(shape.text.as_deref()));
        Value::Object(view)
    });
    let shown: Vec<Value> = shown.collect();
    let mut view = sums(&whole);
    view.insert("shapes".into(), shown.into());
    view.insert("known".into(), known.into());
    view.insert("gone".into(), Value::Object(sums(table.gone())));
    view
}

fn sums(sums: &DigestSums) -> Map<String, Value> {
    let ms = |nanos: u64| (nanos as f64 / 1e3).round() / 1e3;
    let mean = sums.nanos.checked_div(sums.count).map(ms);
    let fields = [
        ("statements", json!(sums.count)),
        ("errors", json!(sums.errors)),
        ("on_replica", json!(sums.on_replica)),
        ("bytes_out", json!(sums.bytes_out)),
        ("time_ms", json!(ms(sums.nanos))),
        ("mean_ms", json!(mean)),
        ("max_ms", json!(ms(sums.nanos_max))),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// 0 to 1.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}

/// What splitting did with the statements of a block since the start.
fn split(edition: &Edition, id: SqlId) -> Value {
    let sums = edition.meters.splits(id).sums();
    let waits: Map<String, Value> = Wait::ALL
        .iter()
        .zip(sums.waits)
        .map(|(wait, count)| (wait.word().to_owned(), count.into()))
        .collect();
    let pins = Pin::ALL.iter().zip(sums.pins).filter(|(_, count)| *count > 0);
    let pinned: Map<String, Value> = pins.map(|(pin, count)| (pin.word().to_owned(), count.into())).collect();
    let (mut primary, mut replica) = (0, 0);
    for (target, _, meter) in edition.meters.reasons(id) {
        let count = meter.sums().exchanges();
        *(if target == "replica" { &mut replica } else { &mut primary }) += count;
    }
    json!({
        "primary": primary,
        "replica": replica,
        "fenced": sums.fenced,
        "denied": sums.denied,
        "state_lost": sums.lost,
        "waits": waits,
        "pinned": pinned,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_whole_and_nothing_has_none() {
        assert_eq!((share(1, 3), share(5, 0), share(7, 7)), (0.3333, 0.0, 1.0));
        let view = shapes(&Table::default(), By::Time, 10);
        assert_eq!(
            (&view["statements"], &view["mean_ms"], &view["known"]),
            (&json!(0), &Value::Null, &json!(0))
        );
    }
}

//! How `top` looks.
//!
//! What goes in: a [`View`] and a frame of any size. What comes out: cells of that frame. It owns nothing. Always true:
//! nothing is drawn outside the frame, whatever its size; states are words as well as colours.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, RenderDirection, Row as Line_, Sparkline, Table, TableState};

use super::super::ctl::{clean, milliseconds, number, per_second, span};
use super::view::{Row, Snapshot, Sort, View};

const QUIET: Style = Style::new().fg(Color::DarkGray);
const TITLE: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
/// Lines of the curve.
const CURVE_LINES: u16 = 3;
/// Listeners or workers that are shown at most; the last line says how many more there are.
const BELOW_LINES_MAX: usize = 6;

/// The whole picture, with the marked row and the keys.
pub(super) fn live(frame: &mut Frame<'_>, view: &mut View) {
    let [head, curve, servers, below, keys] = areas(frame.area(), view, 1);
    draw_all(frame, view, head, curve, below);
    let mut state = TableState::default().with_selected((!view.servers().is_empty()).then_some(view.chosen));
    let table = table(view).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, servers, &mut state);
    let line = Line::from(vec![
        " q".bold(),
        " leave  ".into(),
        "p".bold(),
        " pause  ".into(),
        "↑↓".bold(),
        " move   sort: ".into(),
        "n".bold(),
        "ame ".into(),
        "s".bold(),
        "tate in-".into(),
        "f".bold(),
        "light ".into(),
        "r".bold(),
        "ate ".into(),
        "l".bold(),
        "atency ".into(),
        "e".bold(),
        "rrors".into(),
    ]);
    frame.render_widget(Paragraph::new(line).style(QUIET), keys);
}

/// The picture without what a terminal is needed for.
pub(super) fn plain(frame: &mut Frame<'_>, view: &View) {
    let [head, curve, servers, below, _] = areas(frame.area(), view, 0);
    draw_all(frame, view, head, curve, below);
    frame.render_widget(table(view), servers);
}

/// Lines of a plain picture that shows every server.
pub(super) fn lines(view: &View) -> u16 {
    let servers = u16::try_from(view.servers().len()).unwrap_or(u16::MAX);
    // The head, the table's own head, an empty line.
    servers.saturating_add(3 + 1 + 1 + below_lines(view)).max(18)
}

/// Lines of the listeners and workers, with their titles.
fn below_lines(view: &View) -> u16 {
    let counts = view.last.as_ref().map(|last| last.listeners.len().max(last.status.workers_load.len()));
    counts.unwrap_or(0).min(BELOW_LINES_MAX) as u16 + 1
}

fn areas(all: Rect, view: &View, keys: u16) -> [Rect; 5] {
    let below = below_lines(view);
    // A curve and what stands below it are the first to go when the terminal is low.
    let (curve, below) = match all.height {
        0..12 => (0, 0),
        12..18 => (CURVE_LINES, 0),
        _ => (CURVE_LINES, below),
    };
    // A picture without a marked row has no past that a curve could show.
    let curve = if view.rates.len() < 2 && keys == 0 { 0 } else { curve };
    Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(curve),
        Constraint::Min(1),
        Constraint::Length(below),
        Constraint::Length(keys),
    ])
    .areas(all)
}

fn draw_all(frame: &mut Frame<'_>, view: &View, head: Rect, curve: Rect, below: Rect) {
    draw_head(frame, view, head);
    let rates: Vec<u64> = view.rates.iter().rev().copied().collect();
    let line = Sparkline::default().data(rates).direction(RenderDirection::RightToLeft).style(Color::Cyan);
    frame.render_widget(line, curve);
    if let Some(last) = &view.last {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(2).areas(below);
        draw_listeners(frame, last, left);
        draw_workers(frame, last, right);
    }
}

fn draw_head(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let state = match (&view.trouble, &view.last, view.is_paused) {
        (_, _, true) => " paused ".black().on_yellow(),
        (Some(_), Some(_), _) => " connection lost, trying again ".white().on_red(),
        (Some(_), None, _) => " no connection, trying again ".white().on_red(),
        (None, None, _) => " connecting ".black().on_gray(),
        (None, Some(last), _) if last.status.draining => " draining ".black().on_yellow(),
        (None, Some(_), _) => " live ".black().on_green(),
    };
    let [line_1, line_2, _] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    frame.render_widget(Paragraph::new(Line::from(state)).alignment(Alignment::Right), line_1);
    let Some(last) = &view.last else {
        let why = view.trouble.as_ref().map_or(view.place.as_str(), |trouble| trouble.what.as_str());
        frame.render_widget(Paragraph::new(clean(why)), line_2);
        return;
    };
    let status = &last.status;
    let first = Line::from(vec![
        Span::styled("ringgate ", TITLE),
        Span::styled(clean(&status.version), TITLE),
        format!("  up {}  {}  edition {}", span(status.uptime_s), clean(&status.engine), status.edition)
            .into(),
    ]);
    let room = line_1.width.saturating_sub(32);
    frame.render_widget(Paragraph::new(first), Rect { width: room, ..line_1 });
    let errors = format!("{} errors/s", per_second(status.errors_rate));
    let latency = &status.latency_ms;
    let second = Line::from(vec![
        format!("{} req/s", per_second(status.rate)).bold(),
        "   ".into(),
        if status.errors_rate.unwrap_or(0.0) > 0.0 { errors.red() } else { Span::raw(errors) },
        format!(
            "   p50 {}  p90 {}  p99 {} ms   {} of {} conn.",
            milliseconds(latency.p50),
            milliseconds(latency.p90),
            milliseconds(latency.p99),
            status.connections.open,
            status.connections.max,
        )
        .into(),
    ]);
    frame.render_widget(Paragraph::new(second), line_2);
}

fn table(view: &View) -> Table<'_> {
    let has_roles = view.servers().iter().any(|row| row.server.role.is_some());
    let mut head = vec![
        ("SERVER", Sort::Name, false),
        ("STATE", Sort::State, false),
        ("WEIGHT", Sort::Name, true),
        ("IN FLIGHT", Sort::InFlight, true),
        ("REQ/S", Sort::Rate, true),
        ("P50 MS", Sort::Name, true),
        ("P99 MS", Sort::Latency, true),
        ("ERRORS/S", Sort::Errors, true),
    ];
    if has_roles {
        head.insert(2, ("ROLE", Sort::Name, false));
    }
    let head = head.into_iter().enumerate().map(|(column, (word, sort, is_number))| {
        // Role, weight and p50 are no orders: they stand for none of the keys.
        let is_order = sort == view.sort && (column == 0 || sort != Sort::Name);
        let style = if is_order { TITLE.add_modifier(Modifier::UNDERLINED) } else { TITLE };
        cell(word.to_owned(), is_number).style(style)
    });
    let mut widths = vec![
        Constraint::Min(16),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
    ];
    if has_roles {
        widths.insert(2, Constraint::Length(14));
    }
    let rows = view.servers().iter().map(|one| row(one, has_roles));
    Table::new(rows, widths).header(Line_::new(head)).column_spacing(1)
}

fn cell(text: String, is_number: bool) -> Cell<'static> {
    let line = Line::from(text);
    Cell::from(if is_number { line.right_aligned() } else { line })
}

fn row(row: &Row, has_roles: bool) -> Line_<'static> {
    let server = &row.server;
    let errors = row.errors_rate.map_or("-".to_owned(), per_second);
    let has_errors = row.errors_rate.is_some_and(|rate| rate > 0.0);
    let mut cells = vec![
        cell(clean(&format!("{}/{}", row.pool, server.name)), false),
        cell(clean(&server.state), false).style(colour(&server.state)),
        cell(server.weight.to_string(), true),
        cell(server.in_flight.to_string(), true),
        cell(per_second(server.rate), true),
        cell(milliseconds(server.latency_ms.p50), true),
        cell(milliseconds(server.latency_ms.p99), true),
        cell(errors, true).style(if has_errors { Color::Red } else { Color::Reset }),
    ];
    if has_roles {
        cells.insert(2, cell(clean(&server.part().unwrap_or_default()), false));
    }
    Line_::new(cells)
}

/// The colour of a state.
fn colour(state: &str) -> Color {
    match state {
        "up" => Color::Green,
        "warming" => Color::Cyan,
        "drain" | "maint" => Color::Yellow,
        _ => Color::Red,
    }
}

/// The first lines of a list, and how many more there are.
fn some(lines: Vec<Line<'static>>, area: Rect) -> Vec<Line<'static>> {
    let room = usize::from(area.height);
    if lines.len() <= room {
        return lines;
    }
    let more = lines.len() - room.saturating_sub(1);
    let mut shown: Vec<_> = lines.into_iter().take(room.saturating_sub(1)).collect();
    shown.push(Line::from(format!("and {more} more")).style(QUIET));
    shown
}

fn draw_listeners(frame: &mut Frame<'_>, last: &Snapshot, area: Rect) {
    let mut lines = vec![Line::from(Span::styled("LISTENERS", TITLE))];
    lines.extend(last.listeners.iter().map(|listener| {
        let tls = if listener.tls { " TLS" } else { "" };
        let name = format!("{} {}.{}{tls}", listener.address, listener.kind, listener.block);
        Line::from(clean(&format!("{name}  {} open, {}/s", number(listener.open), per_second(listener.rate))))
    }));
    frame.render_widget(Paragraph::new(some(lines, area)), area);
}

fn draw_workers(frame: &mut Frame<'_>, last: &Snapshot, area: Rect) {
    const CELLS: usize = 10;
    let mut lines = vec![Line::from(Span::styled("WORKERS", TITLE))];
    lines.extend(last.status.workers_load.iter().map(|load| {
        let busy = load.busy.clamp(0.0, 1.0);
        let full = (busy * CELLS as f64).round() as usize;
        let colour = if busy > 0.9 { Color::Red } else { Color::Green };
        Line::from(vec![
            format!("{:>3} ", load.worker).into(),
            "█".repeat(full).fg(colour),
            Span::styled("·".repeat(CELLS - full), QUIET),
            format!(" {:>3.0} %  {} conn", busy * 100.0, load.connections).into(),
        ])
    }));
    frame.render_widget(Paragraph::new(some(lines, area)), area);
}

#[cfg(test)]
mod tests;

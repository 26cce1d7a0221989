//! Pictures of every size.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::super::admin_client::Trouble;
use super::*;

fn snapshot(servers: usize) -> Snapshot {
    let states = ["up", "down", "ejected", "warming", "drain", "maint"];
    let list: Vec<String> = (0..servers)
        .map(|at| {
            let state = states[at % states.len()];
            format!(
                r#"{{"name":"s{at}","address":"10.0.0.{at}:80","state":"{state}","weight":1,"in_flight":{at},"rate":{at}.5,
                 "errors":1,"errors_rate":0.5,"latency_ms":{{"p50":1.24,"p99":12.0}}}}"#
            )
        })
        .collect();
    Snapshot {
        status: serde_json::from_str(
            r#"{"version":"0.1.0","pid":1,"uptime_s":200000,"engine":"io_uring","edition":4,"rate":1234.4,"errors_rate":0.2,
                "connections":{"open":120,"max":100000},"latency_ms":{"p50":1.2,"p90":3.4,"p99":12.3},
                "workers_load":[{"worker":0,"busy":0.42,"connections":60},{"worker":1,"busy":0.95,"connections":60}]}"#,
        )
        .unwrap(),
        servers: serde_json::from_str(&format!(r#"{{"pools":[{{"name":"web","servers":[{}]}}]}}"#, list.join(","))).unwrap(),
        listeners: serde_json::from_str(
            r#"[{"address":"0.0.0.0:443","block":"public","kind":"http","tls":true,"open":118,"rate":12.0},
                {"address":"127.0.0.1:5432","block":"db","kind":"tcp","open":2,"rate":0}]"#,
        )
        .unwrap(),
        ..Snapshot::default()
    }
}

fn picture(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| live(frame, view)).unwrap();
    let cells = &terminal.backend().buffer().content;
    let line = |row: &[ratatui::buffer::Cell]| {
        row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
    };
    cells.chunks(usize::from(width)).map(line).collect::<Vec<_>>().join("\n")
}

fn view(servers: usize) -> View {
    let mut view = View::new("unix:/run/x".into());
    for _ in 0..5 {
        view.take(Ok(snapshot(servers)));
    }
    view
}

#[test]
fn everything_is_there_at_80_by_24() {
    let found = picture(&mut view(3), 80, 24);
    let expected = "\
ringgate 0.1.0  up 2d 7h  io_uring  edition 4                              live
1234 req/s   0.2 errors/s   p50 1.2  p90 3.4  p99 12 ms   120 of 100000 conn.

                                                                           █████
                                                                           █████
                                                                           █████
SERVER                  STATE    WEIGHT IN FLIGHT   REQ/S P50 MS P99 MS ERRORS/S
web/s0                  up            1         0     0.5    1.2     12      0.5
web/s1                  down          1         1     1.5    1.2     12      0.5
web/s2                  ejected       1         2     2.5    1.2     12      0.5










LISTENERS                                        WORKERS
0.0.0.0:443 http.public TLS  118 open, 12/s        0 ████······  42 %  60 conn
127.0.0.1:5432 tcp.db  2 open, 0/s                 1 ██████████  95 %  60 conn
 q leave  p pause  ↑↓ move   sort: name state in-flight rate latency errors";
    assert!(found == expected, "{found}\n---\n{expected}");
}

#[test]
fn any_size_will_do() {
    for servers in [0, 1, 200] {
        for (width, height) in [(1, 1), (10, 3), (40, 11), (60, 13), (80, 24), (200, 60)] {
            picture(&mut view(servers), width, height);
        }
    }
    // The marked row is always in the picture.
    let mut many = view(200);
    many.step(isize::MAX);
    let last = format!("web/{} ", many.servers()[199].server.name);
    assert!(picture(&mut many, 80, 24).contains(&last), "{last}");
}

#[test]
fn a_lost_connection_is_said() {
    let mut view = view(2);
    view.take(Err(Trouble::new("gone", "")));
    let found = picture(&mut view, 80, 24);
    assert!(found.contains("connection lost, trying again") && found.contains("web/s1"), "{found}");
    let mut never = View::new("unix:/run/x".into());
    assert!(picture(&mut never, 80, 24).contains("connecting"));
    never.take(Err(Trouble::new("nothing listens at unix:/run/x", "")));
    let found = picture(&mut never, 80, 24);
    assert!(found.contains("no connection, trying again") && found.contains("nothing listens at"), "{found}");
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let mut bad = snapshot(1);
    bad.servers.pools[0].servers[0].name = "a\x1b[2Jb".into();
    let mut view = View::new("x".into());
    view.take(Ok(bad));
    let found = picture(&mut view, 80, 24);
    assert!(!found.contains('\x1b') && found.contains("[2Jb"), "{found}");
}

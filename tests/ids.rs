//! What marks a request on its way: ids for the server, the client and the log; how a request was decided, for those who
//! show the token.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::wire::Message;
use common::{Ringgate, Server, Wire, address, eventually, site};
use serde_json::Value;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The lines of the log, once there are so many.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines are logged"), || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        (text.lines().count() >= count)
            .then(|| text.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
    })
}

/// Sends one request with these further fields: the answer, and the head as the server received it, in small letters.
fn ask(at: SocketAddr, server: &Server, fields: &str) -> (Message, String) {
    server.forget();
    let mut client = Wire::connect(at);
    let answer = client.ask(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    (answer, server.text().to_lowercase())
}

/// The values of a field in a head in small letters.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.split("\r\n").filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

both_engines! {
    fn ids_go_to_the_server_the_client_and_the_log(engine) {
        let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: the-servers\r\n\r\nok");
        let at = address();
        let text = format!("{}\n[log]\naccess = \"file:access.log\"\n", site(at, "", "", &[server.address]));
        let gate = Ringgate::start(engine, &text);
        let path = gate.folder().join("access.log");
        let mut seen = std::collections::HashSet::new();
        let long = format!("X-Request-Id: {}\r\n", "a".repeat(129));
        let junk = ["", "X-Request-Id: a b\r\n", "X-Request-Id: a\r\nX-Request-Id: b\r\n", "X-Request-Id:\r\n", &long,
            "X-Request-Id: a;b\r\nX_Request_Id: c\r\n", "X-Request-Id: \"<script>\"\r\n", "X-Request-Id: a\r\nX_Request_Id: b\r\n"];
        for (turn, fields) in junk.into_iter().enumerate() {
            let (answer, head) = ask(at, &server, fields);
            let [id] = values(&head, "x-request-id")[..] else { panic!("{head}") };
            assert!(is_hex(id, 32) && seen.insert(id.to_owned()), "{head}");
            assert!(!head.contains("x_request_id"), "{head}");
            assert_eq!(answer.fields("X-Request-Id"), [id], "{}", answer.head);
            let [trace] = values(&head, "traceparent")[..] else { panic!("{head}") };
            let parts: Vec<&str> = trace.split('-').collect();
            assert!(parts[0] == "00" && is_hex(parts[1], 32) && is_hex(parts[2], 16) && parts[3] == "00", "{trace}");
            assert!(parts[1] != id && seen.insert(parts[1].to_owned()), "{head}");
            let all = lines(&path, turn + 1);
            assert_eq!((&all[turn]["request_id"], &all[turn]["trace_id"]), (&id.into(), &parts[1].into()));
        }
        // What is well-formed is kept.
        let fields = format!("x-request-id: Root=1-67/a.b\r\nTraceparent: {TRACE}\r\nTracestate: v=1\r\n");
        let (answer, head) = ask(at, &server, &fields);
        assert_eq!(values(&head, "x-request-id"), ["root=1-67/a.b"], "{head}");
        assert_eq!((values(&head, "traceparent"), values(&head, "tracestate")), (vec![TRACE], vec!["v=1"]), "{head}");
        assert_eq!(answer.fields("X-Request-Id"), ["Root=1-67/a.b"]);
        assert_eq!(lines(&path, junk.len() + 1).pop().unwrap()["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        // What is not begins a trace here, and the state of the other one goes.
        for bad in [TRACE.to_uppercase(), TRACE.replace("b7ad6b7169203331", "0000000000000000"), format!("{TRACE}\r\nTraceparent: {TRACE}")] {
            let (_, head) = ask(at, &server, &format!("Traceparent: {bad}\r\nTracestate: v=1\r\n"));
            let [trace] = values(&head, "traceparent")[..] else { panic!("{head}") };
            assert!(!trace.contains("0af7") && !head.contains("tracestate"), "{head}");
        }
    }

    fn answers_of_our_own_have_ids_and_pipelined_requests_have_their_own(engine) {
        let at = address();
        let http = "request_id = true\nroutes = [ { host = \"a.test\", answer = { status = 200, text = \"hi\" } }, { host = \"b.test\", pool = \"main\" } ]";
        let gate = Ringgate::start(engine, &site(at, http, "attempts = 1", &[address()]));
        let mut client = Wire::connect(at);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: mine\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\nGET /\x01\r\n\r\n").unwrap();
        let ids: Vec<String> = [200, 200, 200, 502, 400].into_iter().map(|status| {
            let answer = client.answer().unwrap();
            assert_eq!(answer.status(), status, "{}", answer.head);
            answer.field("X-Request-Id").expect("every answer has an id")
        }).collect();
        assert_eq!(ids[1], "mine");
        let distinct: std::collections::HashSet<&String> = ids.iter().collect();
        assert!(distinct.len() == 5 && [0, 2, 3, 4].into_iter().all(|at| is_hex(&ids[at], 32)), "{ids:?}");
        drop(gate);
    }

    fn without_a_log_nothing_is_marked(engine) {
        let server = Server::ok();
        let (plain, logged, silent) = (address(), address(), address());
        let block = |name: &str, at: SocketAddr, more: &str| format!("[http.{name}]\nlisten = [\"{at}\"]\npool = \"main\"\n{more}\n");
        let one = site(plain, "", "", &[server.address]);
        let gate = Ringgate::start(engine, &one);
        let (answer, head) = ask(plain, &server, "X-Request-Id: a b\r\ntraceparent: x\r\n");
        assert_eq!((values(&head, "x-request-id"), values(&head, "traceparent")), (vec!["a b"], vec!["x"]));
        assert!(answer.field("X-Request-Id").is_none());
        drop(gate);
        let text = format!(
            "{}{}[pool.main]\nservers = [\"{}\"]\n[log]\naccess = \"file:access.log\"\n",
            block("silent", silent, "log = false"), block("unmarked", logged, "request_id = false"), server.address
        );
        let gate = Ringgate::start(engine, &text);
        for at in [silent, logged] {
            let (answer, head) = ask(at, &server, "");
            assert!(!head.contains("x-request-id") && !head.contains("traceparent") && answer.field("X-Request-Id").is_none());
        }
        let all = lines(&gate.folder().join("access.log"), 1);
        assert_eq!((all.len(), &all[0]["block"], &all[0]["request_id"], &all[0]["trace_id"]), (1, &"unmarked".into(), &Value::Null, &Value::Null));
    }

    fn rules_go_before_ids(engine) {
        let server = Server::ok();
        let at = address();
        let http = "request_id = true\nrequest = { set = { X-Request-Id = \"rule\" } }\nresponse = { remove = [\"X-Request-Id\"] }";
        let _gate = Ringgate::start(engine, &site(at, http, "", &[server.address]));
        let (answer, head) = ask(at, &server, "X-Request-Id: client\r\n");
        assert_eq!(values(&head, "x-request-id"), ["rule"]);
        assert!(answer.field("X-Request-Id").is_none(), "{}", answer.head);
    }

    fn who_shows_the_token_sees_the_decision(engine) {
        let server = Server::ok();
        let at = address();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let http = "routes = [ { path = \"/own\", answer = { status = 200, text = \"hi\" } }, { host = \"dead.test\", pool = \"dead\" }, { pool = \"main\" } ]";
        let text = format!(
            "{}[pool.dead]\nservers = [\"{}\"]\n[admin]\nlisten = [\"unix:admin.sock\"]\ndebug_token_file = \"{}\"\n[process]\nsandbox = \"off\"\n",
            site(at, http, "balance = \"least-connections\"", &[server.address]), address(), file.display()
        );
        let gate = Ringgate::start(engine, &text);
        let show = format!("Ringgate-Debug: {TOKEN}\r\n");
        let (answer, head) = ask(at, &server, &show);
        let said = answer.field("Ringgate-Decision").expect(&answer.head);
        let start = format!("edition=1 route=\"any host any path\" pool=main server={} balance=least-connections attempts=1 queue_us=", server.address);
        assert!(said.starts_with(&start) && said.ends_with(" reused=false"), "{said}");
        assert!(!head.contains("ringgate-debug") && !head.contains(TOKEN), "{head}");
        for wrong in [&TOKEN[1..], "x", "", &TOKEN.to_uppercase()] {
            let (answer, head) = ask(at, &server, &format!("Ringgate-Debug: {wrong}\r\n"));
            assert!(answer.field("Ringgate-Decision").is_none() && !head.contains("ringgate-debug"), "{head}");
        }
        let mut client = Wire::connect(at);
        let own = client.ask(&format!("GET /own HTTP/1.1\r\nHost: a\r\n{show}\r\n"));
        assert_eq!(own.field("Ringgate-Decision").unwrap(), "edition=1 route=\"any host /own and /own/*\"");
        // The next request on the connection showed nothing.
        let next = client.ask("GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(next.field("Ringgate-Decision").is_none(), "{}", next.head);
        let failed = client.ask(&format!("GET / HTTP/1.1\r\nHost: dead.test\r\n{show}\r\n"));
        let said = failed.field("Ringgate-Decision").unwrap();
        assert!(failed.status() == 502 && said.contains(" pool=dead ") && said.contains(" attempts="), "{said}");
        gate.running.signal("HUP");
        eventually("it is reloaded", || {
            let (answer, _) = ask(at, &server, &show);
            answer.field("Ringgate-Decision").filter(|said| said.starts_with("edition=2 "))
        });
    }
}

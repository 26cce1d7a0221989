//! `/metrics`, and the numbers of `/v1/`, against what clients really did.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use common::{Authority, Engine, Ringgate, Server, Wire, address, curl_text, eventually};
use serde_json::Value;

/// Samples by name and labels, as they stand in the text.
type Samples = BTreeMap<String, f64>;

/// Reads the text as strictly as the format is written down: every sample belongs to the family that was announced last,
/// names and labels are well-formed, nothing is there twice, histograms add up.
#[track_caller]
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut families: HashMap<&str, &str> = HashMap::new();
    let (mut family, mut help) = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, about) = rest.split_once(' ').unwrap();
            assert!(!about.is_empty());
            help = name;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, help, "HELP and TYPE of one name");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{name}");
            assert!(families.insert(name, kind).is_none(), "{name} is announced twice");
            family = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{line}"
        );
        let bare = if families[family] == "histogram" {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap()
        } else {
            name
        };
        assert_eq!(bare, family, "{line}");
        assert!(
            samples.insert(series.to_owned(), value.parse().unwrap()).is_none(),
            "{series} is there twice"
        );
    }
    for (series, value) in samples.iter().filter(|(series, _)| series.contains("le=\"+Inf\"")) {
        let labels = series.replace(",le=\"+Inf\"", "").replace("_bucket{", "_count{");
        assert_eq!(samples[&labels], *value, "{series}");
    }
    samples
}

struct Site {
    gate: Ringgate,
    at: SocketAddr,
    admin: SocketAddr,
    config: String,
}

impl Site {
    fn start(more: &str) -> Self {
        let (at, admin) = (address(), address());
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ path = \"/fixed\", answer = {{ status = 404 }} }}, {{ pool = \"web\" }} ]\n\
             {more}\n[admin]\nlisten = [\"{admin}\"]\n"
        );
        let gate = Ringgate::start(Engine::IoUring, &config);
        Self { gate, at, admin, config }
    }

    #[track_caller]
    fn samples(&self) -> Samples {
        parse(&curl_text(&[&format!("http://{}/metrics", self.admin)]))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&curl_text(&[&format!("http://{}{path}", self.admin)])).unwrap()
    }
}

#[track_caller]
fn assert_samples(samples: &Samples, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        let told = samples.get(*series).unwrap_or_else(|| panic!("there is no {series}"));
        assert_eq!(told, value, "{series}");
    }
}

#[test]
fn every_exchange_is_counted_where_it_belongs() {
    let server = Server::ok();
    let dead = address();
    let site = Site::start(&format!(
        "[pool.web]\nservers = [ {{ address = \"{}\", name = \"one\" }} ]\n[pool.dead]\nservers = [ {{ address = \"{dead}\", name = \"none\" }} ]\n\
         [http.dead]\nlisten = [\"{}\"]\npool = \"dead\"\n",
        server.address,
        address()
    ));
    for _ in 0..5 {
        let mut wire = Wire::connect(site.at);
        assert_eq!(wire.ask("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").status(), 200);
        assert_eq!(wire.ask("GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n").status(), 404);
    }
    assert_eq!(Wire::connect(site.at).ask("BAD\r\n\r\n").status(), 400);
    let dead_block = toml_listen(&site.config, "dead");
    assert_eq!(Wire::connect(dead_block).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 502);
    let samples = eventually("all connections have ended", || {
        let samples = site.samples();
        (samples["ringgate_connections_open"] == 0.0).then_some(samples)
    });
    let listener = format!("listener=\"{}\",block=\"main\"", site.at);
    assert_samples(
        &samples,
        &[
            ("ringgate_http_requests_total{block=\"main\",code=\"2xx\"}", 5.0),
            ("ringgate_http_requests_total{block=\"main\",code=\"4xx\"}", 6.0),
            ("ringgate_http_requests_total{block=\"dead\",code=\"5xx\"}", 1.0),
            ("ringgate_http_request_duration_seconds_count{block=\"main\"}", 11.0),
            (
                "ringgate_route_requests_total{block=\"main\",route=\"any host, /fixed and /fixed/*\",code=\"4xx\"}",
                5.0,
            ),
            ("ringgate_route_requests_total{block=\"main\",route=\"any host, any path\",code=\"2xx\"}", 5.0),
            ("ringgate_pool_requests_total{pool=\"web\",code=\"2xx\"}", 5.0),
            ("ringgate_pool_first_byte_duration_seconds_count{pool=\"web\"}", 5.0),
            ("ringgate_pool_queue_duration_seconds_count{pool=\"web\"}", 5.0),
            ("ringgate_server_requests_total{pool=\"web\",server=\"one\",code=\"2xx\"}", 5.0),
            ("ringgate_server_errors_total{pool=\"web\",server=\"one\"}", 0.0),
            ("ringgate_server_up{pool=\"web\",server=\"one\"}", 1.0),
            ("ringgate_server_state{pool=\"web\",server=\"one\",state=\"up\"}", 1.0),
            ("ringgate_server_state{pool=\"dead\",server=\"none\",state=\"ejected\"}", 1.0),
            ("ringgate_closes_total{reason=\"bad_request\",blame=\"client\"}", 1.0),
            ("ringgate_closes_total{reason=\"server_refused\",blame=\"server\"}", 1.0),
            (&format!("ringgate_listener_connections_total{{{listener}}}"), 6.0),
            (&format!("ringgate_listener_connections{{{listener}}}"), 0.0),
        ],
    );
    assert!(samples["ringgate_server_errors_total{pool=\"dead\",server=\"none\"}"] >= 1.0);
    let bytes = samples["ringgate_http_response_bytes_total{block=\"main\"}"];
    assert!(bytes > 100.0, "{bytes}");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(samples[name] > 0.0, "{name}");
    }
}

/// The address of a block of the configuration.
fn toml_listen(config: &str, block: &str) -> SocketAddr {
    let table: toml::Table = config.parse().unwrap();
    table["http"][block]["listen"][0].as_str().unwrap().parse().unwrap()
}

#[test]
fn sums_never_go_down_over_reloads() {
    let server = Server::ok();
    let site = Site::start(&format!("[pool.web]\nservers = [ \"{}\" ]\n", server.address));
    let file = site.gate.folder().join("ringgate.toml");
    let ask = |times: usize| {
        for _ in 0..times {
            assert_eq!(Wire::connect(site.at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 200);
        }
    };
    ask(3);
    let before = site.samples();
    let text = site
        .config
        .replace("[pool.web]\n", &format!("[pool.other]\nservers = [\"{}\"]\n[pool.web]\n", address()));
    std::fs::write(&file, format!("{text}[workers]\ncount = 2\n")).unwrap();
    site.gate.running.signal("HUP");
    eventually("the new pool is there", || {
        site.samples().contains_key("ringgate_pool_waiting{pool=\"other\"}").then_some(())
    });
    ask(2);
    let after = site.samples();
    assert_eq!(after["ringgate_pool_requests_total{pool=\"web\",code=\"2xx\"}"], 5.0);
    for (series, value) in
        before.iter().filter(|(series, _)| series.split('{').next().unwrap().ends_with("_total"))
    {
        assert!(after[series] >= *value, "{series} went down");
    }
    std::fs::write(&file, "nonsense").unwrap();
    site.gate.running.signal("HUP");
    eventually("it is counted", || {
        (site.samples()["ringgate_config_reloads_refused_total"] == 1.0).then_some(())
    });
}

#[test]
fn versions_of_tls_and_certificates_are_shown() {
    let authority = Authority::new();
    let issued = authority.issue("site", &["site.test"]);
    let tls = address();
    let site = Site::start(&format!(
        "[pool.web]\nservers = [\"{}\"]\n[http.tls]\nlisten = [\"{tls}\"]\nanswer = {{ status = 204 }}\ncertificates = [\"{}\"]\n",
        address(),
        issued.both.display()
    ));
    let (resolve, ca) = (format!("site.test:{}:{}", tls.port(), tls.ip()), authority.ca());
    for version in [["--tlsv1.2", "--tls-max"], ["--tlsv1.3", "--tlsv1.3"]] {
        let url = format!("https://site.test:{}/", tls.port());
        let last = if version[1] == "--tls-max" { "1.2" } else { "--http1.1" };
        curl_text(&[
            version[0],
            version[1],
            last,
            "--resolve",
            &resolve,
            "--cacert",
            ca.to_str().unwrap(),
            &url,
        ]);
    }
    let samples = site.samples();
    assert_samples(
        &samples,
        &[
            ("ringgate_tls_handshakes_total{version=\"1.2\"}", 1.0),
            ("ringgate_tls_handshakes_total{version=\"1.3\"}", 1.0),
        ],
    );
    assert!(
        samples
            .keys()
            .any(|series| series.starts_with("ringgate_certificate_expires_timestamp_seconds{block=\"tls\""))
    );
}

#[test]
fn what_operators_look_at_moves() {
    let server = Server::ok();
    let site = Site::start(&format!(
        "[pool.web]\nservers = [ {{ address = \"{}\", name = \"one\" }} ]\n",
        server.address
    ));
    let mut wire = Wire::connect(site.at);
    let status = eventually("rates are worked out", || {
        (0..50).for_each(|_| assert_eq!(wire.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 200));
        let status = site.json("/v1/status?history=1");
        (status["rate"].as_f64().unwrap() > 0.0).then_some(status)
    });
    assert!(status["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{status}");
    assert!(status["history"]["rate"].as_array().is_some_and(|list| !list.is_empty()));
    assert_eq!(status["workers_load"].as_array().unwrap().len(), 2);
    let servers = site.json("/v1/servers?history=1");
    let one = &servers["pools"][0]["servers"][0];
    assert!(one["requests"].as_u64().unwrap() >= 50 && one["errors"] == 0, "{one}");
    assert!(one["rate"].as_f64().unwrap() > 0.0 && one["latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{one}");
    assert_eq!(one["history"]["step_s"], 2);
    assert!(site.json("/v1/servers")["pools"][0]["servers"][0].get("history").is_none());
    let listeners = site.json("/v1/listeners");
    assert_eq!((&listeners[0]["open"], &listeners[0]["accepted"]), (&1.into(), &1.into()));
}

#[test]
fn a_thousand_servers_are_shown() {
    let servers: Vec<String> = (0..1000).map(|at| format!("\"10.{}.{}.1:80\"", at / 250, at % 250)).collect();
    let site = Site::start(&format!("[pool.web]\nservers = [ {} ]\n", servers.join(", ")));
    let samples = site.samples();
    let shown = samples.keys().filter(|series| series.starts_with("ringgate_server_up{")).count();
    assert_eq!(shown, 1000);
    assert_eq!(site.json("/v1/servers")["pools"][0]["servers"].as_array().unwrap().len(), 1000);
}

#[test]
fn every_name_is_in_the_readme() {
    let server = Server::ok();
    let site = Site::start(&format!(
        "[tcp.relay]\nlisten = [\"{}\"]\npool = \"web\"\n[pool.web]\nservers = [\"{}\"]\n",
        address(),
        server.address
    ));
    let readme = include_str!("../README.md");
    let text = curl_text(&[&format!("http://{}/metrics", site.admin)]);
    let names: HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<_> = names.iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

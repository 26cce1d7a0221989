//! Every mistake as people see it (the table is `mistakes.txt`), every default, and every key once.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::model::*;
use crate::config::*;
use crate::ids::{PoolId, ServerId};
use crate::limits;
use crate::net::Address;
use crate::proxyproto::Version;
use crate::tls::certs::CertError;
use crate::tls::{ClientOptions, ClientTls, ServerOptions};

/// A host with one certificate, which stands for all; files that begin with `bad`, `missing` or `large` are so.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["www.foobar.com".to_owned()]).unwrap();
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        let file = folder.path().join("site.pem");
        std::fs::write(&file, pem).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("site.pem")
    }
}

fn is(file: &Path, word: &str) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(word))
}

fn bad<'p>(files: impl IntoIterator<Item = &'p PathBuf>) -> Result<(), CertError> {
    match files.into_iter().find(|file| is(file, "bad")) {
        Some(file) => Err(CertError {
            file: file.clone(),
            what: "no certificate in this file".into(),
            advice: "name a PEM file".into(),
        }),
        None => Ok(()),
    }
}

impl World for Lab {
    fn read(&self, file: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        match () {
            () if is(file, "missing") => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
            () if is(file, "large") => Ok(vec![b'x'; bytes_max + 1]),
            () if is(file, "admin-token") || is(file, "debug-token") => Ok(vec![b'7'; 64]),
            () => Ok(b"<p>sorry</p>".to_vec()),
        }
    }

    fn resolve(&self, lookups: &[Lookup], dns: &Dns) -> Vec<Result<Records, String>> {
        Nowhere.resolve(lookups, dns)
    }

    fn has_ipv6(&self) -> bool {
        true
    }

    fn is_folder(&self, path: &Path) -> bool {
        !is(path, "missing")
    }

    fn server_tls(&self, paths: &[PathBuf], options: &ServerOptions) -> Result<Certified, Vec<CertError>> {
        bad(paths.iter().chain(&options.client_ca)).map_err(|error| vec![error])?;
        let options =
            ServerOptions { client_ca: None, client_certificate: Default::default(), ..options.clone() };
        if options.min > options.max {
            return Host.server_tls(&[self.certificate()], &ServerOptions::default());
        }
        Host.server_tls(&[self.certificate()], &options)
    }

    fn client_tls(&self, options: &ClientOptions) -> Result<ClientTls, CertError> {
        bad(options.ca.iter().chain(&options.certificate))?;
        ClientTls::new(&ClientOptions {
            ca: Some(self.certificate()),
            server_name: None,
            ..Default::default()
        })
    }
}

fn parse(text: &str) -> Result<Loaded, Mistakes> {
    parse_in(text, "site.toml", &Lab::new())
}

fn good(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => panic!("{mistakes}\n\nin\n{text}"),
    }
}

/// What people read about a text of `mistakes.txt`.
fn rendered(case: &str) -> String {
    let mut text = case.replace("^^^", "[http.public]\nlisten = [\":80\"]");
    if !text.contains("[pool") {
        text += "\n[pool.web]\nservers = [\"10.0.0.1:80\"]";
    }
    match parse(&text) {
        Ok(loaded) => Mistakes(loaded.warnings).to_string(),
        Err(mistakes) => mistakes.to_string(),
    }
}

/// `BLESS=1` writes what is rendered now into the table: look at the difference before keeping it.
#[test]
fn every_mistake_is_shown_with_its_place_and_advice() {
    let table = include_str!("mistakes.txt");
    let (head, cases) = table.split_once("\n### ").unwrap();
    let mut written = head.to_owned();
    let mut wrong = Vec::new();
    for case in cases.split("\n### ") {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("---\n").unwrap();
        let found = rendered(text.trim_end_matches('\n'));
        if found.trim_end() != expected.trim_end() {
            wrong.push(format!("{name}\nexpected:\n{}\nfound:\n{found}", expected.trim_end()));
        }
        written += &format!("\n### {name}\n{text}---\n{}\n", found.trim_end());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/check/mistakes.txt"), written)
            .unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_sample_works_as_written() {
    let config = good(include_str!("sample.toml"));
    let names: Vec<_> = config.http.iter().map(|http| http.name.as_str()).collect();
    assert_eq!(names, ["public", "secure"]);
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["0.0.0.0:80", "0.0.0.0:443"]);
    assert!(matches!(config.block(config.listeners[1].serves), Block::Http(http) if http.name == "secure"));

    let public = &config.http[0];
    assert!(public.tls.is_none());
    let redirect = public.routes.find("any.example.org", "/x").unwrap();
    let to_https =
        |redirect: &Redirect| redirect.status == 308 && matches!(redirect.to, RedirectTo::Https(443));
    assert!(matches!(&redirect.action, Action::Redirect(redirect) if to_https(redirect)));

    let secure = &config.http[1];
    assert!(secure.tls.is_some());
    assert_eq!(secure.certificates.len(), 1);
    let pool = |host, path| match &secure.routes.find(host, path).unwrap().action {
        Action::Pool(pool) => config.pools[pool.index()].name.as_str(),
        _ => "?",
    };
    assert_eq!(pool("www.foobar.com", "/api/x"), "app");
    assert_eq!(pool("www.foobar.com", "/index.html"), "web");
    assert_eq!(pool("other.org", "/api/x"), "web");

    let (web, app) = (&config.pools[0], &config.pools[1]);
    assert_eq!((web.name.as_str(), web.balance), ("web", Balance::RoundRobin));
    assert_eq!((app.name.as_str(), app.balance), ("app", Balance::LeastConnections));
    assert_eq!(web.servers, [ServerId(0), ServerId(1), ServerId(2)]);
    let servers: Vec<_> =
        config.servers.iter().map(|s| (s.name.as_str(), s.weight, s.backup, s.pool)).collect();
    assert_eq!(
        servers,
        [
            ("10.0.0.11:80", 1, false, PoolId(0)),
            ("10.0.0.12:80", 2, false, PoolId(0)),
            ("10.0.0.13:80", 1, true, PoolId(0)),
            ("unix:/run/app.sock", 1, false, PoolId(1)),
        ]
    );
    assert_eq!(config.servers[3].address, Address::Unix("/run/app.sock".into()));
    assert_eq!(config.workers.count, Some(2));
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = good(
        "http.a = { listen = ':80', pool = 'p' }\ntcp.b = { listen = ':81', pool = 'p' }\npool.p = { servers = ['10.0.0.1:80'] }",
    );
    let http = &config.http[0];
    assert!(http.tls.is_none() && http.certificates.is_empty() && http.client_subject_field.is_none());
    assert!(http.accept_proxy.is_none() && http.trusted_proxies.is_empty() && http.error_pages.is_empty());
    assert!(!http.forwarded);
    assert_eq!(http.limits.head_bytes_max, limits::HEAD_BYTES_DEFAULT);
    assert_eq!(http.limits.fields_max, limits::FIELDS_DEFAULT);
    assert_eq!(http.limits.target_bytes_max, limits::TARGET_BYTES_DEFAULT);
    assert_eq!((http.limits.body_bytes_max, http.limits.requests_max), (u64::MAX, u64::MAX));
    assert_eq!(http.times.handshake, limits::HANDSHAKE_TIME_DEFAULT);
    assert_eq!(http.times.head, limits::HEAD_TIME_DEFAULT);
    assert_eq!(http.times.idle, limits::IDLE_TIME_DEFAULT);
    assert_eq!(http.times.progress, limits::PROGRESS_TIME_DEFAULT);
    assert_eq!(http.times.tunnel, limits::TUNNEL_TIME_DEFAULT);

    let tcp = &config.tcp[0];
    assert!(tcp.tls.is_none() && tcp.accept_proxy.is_none());
    assert_eq!(tcp.handshake, limits::HANDSHAKE_TIME_DEFAULT);
    assert_eq!(tcp.idle, limits::TUNNEL_TIME_DEFAULT);

    let pool = &config.pools[0];
    assert_eq!(pool.balance, Balance::RoundRobin);
    assert!(pool.tls.is_none() && pool.send_proxy.is_none() && pool.keep_alive);
    assert_eq!(pool.times.connect, limits::CONNECT_TIME_DEFAULT);
    assert_eq!(pool.times.first_byte, limits::FIRST_BYTE_TIME_DEFAULT);
    assert_eq!(pool.times.progress, limits::SERVER_PROGRESS_TIME_DEFAULT);
    assert_eq!(pool.times.idle, limits::SERVER_IDLE_TIME_DEFAULT);
    assert_eq!(pool.times.queue, limits::QUEUE_TIME_DEFAULT);
    assert_eq!(pool.attempts_max, limits::ATTEMPTS_DEFAULT);
    assert_eq!(pool.queue_max, limits::QUEUE_DEFAULT);
    assert_eq!(pool.idle_max, limits::SERVER_IDLE_DEFAULT);
    let server = &config.servers[0];
    assert_eq!((server.weight, server.backup, server.connections_max), (1, false, 0));
    assert_eq!((server.name.as_str(), server.host.as_str()), ("10.0.0.1:80", "10.0.0.1"));

    assert_eq!(config.limits.memory_max, limits::MEMORY_DEFAULT);
    assert_eq!(config.limits.connections_max, limits::CONNECTIONS_DEFAULT);
    assert_eq!(config.limits.connections_per_client_max, 0);
    assert_eq!(config.limits.drain, limits::DRAIN_TIME_DEFAULT);
    assert_eq!((config.workers.count, config.workers.engine), (None, Engine::Auto));
}

#[test]
fn every_key_has_its_effect() {
    let config = good(include_str!("../../../dist/examples/everything.toml"));
    let http = &config.http[0];
    assert_eq!(http.name, "secure");
    assert_eq!(http.client_subject_field.as_deref(), Some("X-Client-Subject"));
    assert_eq!(
        http.trusted_proxies.iter().map(|n| n.to_string()).collect::<Vec<_>>(),
        ["10.0.0.0/8", "2001:db8::/32"]
    );
    assert_eq!(http.limits.body_bytes_max, 10 << 20);
    assert_eq!(http.limits.requests_max, 10_000);
    assert_eq!(http.times.tunnel, Duration::from_secs(3600));
    assert_eq!(http.error_pages[&503].status, 503);
    assert_eq!(&*http.error_pages[&502].body, b"<p>sorry</p>");
    assert_eq!(http.error_pages[&502].content_type, "text/html; charset=utf-8");

    let api = http.routes.find("www.foobar.com", "/api/x").unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(api.request.set(), [pair("X-Forwarded-Port", "443"), pair("Host", "app.internal")]);
    assert_eq!(api.request.remove(), ["X-Debug"]);
    assert_eq!(api.response.add(), [pair("Set-Cookie", "a=1"), pair("Set-Cookie", "b=2")]);
    let health = http.routes.find("x", "/health").unwrap();
    assert!(matches!(&health.action, Action::Answer(a) if a.status == 200 && *a.body == *b"ok"
        && a.content_type == "text/plain; charset=utf-8"));
    let old = http.routes.find("x", "/old/1").unwrap();
    assert!(
        matches!(&old.action, Action::Redirect(Redirect { status: 302, to: RedirectTo::Exact(to) }) if to == "/new")
    );
    let bare = http.routes.find("foobar.com", "/").unwrap();
    let is_www = |to: &RedirectTo| matches!(to, RedirectTo::Prefix(to) if to == "https://www.foobar.com");
    assert!(matches!(&bare.action, Action::Redirect(r) if r.status == 301 && is_www(&r.to)));
    assert!(matches!(http.routes.find("x", "/").unwrap().action, Action::Pool(PoolId(0))));

    let listeners: Vec<_> = config.listeners.iter().map(|l| (l.address.to_string(), l.v6only)).collect();
    let expected =
        [("[::]:443", false), ("unix:/run/ringgate.sock", true), ("0.0.0.0:80", true), ("[::]:80", true)];
    for (found, expected) in listeners.iter().zip(expected) {
        assert_eq!((found.0.as_str(), found.1), expected);
    }
    let tcp = &config.tcp[0];
    assert_eq!(tcp.accept_proxy.as_ref().unwrap()[0].to_string(), "127.0.0.1/32");
    assert_eq!((tcp.idle, tcp.pool), (Duration::from_secs(3600), PoolId(2)));
    assert_eq!(config.pools[2].send_proxy, Some(Version::V2));
    assert!(config.pools[1].tls.is_some());
    let health = &config.pools[0].health;
    let check = health.check.as_ref().unwrap();
    let Ask::Http(ask) = &check.ask else { panic!("{check:?}") };
    assert_eq!((ask.method.as_str(), ask.path.as_str(), &ask.host), ("GET", "/health", &None));
    assert_eq!(ask.status, [200..=299, 302..=302]);
    assert_eq!((check.every, check.timeout), (limits::CHECK_EVERY_DEFAULT, limits::CHECK_TIME_DEFAULT));
    assert_eq!((check.rise, check.fall), (limits::CHECK_RISE_DEFAULT, limits::CHECK_FALL_DEFAULT));
    let eject = Eject { connect: 5, closed: 5, timeout: 5, error: 5, time: Duration::from_secs(10) };
    assert_eq!((health.eject, health.slow_start), (eject, Duration::from_secs(30)));
    assert_eq!(
        (config.servers[4].host.as_str(), config.servers[4].address.to_string()),
        ("app.example.org", "192.0.2.1:443".into())
    );
    assert_eq!((config.servers[1].weight, config.servers[1].connections_max), (2, 500));
    assert_eq!((config.servers[2].name.as_str(), config.servers[2].host.as_str()), ("local", ""));
    assert_eq!(config.limits.memory_max, 256 << 20);
    let dns = Dns { servers: vec![([127, 0, 0, 1], 53).into()], ..Dns::default() };
    assert_eq!(config.dns, dns);
    let lookup = Lookup { name: "app.example.org".into(), port: Some(443) };
    assert_eq!((&config.servers[4].lookup, &config.servers[0].lookup), (&Some(lookup), &None));
    let name = Some("ringgate".to_owned());
    assert_eq!(config.process, Process { user: name.clone(), group: name, sandbox: Sandbox::Auto });
}

#[test]
fn files_are_remembered() {
    let config = good(include_str!("../../../dist/examples/everything.toml"));
    let files: Vec<_> = config.files.read.iter().map(|path| path.to_str().unwrap()).collect();
    assert!(files.contains(&"/etc/ringgate/certs"), "{files:?}");
    assert_eq!(config.files.written, [PathBuf::from("/var/log/ringgate/access.log")]);
}

#[test]
fn every_example_is_good_and_without_warnings() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let loaded = parse(&std::fs::read_to_string(&path).unwrap());
        let loaded = loaded.unwrap_or_else(|mistakes| panic!("{}\n{mistakes}", path.display()));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 4);
}

/// The comments of the complete example name the defaults: with them said, nothing changes.
#[test]
fn the_defaults_in_the_complete_example_are_the_defaults() {
    let said = good(include_str!("../../../dist/examples/everything.toml"));
    let (http, times) = (&said.http[0], HttpTimes::default());
    assert_eq!(http.limits.head_bytes_max, limits::HEAD_BYTES_DEFAULT);
    assert_eq!(http.limits.fields_max, limits::FIELDS_DEFAULT);
    assert_eq!(http.limits.target_bytes_max, limits::TARGET_BYTES_DEFAULT);
    assert_eq!(format!("{:?}", http.times), format!("{times:?}"));
    let pool = &said.pools[0];
    assert_eq!(format!("{:?}", pool.times), format!("{:?}", PoolTimes::default()));
    assert_eq!(pool.attempts_max, limits::ATTEMPTS_DEFAULT);
    assert_eq!((pool.queue_max, pool.idle_max), (limits::QUEUE_DEFAULT, limits::SERVER_IDLE_DEFAULT));
    assert_eq!(format!("{:?}", said.limits), format!("{:?}", Limits::default()));
}

#[test]
fn checks_are_written_in_many_ways() {
    let check = |text: &str| {
        let text = format!(
            "http.a = {{ listen = ':80', pool = 'p' }}\n[pool.p]\nservers = ['10.0.0.1:80']\ncheck = {text}"
        );
        good(&text).pools[0].health.check.clone()
    };
    let ask = |text: &str| check(text).unwrap().ask;
    let http =
        |path: &str| AskHttp { method: "GET".into(), path: path.into(), host: None, status: vec![200..=399] };
    assert_eq!(ask("'tcp'"), Ask::Tcp);
    assert_eq!(ask("{ type = 'mysql' }"), Ask::Mysql);
    assert_eq!(ask("'http'"), Ask::Http(http("/")));
    assert_eq!(ask("'/up?x'"), Ask::Http(http("/up?x")));
    assert_eq!(
        ask("{ method = 'HEAD', host = 'a.example.org', status = '401-403' }"),
        Ask::Http(AskHttp {
            method: "HEAD".into(),
            host: Some("a.example.org".into()),
            status: vec![401..=403],
            ..http("/")
        })
    );
    assert!(check("false").is_none());
    let short = check("{ every = '500ms', port = 8080, rise = 1, fall = 9 }").unwrap();
    assert_eq!(short.timeout, Duration::from_millis(500), "no longer than the time between two");
    assert_eq!((short.port, short.rise, short.fall), (Some(8080), 1, 9));
}

#[test]
fn rules_of_ejection_are_written_in_many_ways() {
    let eject = |text: &str| {
        let text =
            format!("http.a = {{ listen = ':80', pool = 'p' }}\n[pool.p]\nservers = ['10.0.0.1:80']\n{text}");
        let Eject { connect, closed, timeout, error, time } = good(&text).pools[0].health.eject;
        ([connect, closed, timeout, error], time.as_secs())
    };
    for (text, expected) in [
        ("", ([1, 3, 0, 0], 1)),
        ("eject = true", ([1, 3, 0, 0], 1)),
        ("eject = false", ([0, 0, 0, 0], 1)),
        ("eject = { time = '5s' }", ([1, 3, 0, 0], 5)),
        ("eject = { failures = 2 }", ([2, 3, 0, 0], 1)),
        ("eject = { failures = 9 }", ([9, 9, 0, 0], 1)),
        ("eject = { on = '5xx' }", ([0, 0, 0, 5], 1)),
        ("eject = { on = ['timeout', 'connect'] }", ([1, 3, 5, 0], 1)),
        ("eject = { on = [] }", ([0, 0, 0, 0], 1)),
    ] {
        assert_eq!(eject(text), expected, "{text}");
    }
}

#[test]
fn a_route_has_the_last_word_over_its_block() {
    let config = good(
        "[http.a]\nlisten = ':80'\npool = 'p'\n\
         request = { set = { A = '1', B = '1', C = '1' }, add = { D = '1', E = '1' }, remove = ['F', 'G'] }\n\
         routes = [ { path = '/x', pool = 'p', request = { set = { a = '2', f = '2' }, remove = ['b', 'D', 'g'] } } ]\n\
         [pool.p]\nservers = ['10.0.0.1:80']",
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let route = config.http[0].routes.find("h", "/x").unwrap();
    assert_eq!(route.request.remove(), ["F", "b", "D", "g"]);
    assert_eq!(route.request.set(), [pair("C", "1"), pair("a", "2"), pair("f", "2")]);
    assert_eq!(route.request.add(), [pair("E", "1")]);
    let rest = config.http[0].routes.find("h", "/").unwrap();
    assert_eq!(rest.request.set(), [pair("A", "1"), pair("B", "1"), pair("C", "1")]);
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let lab = Lab::new();
    let path = lab.folder.path().join("site.toml");
    std::fs::write(lab.folder.path().join("sorry.html"), "closed").unwrap();
    let text = "[http.a]\nlisten = ['unix:front.sock', '127.0.0.1:443']\ncertificates = 'site.pem'\n\
                answer = { status = 503, file = 'sorry.html' }";
    std::fs::write(&path, text).unwrap();
    let loaded = load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.config.listeners[0].address, Address::Unix(lab.folder.path().join("front.sock")));
    assert!(loaded.config.http[0].tls.is_some());
    let route = loaded.config.http[0].routes.find("h", "/").unwrap();
    assert!(matches!(&route.action, Action::Answer(answer) if *answer.body == *b"closed"));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let lab = Lab::new();
    let path = lab.folder.path().join("site.toml");
    let complain = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        let text = load(&path).unwrap_err().to_string();
        text.replace(&lab.folder.path().display().to_string(), "DIR")
    };
    let absent = load(&lab.folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(absent.ends_with("none.toml: there is no such file\n  = check the path"), "{absent}");
    let latin = complain(b"# caf\xe9\n[http.a]\n");
    assert!(latin.starts_with("DIR/site.toml:1:6: the file is not UTF-8 text\n 1 | # caf"), "{latin}");
    let page = complain(b"http.a = { listen = ':80', pool = 'p', error_pages = { 502 = 'x.html' } }\npool.p.servers = ['10.0.0.1:1']");
    assert!(page.contains("DIR/x.html cannot be read: No such file"), "{page}");
    let certificate = complain(b"http.a = { listen = ':443', pool = 'p', certificates = ['no.pem'] }\npool.p.servers = ['10.0.0.1:1']");
    assert!(certificate.starts_with("DIR/site.toml:1:57: DIR/no.pem: "), "{certificate}");
    let folder = load(lab.folder.path()).unwrap_err().to_string();
    assert!(folder.contains("cannot be read"), "{folder}");
}

#[test]
fn no_text_makes_the_parser_panic() {
    let lines: Vec<&str> = include_str!("mistakes.txt").lines().collect();
    for some in lines.windows(6) {
        _ = parse_in(&some.join("\n"), "t", &Nowhere);
    }
    let text = include_str!("../../../dist/examples/everything.toml");
    for at in (0..text.len()).step_by(7) {
        _ = parse_in(&text[..at], "t", &Nowhere);
        _ = parse_in(&text[at..], "t", &Nowhere);
    }
}

#[test]
fn more_mistakes_than_anybody_reads_are_cut() {
    let text: String = (0..5000).map(|number| format!("k{number} = 1\n")).collect();
    assert_eq!(parse(&text).unwrap_err().0.len(), 1000);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = "[http.public] # \u{9b}31m\nlisten = ':80'\npool = \"\\u001b[31m\"\n[http.\"\\u001b\"]";
    let shown = parse(text).unwrap_err().to_string();
    assert!(!shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
    assert!(shown.contains("there is no pool \"\u{fffd}[31m\""), "{shown}");
}

#[test]
fn colours_are_added_on_request() {
    let mistakes =
        parse("[http.public]\nlisten = ':80'\npool = 'wbe'\n[pool.web]\nservers=['1.1.1.1:1']").unwrap_err();
    let plain = mistakes.to_string();
    let coloured = format!("{mistakes:#}");
    assert!(coloured.contains("\x1b[31;1m^^^^^\x1b[0m"), "{coloured}");
    let mut stripped = String::new();
    for (position, part) in coloured.split("\x1b[").enumerate() {
        stripped += if position == 0 { part } else { part.split_once('m').unwrap().1 };
    }
    assert_eq!(stripped, plain);
}

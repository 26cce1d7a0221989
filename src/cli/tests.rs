//! What the commands print.

use clap::CommandFactory;

use super::*;
use crate::config::Nowhere;

const SITE: &str = r#"
[http.public]
listen = ["0.0.0.0:80"]
redirect = "https"
routes = [ { path = "/.well-known/acme-challenge/", pool = "web" } ]

[http.inside]
listen = [":8080", "unix:/run/x", "10.0.0.5:8081"]
trusted_proxies = ["10.0.0.0/8"]
forwarded = true
response = { remove = ["Server"] }
routes = [
  { host = "www.foobar.com", path = "/api/", pool = "app", request = { set = { X-Api = "1" } } },
  { host = "*.foobar.com", path = "/api/v2", pool = "web" },
  { exact = "/health", answer = { text = "ok" } },
  { host = "foobar.com", redirect = { to = "https://www.foobar.com" } },
  { host = "gone.org", redirect = { exact = "/new", status = 301 } },
  { path = "/img/", pool = "web" },
]

[http.behind]
listen = ["10.0.0.5:8082"]
trusted_proxies = ["10.0.0.0/8"]
proxy_protocol = true
pool = "sticky"

[tcp.database]
listen = ["127.0.0.1:5432"]
pool = "sticky"

[pool.web]
servers = ["10.0.0.11:80", { address = "10.0.0.12:80", weight = 2 }, { address = "10.0.0.13:80", backup = true }]

[pool.app]
balance = "least-connections"
servers = [{ address = "unix:/run/app.sock", name = "app", connections = 50 }, { address = "10.0.0.9:80", weight = 0 }]
attempts = 1

[pool.sticky]
balance = "ip-hash"
proxy_protocol = "v1"
servers = ["10.0.0.21:80", "10.0.0.22:80"]
"#;

fn site() -> Config {
    config::parse_in(SITE, "site.toml", &Nowhere).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

/// Every answer of `explain`, one after the other: `explain.txt`. `BLESS=1` writes it: look at the difference.
#[test]
fn explain_says_what_happens_and_why() {
    let config = site();
    let mut found = String::new();
    for (method, url, from) in [
        ("GET", "http://www.foobar.com:8080/api/x", "192.0.2.7"),
        ("POST", "http://www.foobar.com:8080/api/v2/x?y=1", "10.1.2.3"),
        ("GET", "http://a.b.foobar.com:8080/x/../api/v2", ""),
        ("GET", "http://10.0.0.5:8080/health", ""),
        ("GET", "http://foobar.com:8080/a?b=c", ""),
        ("GET", "http://gone.org:8080/", ""),
        ("GET", "http://other.org:8080/", ""),
        ("CONNECT", "http://other.org:8080/", ""),
        ("GET", "http://www.foobar.com/x?y", ""),
        ("GET", "http://x.org/.well-known/acme-challenge/1", "192.0.2.7"),
        ("GET", "http://x.org:8082/", "10.1.2.3"),
        ("GET", "http://x.org:8082/", "192.0.2.7"),
        ("GET", "https://x.org:8082/", ""),
        ("GET", "https://x.org/", ""),
        ("GET", "http://127.0.0.1:5432/", ""),
        ("GET", "http://127.0.0.1:8081/", ""),
    ] {
        let from = (!from.is_empty()).then(|| from.parse().unwrap());
        let answer = explain::http(&config, None, &Url::parse(url).unwrap(), from, method);
        found += &format!("{}exit {}\n\n", answer.text, u8::from(!answer.is_served));
    }
    compare("explain.txt", include_str!("explain.txt"), &found);
}

#[test]
fn check_and_run_show_what_listens_where() {
    let config = site();
    let found =
        format!("{}\n{}", summary::whole(&config), run::started("io_uring", 2, &summary::listeners(&config)));
    compare("summary.txt", include_str!("summary.txt"), &found);
}

fn compare(file: &str, expected: &str, found: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(format!("{}/src/cli/{file}", env!("CARGO_MANIFEST_DIR")), found).unwrap();
    }
    assert!(expected == found, "{file} is not what is printed now:\n{found}");
}

#[test]
fn urls() {
    let url = |is_tls, host: &str, port, target: &str| {
        Ok(Url { is_tls, host: host.into(), port, target: target.into() })
    };
    for (text, expected) in [
        ("https://www.X.com/a?b#c", url(true, "www.x.com", 443, "/a?b")),
        ("http://x", url(false, "x", 80, "/")),
        ("http://x?q", url(false, "x", 80, "/?q")),
        ("http://x:81/", url(false, "x", 81, "/")),
        ("https://[::1]/x", url(true, "[::1]", 443, "/x")),
        ("https://[::1]:8443", url(true, "[::1]", 8443, "/")),
        ("http://192.0.2.1/", url(false, "192.0.2.1", 80, "/")),
        ("www.x.com", Err("write it like https://www.example.org/path".to_owned())),
        ("ftp://x", Err("the scheme is http or https, not ftp".to_owned())),
        ("http://x:0", Err("the port is a number from 1 to 65535".to_owned())),
        ("http://x:y", Err("the port is a number from 1 to 65535".to_owned())),
        ("http://", Err("\"\" is not a host".to_owned())),
        ("http://*/", Err("\"*\" is not a host".to_owned())),
        ("http://u@x/", Err("\"u@x\" is not a host".to_owned())),
        ("http://ü/", Err("write the host in its encoded form (xn--...)".to_owned())),
        (
            "http://x/ü",
            Err("a URL holds no blanks, control or non-ASCII characters: percent-encode them".to_owned()),
        ),
    ] {
        assert_eq!(Url::parse(text), expected, "{text}");
    }
    for text in ["https://x.org/", "https://x.org:444/a?b", "http://[::1]:443/"] {
        assert_eq!(Url::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn the_command_line_is_consistent_and_its_help_teaches() {
    let mut command = Arguments::command();
    command.clone().debug_assert();
    let help = command.render_help().to_string();
    for word in
        ["ringgate run", "ringgate check", "ringgate explain http", "[http.public]", "README.md", "io_uring"]
    {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
}

#[test]
fn arguments() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command);
    for line in [
        "ringgate",
        "ringgate serve x",
        "ringgate check",
        "ringgate run x --workers 0",
        "ringgate run x --workers 257",
        "ringgate run x --engine uring",
        "ringgate explain x --url http://x/",
        "ringgate explain http x",
        "ringgate explain http x --url x",
        "ringgate explain http x --url http://x/ --from y",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let Ok(Command::Run(run)) = parse("ringgate run x.toml --workers 3 --engine io_uring") else {
        panic!("no run")
    };
    assert_eq!((run.file, run.workers), (Some("x.toml".into()), Some(3)));
    assert_eq!(run.engine.map(Engine::from), Some(Engine::IoUring));
    assert!(matches!(parse("ringgate run"), Ok(Command::Run(RunArguments { file: None, .. }))));
    assert!(matches!(parse("ringgate check x"), Ok(Command::Check { .. })));
    let line = "ringgate explain http x --url https://x/ --from ::1 --method HEAD";
    let Ok(Command::Explain(Explain::Http { from, method, .. })) = parse(line) else { panic!("no explain") };
    assert_eq!((from, method.as_str()), (Some("::1".parse().unwrap()), "HEAD"));
}

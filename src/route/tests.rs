//! Tables of hosts and paths, and the agreement of both ways of looking up.

use super::*;

fn host(text: &str) -> HostMatch {
    if text.is_empty() { HostMatch::Any } else { HostMatch::parse(text).unwrap() }
}

/// `=/x` is exact, `/x` a prefix, nothing is any path.
fn path(text: &str) -> PathMatch {
    match text.strip_prefix('=') {
        Some(exact) => PathMatch::Exact(exact.into()),
        None if text.is_empty() => PathMatch::Any,
        None => PathMatch::Prefix(text.into()),
    }
}

fn routes(rules: &[(&str, &str)]) -> Result<Routes<String>, Vec<Duplicate>> {
    Routes::new(rules.iter().map(|(h, p)| (host(h), path(p), format!("{h} {p}"))).collect())
}

fn chosen(routes: &Routes<String>, host: &str, path: &str) -> String {
    let found = routes.find(host, path);
    let explained = routes.explain(host, path);
    assert_eq!(found, explained.found, "{host} {path}: find and explain differ");
    let said: Vec<_> = explained.reasons.iter().filter(|reason| reason.verdict == Verdict::Chosen).collect();
    assert_eq!(said.len(), usize::from(found.is_some()), "{host} {path}");
    let matching = |reason: &&Reason<'_>| matches!(reason.verdict, Verdict::Chosen | Verdict::LessClose);
    let first = explained.reasons.iter().find(matching);
    assert_eq!(first.map(|reason| reason.index), found.map(|found| found.index), "{host} {path}");
    found.map_or_else(|| "-".into(), |found| found.value.trim().to_owned())
}

#[test]
fn the_closest_rule_is_chosen() {
    let table = [
        ("", ""),
        ("", "/static/"),
        ("", "=/health"),
        ("www.x.com", "/api/"),
        ("www.x.com", "/api/v2/"),
        ("www.x.com", "=/api/v2/ping"),
        ("*.x.com", ""),
        ("*.b.x.com", "/only/"),
        ("[2001:db8::1]", ""),
        ("192.0.2.1", "/ip"),
    ];
    let routes = routes(&table).unwrap();
    for (host, path, expected) in [
        ("www.x.com", "/api/x", "www.x.com /api/"),
        ("www.x.com", "/api/", "www.x.com /api/"),
        ("www.x.com", "/api/v2/x", "www.x.com /api/v2/"),
        ("www.x.com", "/api/v2/ping", "www.x.com =/api/v2/ping"),
        ("www.x.com", "/api/v2/ping/", "www.x.com /api/v2/"),
        ("www.x.com", "/api", "*.x.com"),
        ("WWW.X.Com:8443", "/api/x", "www.x.com /api/"),
        ("www.x.com.", "/api/x", "www.x.com /api/"),
        ("www.x.com.:443", "/api/x", "www.x.com /api/"),
        ("a.x.com", "/api/x", "*.x.com"),
        ("a.b.x.com", "/x", "*.x.com"),
        ("a.b.x.com", "/only/x", "*.b.x.com /only/"),
        ("b.x.com", "/only/x", "*.x.com"),
        ("x.com", "/", ""),
        ("x.com", "/static/a.css", "/static/"),
        ("axx.com", "/health", "=/health"),
        (".x.com", "/", ""),
        ("x.com", "/health?probe=1", "=/health"),
        ("[2001:DB8::1]:443", "/", "[2001:db8::1]"),
        ("[2001:db8::1]", "/static/", "[2001:db8::1]"),
        ("192.0.2.1:80", "/ip/x", "192.0.2.1 /ip"),
        ("192.0.2.1", "/ipx", ""),
        ("", "/", ""),
        ("x.com", "*", ""),
    ] {
        assert_eq!(chosen(&routes, host, path), expected, "{host} {path}");
    }
}

#[test]
fn without_a_catch_all_nothing_may_match() {
    let routes = routes(&[("x.com", "/a/"), ("*.y.com", "=/b")]).unwrap();
    for (host, path, expected) in [
        ("x.com", "/a/1", "x.com /a/"),
        ("x.com", "/b", "-"),
        ("y.com", "/b", "-"),
        ("a.y.com", "/b", "*.y.com =/b"),
        ("a.y.com", "*", "-"),
    ] {
        assert_eq!(chosen(&routes, host, path), expected, "{host} {path}");
    }
    assert!(Routes::<u8>::default().find("x.com", "/").is_none());
}

#[test]
fn a_name_longer_than_any_name_matches_no_rule_with_a_host() {
    let routes = routes(&[("*.x.com", ""), ("", "")]).unwrap();
    let long = format!("{}.x.com", "a".repeat(300));
    assert_eq!(chosen(&routes, &long, "/"), "");
    assert_eq!(chosen(&routes, &long.to_uppercase(), "/"), "");
}

#[test]
fn prefixes_end_at_segments() {
    let routes = routes(&[("", "/api"), ("", "/doc/")]).unwrap();
    for (path, expected) in [
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api/x", "/api"),
        ("/apix", "-"),
        ("/ap", "-"),
        ("/doc", "-"),
        ("/doc/", "/doc/"),
        ("/doc/x", "/doc/"),
    ] {
        assert_eq!(chosen(&routes, "h", path), expected, "{path}");
    }
}

#[test]
fn disguised_paths_do_not_slip_past() {
    let routes = routes(&[("", ""), ("", "/admin"), ("", "=/a b")]).unwrap();
    for target in [
        "/admin",
        "/%61dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin/y",
        "//admin",
        "/./admin",
        "/x/..%2fadmin",
        "/..//admin/.",
        "/../../admin",
        "/%2fadmin",
        "/admin%2Fx",
        "/admin?x=/../y",
        "/%61dmin?x=%2e%2e",
        "/admin#../x",
    ] {
        assert_eq!(chosen(&routes, "h", target), "/admin", "{target}");
    }
    for target in ["/admin/..", "/admin/%2e%2e/", "/%2561dmin", "/adminx", "/.admin", "/x..admin", "/admi%6"]
    {
        assert_eq!(chosen(&routes, "h", target), "", "{target}");
    }
    assert_eq!(chosen(&routes, "h", "/a%20b"), "=/a b");
}

#[test]
fn canonical_paths() {
    for (target, expected, borrowed) in [
        ("/", "/", true),
        ("", "", true),
        ("*", "*", true),
        ("/a/b.c/.well-known/...", "/a/b.c/.well-known/...", true),
        ("/a?b%20/../c", "/a", true),
        ("/a/", "/a/", true),
        ("/a//b", "/a/b", false),
        ("///", "/", false),
        ("/a/.", "/a/", false),
        ("/a/..", "/", false),
        ("/a/b/../", "/a/", false),
        ("/a/b/..", "/a/", false),
        ("/..", "/", false),
        ("/a/./b", "/a/b", false),
        ("/a/.?x", "/a/", false),
        ("/a/.%2fb", "/a/b", false),
        ("/%", "/%", false),
        ("/%g1%4", "/%g1%4", false),
        ("/%C3%BC", "/ü", false),
        ("x/../%41", "x/../A", false),
    ] {
        let found = path::canonical(target);
        assert_eq!(String::from_utf8_lossy(&found), expected, "{target}");
        assert_eq!(matches!(found, std::borrow::Cow::Borrowed(_)), borrowed, "{target}");
    }
}

#[test]
fn a_second_rule_for_the_same_is_reported() {
    let duplicates = |rules: &[(&str, &str)]| match routes(rules) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(|pair| (pair.first, pair.second)).collect(),
    };
    assert_eq!(
        duplicates(&[("", ""), ("x.com", "/a"), ("X.com.", "/a"), ("", "/"), ("x.com", "=/a")]),
        [(1, 2), (0, 3)]
    );
    assert_eq!(duplicates(&[("", "/a"), ("", "/%61"), ("", "/b/../a"), ("", "/a/")]), [(0, 1), (0, 2)]);
    assert_eq!(duplicates(&[("*.x.com", ""), ("x.com", "")]), []);
}

#[test]
fn hosts_that_rules_may_name() {
    for (text, expected) in [
        ("WWW.x.COM", Ok(HostMatch::Exact("www.x.com".into()))),
        ("x.com.", Ok(HostMatch::Exact("x.com".into()))),
        ("*.X.com", Ok(HostMatch::Wildcard("x.com".into()))),
        ("*", Ok(HostMatch::Any)),
        ("localhost", Ok(HostMatch::Exact("localhost".into()))),
        ("[::1]", Ok(HostMatch::Exact("[::1]".into()))),
        ("", Err(HostMistake::Empty)),
        ("*.", Err(HostMistake::Empty)),
        ("x.com:80", Err(HostMistake::Port)),
        ("[::1]:80", Err(HostMistake::Port)),
        ("[x]", Err(HostMistake::Character)),
        ("https://x.com", Err(HostMistake::Url)),
        ("x.com/a", Err(HostMistake::Url)),
        ("*x.com", Err(HostMistake::Star)),
        ("www.*.com", Err(HostMistake::Star)),
        ("bücher.de", Err(HostMistake::NotAscii)),
        ("x y", Err(HostMistake::Character)),
        ("x..com", Err(HostMistake::Length)),
        (".x.com", Err(HostMistake::Length)),
    ] {
        assert_eq!(HostMatch::parse(text), expected, "{text}");
    }
    assert_eq!(HostMatch::parse(&"a".repeat(64)), Err(HostMistake::Length));
}

/// A small generator, so that a failure repeats.
fn next(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) as usize % below
}

#[test]
fn looking_up_by_hash_equals_looking_up_one_by_one() {
    const WORDS: [&str; 4] = ["a", "b", "ab", "c"];
    let mut seed = 7;
    for round in 0..200 {
        let count = 1 + round % 40;
        let mut rules = Vec::new();
        for _ in 0..count {
            let labels: Vec<_> = (0..next(&mut seed, 3)).map(|_| WORDS[next(&mut seed, 4)]).collect();
            let star = if !labels.is_empty() && next(&mut seed, 3) == 0 { "*." } else { "" };
            let segments: String =
                (0..next(&mut seed, 4)).map(|_| format!("/{}", WORDS[next(&mut seed, 4)])).collect();
            let end = if next(&mut seed, 2) == 0 { "/" } else { "" };
            let exact = if next(&mut seed, 3) == 0 { "=" } else { "" };
            let rule = (format!("{star}{}", labels.join(".")), format!("{exact}{segments}{end}"));
            let rule = (host(&rule.0), path(&rule.1), format!("{} {}", rule.0, rule.1));
            rules.push(rule);
            if Routes::new(rules.clone()).is_err() {
                rules.pop();
            }
        }
        let routes = Routes::new(rules).unwrap();
        for _ in 0..50 {
            let host: Vec<_> = (0..1 + next(&mut seed, 3)).map(|_| WORDS[next(&mut seed, 4)]).collect();
            let path: String =
                (0..next(&mut seed, 5)).map(|_| format!("/{}", WORDS[next(&mut seed, 4)])).collect();
            // `chosen` compares with `explain`, which asks one rule after the other.
            chosen(&routes, &host.join("."), &path);
            chosen(&routes, &host.join("."), &format!("{path}/"));
        }
    }
}

#[test]
fn ten_thousand_hosts_are_found() {
    let rules = (0..10_000).map(|n| (host(&format!("h{n}.x.com")), PathMatch::Any, n)).collect();
    let routes = Routes::new(rules).unwrap();
    for n in [0, 1, 5_000, 9_999] {
        assert_eq!(routes.find(&format!("H{n}.x.com:80"), "/").map(|found| *found), Some(n));
    }
    assert!(routes.find("h10000.x.com", "/").is_none());
}

//! The configurations of the origin and of the proxies: what a careful administrator would run for best speed.
//!
//! In: ports and paths of one run. Out: files in the temporary folder. Owns the texts. Always true: every proxy has
//! one worker, the same certificate, keep-alive on both sides, no access log, and TLS 1.3 with tickets. None of
//! HAProxy and nginx is told to add fields to requests (ringgate adds X-Forwarded-* by itself), which is to their
//! advantage.

use std::fs;
use std::path::PathBuf;

use crate::programs::Outcome;
use crate::scenario::{LARGE_BYTES, MEDIUM_BYTES, Proxy, SMALL_BYTES};

/// Where everything of one comparison is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The temporary folder.
    pub folder: PathBuf,
    /// The origin's TCP port.
    pub origin: u16,
    /// The proxy's plain port.
    pub plain: u16,
    /// The proxy's TLS port.
    pub tls: u16,
    /// The proxy's plain port that leads to the origin's Unix socket.
    pub unix: u16,
    /// Whether this runs as root: nginx's workers must then be told to stay root to read the folder.
    pub root: bool,
}

impl Place {
    /// The origin's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("origin.sock")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &[u8]) -> Outcome<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

/// The bytes of an answer: printable, not all the same, so that a wrong offset shows.
pub fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + ((at + at / 26) % 26) as u8).collect()
}

/// Writes the origin's files and the certificate (ECDSA P-256, for `localhost` and 127.0.0.1).
pub fn write_material(place: &Place) -> Outcome<()> {
    fs::create_dir_all(place.folder.join("www"))
        .map_err(|error| format!("cannot create a folder: {error}"))?;
    for (name, bytes) in
        [("www/small", SMALL_BYTES), ("www/medium", MEDIUM_BYTES), ("www/large", LARGE_BYTES)]
    {
        place.write(name, &body(bytes))?;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .map_err(|error| format!("cannot make a certificate: {error}"))?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    place.write("cert.pem", chain.as_bytes())?;
    place.write("key.pem", key.as_bytes())?;
    place.write("both.pem", format!("{chain}{key}").as_bytes())?;
    Ok(())
}

/// Lines that every nginx here starts with.
fn nginx_start(place: &Place, name: &str) -> String {
    let user = if place.root { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile {files};\npid {pid};\nerror_log stderr error;\n\
         events {{ worker_connections {connections}; }}\n",
        files = FILES_MAX,
        connections = FILES_MAX,
        pid = place.file(&format!("{name}.pid")),
    )
}

/// Folders that nginx wants to create even when it never uses them.
fn nginx_folders(place: &Place, name: &str) -> String {
    let mut text = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text += &format!("    {kind}_temp_path {};\n", place.file(&format!("{name}-{kind}")));
    }
    text
}

/// Open files that a proxy with 4,000 client connections may need: two for each, and some more.
pub const FILES_MAX: usize = 12_000;

/// The origin: sendfile for the large file. The small ones are sent in one piece with their head, as applications
/// do: sendfile would make it two segments.
pub fn write_origin(place: &Place) -> Outcome<PathBuf> {
    let text = format!(
        "{start}http {{
{folders}    access_log off;
    root {www};
    default_type text/plain;
    etag off;
    tcp_nodelay on;
    open_file_cache max=100 inactive=1h;
    open_file_cache_valid 1h;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen unix:{socket} backlog=4096;
        location / {{ }}
        location = /large {{ sendfile on; tcp_nopush on; }}
    }}
}}
",
        start = nginx_start(place, "origin"),
        folders = nginx_folders(place, "origin"),
        www = place.file("www"),
        port = place.origin,
        socket = place.socket().display(),
    );
    place.write("origin.conf", text.as_bytes())
}

/// The configuration of one proxy.
pub fn write_proxy(place: &Place, proxy: Proxy) -> Outcome<PathBuf> {
    match proxy {
        Proxy::Haproxy | Proxy::HaproxySplice | Proxy::HaproxyBuffers => {
            place.write("haproxy.cfg", haproxy(place, proxy).as_bytes())
        }
        Proxy::Nginx => place.write("nginx.conf", nginx(place).as_bytes()),
        Proxy::Ringgate => place.write("ringgate.toml", ringgate(place).as_bytes()),
    }
}

/// HAProxy: one thread; no log, no stats; server connections shared by all requests. Session tickets are on unless
/// `no-tls-tickets` is written; TLS 1.3 resumption with tickets needs no session cache, which stays at its default.
/// Buffers stay at their default of 16 KB, as HAProxy's manual strongly recommends; that larger ones make large
/// answers cheaper is shown by a row of its own.
fn haproxy(place: &Place, variant: Proxy) -> String {
    let splice = if variant == Proxy::HaproxySplice { "    option splice-auto\n" } else { "" };
    let buffers = if variant == Proxy::HaproxyBuffers { "    tune.bufsize 65536\n" } else { "" };
    format!(
        "global
    nbthread 1
{buffers}    maxconn {connections}
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    maxconn {connections}
    http-reuse always
{splice}    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
frontend plain
    bind 127.0.0.1:{plain} backlog 4096
    default_backend origin
frontend tls
    bind 127.0.0.1:{tls} backlog 4096 ssl crt {pem} alpn http/1.1
    default_backend origin
frontend plain_to_unix
    bind 127.0.0.1:{unix} backlog 4096
    default_backend origin_unix
backend origin
    server origin 127.0.0.1:{origin}
backend origin_unix
    server origin unix@{socket}
",
        connections = FILES_MAX / 2 - 500,
        plain = place.plain,
        tls = place.tls,
        unix = place.unix,
        origin = place.origin,
        pem = place.file("both.pem"),
        socket = place.socket().display(),
    )
}

/// nginx: kept connections to the origin (a keepalive pool and HTTP/1.1 without Connection), buffers that hold a
/// small answer in one piece and stream a large one without temporary files.
fn nginx(place: &Place) -> String {
    let location = |upstream: &str| {
        format!(
            "location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffer_size 16k;
            proxy_buffers 16 64k;
            proxy_busy_buffers_size 256k;
            proxy_max_temp_file_size 0;
        }}"
        )
    };
    let upstream = |name: &str, server: &str| {
        format!(
            "    upstream {name} {{ server {server}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 10m; }}\n"
        )
    };
    format!(
        "{start}http {{
{folders}    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 10m;
{origin}{origin_unix}    server {{
        listen 127.0.0.1:{plain} reuseport backlog=4096;
        listen 127.0.0.1:{tls} ssl reuseport backlog=4096;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_session_tickets on;
        ssl_session_cache shared:sessions:20m;
        {to_origin}
    }}
    server {{
        listen 127.0.0.1:{unix} reuseport backlog=4096;
        {to_origin_unix}
    }}
}}
",
        start = nginx_start(place, "nginx"),
        folders = nginx_folders(place, "nginx"),
        origin = upstream("origin", &format!("127.0.0.1:{}", place.origin)),
        origin_unix = upstream("origin_unix", &format!("unix:{}", place.socket().display())),
        plain = place.plain,
        tls = place.tls,
        unix = place.unix,
        chain = place.file("cert.pem"),
        key = place.file("key.pem"),
        to_origin = location("origin"),
        to_origin_unix = location("origin_unix"),
    )
}

/// ringgate: one worker, everything else as it comes.
fn ringgate(place: &Place) -> String {
    format!(
        "[http.plain]
listen = [\"127.0.0.1:{plain}\"]
routes = [{{ pool = \"origin\" }}]

[http.tls]
listen = [\"127.0.0.1:{tls}\"]
certificates = [\"{pem}\"]
routes = [{{ pool = \"origin\" }}]

[http.plain_to_unix]
listen = [\"127.0.0.1:{unix}\"]
routes = [{{ pool = \"origin_unix\" }}]

[pool.origin]
servers = [{{ address = \"127.0.0.1:{origin}\" }}]

[pool.origin_unix]
servers = [{{ address = \"unix:{socket}\" }}]

[workers]
count = 1
",
        plain = place.plain,
        tls = place.tls,
        unix = place.unix,
        origin = place.origin,
        pem = place.file("both.pem"),
        socket = place.socket().display(),
    )
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { folder: PathBuf::from("/f"), origin: 1001, plain: 1002, tls: 1003, unix: 1004, root: false }
    }

    #[test]
    fn bodies_are_exact_and_not_uniform() {
        for bytes in [0, SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES] {
            assert_eq!(body(bytes).len(), bytes);
        }
        assert_ne!(body(52)[..26], body(52)[26..]);
    }

    #[test]
    fn every_proxy_has_one_worker_and_all_ports() {
        for (text, worker) in [
            (haproxy(&place(), Proxy::Haproxy), "nbthread 1\n"),
            (nginx(&place()), "worker_processes 1;"),
            (ringgate(&place()), "[workers]\ncount = 1\n"),
        ] {
            assert!(text.contains(worker), "{text}");
            for port in
                ["127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003", "127.0.0.1:1004", "/f/origin.sock"]
            {
                assert!(text.contains(port), "{port} in {text}");
            }
        }
    }

    #[test]
    fn variants_differ_in_their_one_line() {
        for (variant, splice, buffers) in [
            (Proxy::Haproxy, false, false),
            (Proxy::HaproxySplice, true, false),
            (Proxy::HaproxyBuffers, false, true),
        ] {
            let text = haproxy(&place(), variant);
            assert_eq!(text.contains("\n    option splice-auto\n"), splice, "{text}");
            assert_eq!(text.contains("\n    tune.bufsize 65536\n"), buffers, "{text}");
        }
    }

    #[test]
    fn ringgates_configuration_is_toml() {
        assert!(toml::from_str::<toml::Table>(&ringgate(&place())).is_ok());
    }
}

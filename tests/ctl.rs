//! `ringgate ctl` and `ringgate top` with a running process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Authority, Engine, PATIENCE, Ringgate, Running, Server, Wire, address, curl_text, eventually,
    is_listening, now, program,
};
use tempfile::TempDir;

/// A running ringgate with an admin interface on loopback and on a Unix socket in its folder.
struct Site {
    ringgate: Ringgate,
    at: SocketAddr,
    admin: SocketAddr,
    servers: Vec<Server>,
}

/// What `ctl` or `top` said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    /// A success's output.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// A refusal's words.
    #[track_caller]
    fn refused(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        assert!(
            self.stderr.starts_with("ringgate: ") || self.stderr.contains("\nringgate: "),
            "{}",
            self.stderr
        );
        self.stderr
    }
}

fn ringgate(arguments: &[&str]) -> Said {
    let output = Command::new(Ringgate::program())
        .args(arguments)
        .env_remove("RINGGATE_ADMIN")
        .env_remove("RINGGATE_TOKEN_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Site {
    /// Two servers a and b in the pool web, and an a in the pool api.
    fn start() -> Self {
        Self::with("")
    }

    /// The same with further lines of the admin block.
    fn with(admin_lines: &str) -> Self {
        let (at, admin) = (address(), address());
        let servers: Vec<Server> = (0..3).map(|_| Server::ok()).collect();
        let [a, b, c] = [0, 1, 2].map(|at| servers[at].address);
        let config = format!(
            "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ path = \"/api/\", pool = \"api\" }}, {{ pool = \"web\" }} ]\n
             [pool.web]\nservers = [ {{ address = \"{a}\", name = \"a\" }}, {{ address = \"{b}\", name = \"b\" }} ]\n
             [pool.api]\nservers = [ {{ address = \"{c}\", name = \"a\" }} ]\n
             [admin]\nlisten = [\"unix:admin.sock\", \"{admin}\"]\n{admin_lines}\n"
        );
        let ringgate = Ringgate::start(Engine::Epoll, &config);
        eventually("the admin interface listens", || is_listening(admin).then_some(()));
        Self { ringgate, at, admin, servers }
    }

    fn file(&self) -> PathBuf {
        self.ringgate.folder().join("ringgate.toml")
    }

    /// `ctl` over the Unix socket.
    fn ctl(&self, words: &str) -> Said {
        let file = self.file();
        let mut arguments = vec!["ctl", "--config", file.to_str().unwrap()];
        arguments.extend(words.split(' '));
        ringgate(&arguments)
    }

    fn ask(&self) -> u16 {
        Wire::connect(self.at).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status()
    }

    /// How many of these requests each server of the pool web got.
    fn share(&self, requests: usize) -> [usize; 2] {
        let count = || [0, 1].map(|at| self.servers[at].count("GET / "));
        let before = count();
        (0..requests).for_each(|_| assert_eq!(self.ask(), 200));
        let after = count();
        [after[0] - before[0], after[1] - before[1]]
    }

    fn change_file(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from));
        std::fs::write(self.file(), text.replace(from, to)).unwrap();
    }
}

#[test]
fn questions_are_answered_as_tables_and_as_json() {
    let site = Site::start();
    site.share(4);
    let status = site.ctl("status").fine();
    for word in ["ringgate", "process", "up", "connections", "edition"] {
        assert!(status.contains(word), "{word}: {status}");
    }
    let servers = site.ctl("servers").fine();
    let lines: Vec<&str> = servers.lines().collect();
    assert_eq!(lines.len(), 4, "{servers}");
    for word in ["POOL", "SERVER", "STATE", "WEIGHT", "IN FLIGHT", "REQ/S", "P50/P99 MS", "LAST CHECK"] {
        assert!(lines[0].contains(word), "{word}: {servers}");
    }
    let column = lines[0].find("STATE").unwrap();
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("up ")), "{servers}");
    assert_eq!(site.ctl("servers api").fine().lines().count(), 2);
    assert!(site.ctl("servers nowhere").refused().contains("the pools are: web, api"));
    assert!(site.ctl("listeners").fine().contains(&site.at.to_string()));
    assert_eq!(site.ctl("certs").fine(), "no certificates\n");
    assert_eq!(site.ctl("diff").fine(), "the process does what its file says\n");
    let mut idle = Wire::connect(site.at);
    idle.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(site.ctl("sessions --limit 5").fine().contains("127."));
    for question in ["status", "servers", "servers web", "listeners", "certs", "diff", "sessions"] {
        let said = site.ctl(&format!("{question} --json")).fine();
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(value.is_object() || value.is_array(), "{said}");
    }
    // The same over TCP, and by the environment.
    let http = format!("http://{}", site.admin);
    assert!(ringgate(&["ctl", "servers", "--admin", &http]).fine().contains("web"));
    let output =
        Command::new(Ringgate::program()).args(["ctl", "status"]).env("RINGGATE_ADMIN", &http).output();
    assert!(output.unwrap().status.success());
}

#[test]
fn a_drained_server_gets_nothing_until_it_is_ready() {
    let site = Site::start();
    assert_eq!(site.share(6), [3, 3]);
    for word in ["drain", "maint"] {
        assert!(site.ctl(&format!("{word} web/a")).fine().starts_with("web/a "));
        assert_eq!(site.share(6), [0, 6], "{word}");
        assert!(site.ctl("servers web").fine().contains(word));
        site.ctl("ready web/a").fine();
        let [a, b] = site.share(6);
        assert!(a >= 2 && b >= 2, "{a} {b}");
    }
    // By its address, and by a name that only one pool has.
    site.ctl(&format!("drain {}", site.servers[1].address)).fine();
    assert_eq!(site.share(4), [4, 0]);
    site.ctl("ready b").fine();
}

#[test]
fn a_name_of_two_servers_is_refused_with_a_list() {
    let site = Site::start();
    let said = site.ctl("drain a").refused();
    assert!(said.contains("a is not one server") && said.contains("web/a, api/a"), "{said}");
    let said = site.ctl("drain web/aa").refused();
    assert!(said.contains("did you mean web/a?"), "{said}");
    assert_eq!(site.share(6), [3, 3]);
}

#[test]
fn weights_change_shares_and_diff_shows_it() {
    let site = Site::start();
    site.ctl("weight web/a 3").fine();
    assert_eq!(site.share(8), [6, 2]);
    assert!(site.ctl("servers web").fine().contains("3 (file: 1)"));
    let diff = site.ctl("diff").fine();
    assert!(diff.contains("web") && diff.contains('3') && diff.starts_with("WHAT"), "{diff}");
    assert_eq!(site.ctl("weight web/a 1001").code, 2);
}

#[test]
fn servers_come_and_go() {
    let site = Site::start();
    let more = Server::ok();
    let said = site.ctl(&format!("add web {} --name c --weight 2", more.address)).fine();
    assert_eq!(said, "web/c was added\n");
    site.share(8);
    assert_eq!(more.count("GET / "), 4);
    site.ctl("remove web/c").fine();
    assert_eq!(site.share(4), [2, 2]);
    let said = site.ctl("add web localhost:9 --name d --weight 0").fine();
    assert!(said.contains("note: localhost was resolved once, to ") && said.contains(":9, and"), "{said}");
    site.ctl("remove web/d").fine();
    let said = site.ctl("add nowhere 127.0.0.1:1").refused();
    assert!(said.contains("no pool \"nowhere\"") && said.contains("web"), "{said}");
    site.ctl("add web not-an-address").refused();
}

#[test]
fn a_reload_says_what_changed_or_what_is_wrong() {
    let site = Site::start();
    let file = site.file();
    site.change_file("name = \"b\" }", "name = \"b\", weight = 3 }");
    let said = site.ctl("reload").fine();
    assert!(said.starts_with("applied: edition ") && said.lines().count() > 1, "{said}");
    assert_eq!(site.share(8), [2, 6]);
    site.change_file("[pool.api]", "[pool.apy]\nweigth = 1");
    let said = site.ctl("reload");
    assert_eq!(said.code, 1);
    let shown = file.display().to_string();
    assert!(said.stderr.contains(&shown) && said.stderr.contains("weigth = 1"), "{}", said.stderr);
    let lines: Vec<&str> = said.stderr.lines().collect();
    let at = lines.iter().position(|line| line.contains("weigth = 1")).unwrap();
    assert_eq!(lines[at].find("weigth"), lines[at + 1].find('^'), "{}", said.stderr);
    assert_eq!(site.share(8), [2, 6], "nothing has changed");
}

#[test]
fn a_shutdown_ends_the_process() {
    let mut site = Site::start();
    assert!(site.ctl("shutdown --in 5s").fine().contains("5 s at the latest"));
    assert_eq!(site.ringgate.running.wait().code(), Some(0));
    // A killed or ended process is named as what it is.
    let said = site.ctl("status").refused();
    assert!(said.contains("nothing listens at unix:") && said.contains("is ringgate running?"), "{said}");
    assert!(said.contains("[admin] listen"), "{said}");
    let said = ringgate(&["ctl", "--admin", &format!("http://{}", site.admin), "status"]).refused();
    assert!(said.contains(&format!("nothing listens at http://{}", site.admin)), "{said}");
}

#[test]
fn decisions_are_explained_with_the_running_state() {
    let site = Site::start();
    site.ctl("drain web/a").fine();
    let url = format!("http://{}/x", site.at);
    let said = site.ctl(&format!("explain --url {url}")).fine();
    assert!(said.contains("pool web") && said.contains("drain"), "{said}");
}

#[test]
#[ignore = "the process has no metrics yet"]
fn metrics_are_printed_as_they_are() {
    let site = Site::start();
    let metrics = site.ctl("metrics").fine();
    assert!(metrics.contains("# TYPE ringgate_"), "{metrics}");
}

#[test]
fn a_token_opens_the_interface() {
    let folder = TempDir::new().unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    std::fs::write(&right, "open-sesame-0123456789\n").unwrap();
    std::fs::write(&wrong, "open-barley-0123456789\n").unwrap();
    let site = Site::with(&format!("token_file = \"{}\"", right.display()));
    let at = format!("http://{}", site.admin);
    let with =
        |file: &Path| ringgate(&["ctl", "--admin", &at, "--token-file", file.to_str().unwrap(), "servers"]);
    with(&right).fine();
    assert!(with(&wrong).refused().contains("token"));
    assert!(with(&folder.path().join("none")).refused().contains("cannot be read"));
    let said = ringgate(&["ctl", "--admin", &at, "servers"]).refused();
    assert!(said.contains("--token-file"), "{said}");
    // The configuration names the token.
    site.ctl("servers").fine();
}

#[test]
fn certificates_open_the_interface() {
    let authority = Authority::new();
    let (ours, theirs) = (authority.issue("admin", &["localhost"]), authority.issue("ctl", &["someone"]));
    let site = Site::with(&format!(
        "certificates = [\"{}\"]\ntls = {{ client_ca = \"{}\", client_certificate = \"required\" }}",
        ours.both.display(),
        authority.ca().display()
    ));
    // The name in the certificate is localhost, and this host's loopback address is another one: an address is no name.
    let ca = authority.ca();
    let at = format!("https://{}", site.admin);
    let certificate = theirs.both.to_str().unwrap();
    let said =
        ringgate(&["ctl", "--admin", &at, "--ca", ca.to_str().unwrap(), "--cert", certificate, "servers"]);
    assert!(said.refused().contains("TLS with https://"));
    let ours = authority.issue("address", &[&site.admin.ip().to_string()]);
    let site = Site::with(&format!(
        "certificates = [\"{}\"]\ntls = {{ client_ca = \"{}\", client_certificate = \"required\" }}",
        ours.both.display(),
        authority.ca().display()
    ));
    let at = format!("https://{}", site.admin);
    let ca = ca.to_str().unwrap();
    ringgate(&["ctl", "--admin", &at, "--ca", ca, "--cert", certificate, "servers"]).fine();
    ringgate(&["ctl", "--admin", &at, "--ca", ca, "servers"]).refused();
    ringgate(&["ctl", "--admin", &at, "--cert", certificate, "servers"]).refused();
    ringgate(&["ctl", "--admin", &format!("http://{}", site.admin), "servers"]).refused();
}

#[test]
fn command_lines_that_are_not_understood_are_refused() {
    for line in [
        "ctl",
        "ctl drain",
        "ctl weight web/a",
        "ctl weight web/a -1",
        "ctl frobnicate",
        "ctl --admin x status",
        "ctl shutdown --in 5",
        "ctl explain",
        "top x",
    ] {
        let said = ringgate(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(said.code, 2, "{line}: {}{}", said.stdout, said.stderr);
    }
    // A server that speaks something else.
    let other = Server::start(|wire| _ = wire.send("SSH-2.0-x\r\n\r\n"));
    let said = ringgate(&["ctl", "--admin", &format!("http://{}", other.address), "status"]).refused();
    assert!(said.contains("is it the admin interface of ringgate"), "{said}");
    let empty = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz");
    let said = ringgate(&["ctl", "--admin", &format!("http://{}", empty.address), "status"]).refused();
    assert!(said.contains("is not understood"), "{said}");
}

#[test]
fn top_prints_one_picture() {
    let site = Site::start();
    site.ctl("drain web/a").fine();
    let file = site.file();
    let said = ringgate(&["top", "--once", "--config", file.to_str().unwrap()]).fine();
    for word in ["ringgate", "web/a", "drain", "web/b", "api/a", "LISTENERS", "WORKERS", &site.at.to_string()]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains('\x1b'), "{said}");
    // Without a terminal there is nothing to draw on.
    let said = ringgate(&["top", "--config", file.to_str().unwrap()]).refused();
    assert!(said.contains("--once"), "{said}");
}

/// A terminal of 80 x 24 in a tmux of its own.
struct Terminal {
    socket: PathBuf,
    _folder: TempDir,
}

impl Terminal {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let terminal = Self { socket: folder.path().join("tmux"), _folder: folder };
        terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", "env PS1='ready> ' sh"]);
        terminal.until("ready>");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new(program("tmux", "tmux"))
            .args(["-f", "/dev/null", "-S"])
            .arg(&self.socket)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("TMUX")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }

    /// Types a command.
    fn order(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.keys("Enter");
    }

    #[track_caller]
    fn until(&self, text: &str) -> String {
        let start = now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "{text} does not appear:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

#[test]
fn top_follows_a_process_through_its_restart_and_gives_the_terminal_back() {
    let mut site = Site::start();
    let (file, folder) = (site.file(), site.ringgate.folder().to_owned());
    let terminal = Terminal::start();
    let line = format!("{} top --config {}", Ringgate::program().display(), file.display());
    terminal.order(&line);
    let screen = terminal.until(" live");
    for word in ["web/a", "web/b", "api/a", "REQ/S", "LISTENERS", "WORKERS", "q leave"] {
        assert!(screen.contains(word), "{word}:\n{screen}");
    }
    // Orders are seen, keys are obeyed.
    site.ctl("weight web/b 42").fine();
    terminal.until("42");
    terminal.keys("p");
    terminal.until("paused");
    terminal.keys("p");
    terminal.until("live");
    terminal.keys("Down");

    site.ringgate.running.kill();
    let screen = terminal.until("connection lost, trying again");
    assert!(screen.contains("web/a"), "the last picture stays:\n{screen}");
    let arguments = ["run", file.to_str().unwrap(), "--engine", "epoll"];
    let _again = Running::start("again", Ringgate::program(), &arguments, &folder);
    terminal.until(" live");

    terminal.keys("q");
    terminal.until("ready>");
    terminal.order("echo left-with-$?; stty -a | grep -o ' -\\?echo '");
    let screen = terminal.until("left-with-0");
    assert!(!screen.contains("LISTENERS"), "the picture is gone:\n{screen}");
    terminal.until("\n echo");

    // A signal gives the terminal back too.
    terminal.order("clear");
    terminal.order(&format!("sh -c 'echo $$ > {}/pid; exec {line}'", folder.display()));
    terminal.until(" live");
    let pid = std::fs::read_to_string(folder.join("pid")).unwrap();
    assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    let screen = terminal.until("ready>");
    assert!(!screen.contains("LISTENERS"), "{screen}");
}

#[test]
fn who_takes_every_place_of_one_admin_listener_does_not_shut_the_others() {
    let (at, door) = (address(), address());
    let config = format!(
        "[http.main]\nlisten = [\"{at}\"]\nroutes = [ {{ answer = {{ status = 200, text = \"x\" }} }} ]\n\
         [admin]\nlisten = [\"{door}\", \"unix:admin.sock\"]\n"
    );
    let gate = Ringgate::start(Engine::Epoll, &config);
    let socket = gate.folder().join("admin.sock");
    eventually("the admin interface listens", || socket.exists().then_some(()));
    // More than there are places; none of them says anything.
    let _silent: Vec<Wire> = (0..100).map(|_| Wire::connect(door)).collect();
    std::thread::sleep(Duration::from_millis(200));
    let url = "http://localhost/v1/status";
    for _ in 0..3 {
        let said = curl_text(&["--max-time", "5", "--unix-socket", socket.to_str().unwrap(), url]);
        assert!(said.contains("\"pid\""), "{said}");
    }
}

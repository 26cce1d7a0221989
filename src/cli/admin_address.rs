//! Where the admin interface is found: `--admin`, else `--config`, else `RINGGATE_ADMIN`, else the default socket.
//!
//! What goes in: options of the command line and the environment. What comes out: a [`Place`], a token, or what is wrong
//! in words. It owns nothing. Always true: a listening address that means every address becomes a loopback address.

use std::path::{Path, PathBuf};

use super::admin_client::{Client, Credentials, Trouble};

/// Where the interface listens when nobody says otherwise.
pub(super) const DEFAULT: &str = "unix:/run/ringgate/admin.sock";

/// Where the interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    /// `host` is a name or an address, without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => write!(f, "http://{}:{port}", bracketed(host)),
            Self::Tls { host, port } => write!(f, "https://{}:{port}", bracketed(host)),
        }
    }
}

impl Place {
    /// Reads `unix:/path`, `/path`, `http://host:port`, `https://host:port` or `host:port`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str =
            "write it like unix:/run/ringgate/admin.sock, http://127.0.0.1:9090 or https://host:9090";
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            let is_path = !path.is_empty();
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(FORMS.into()) };
        }
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(FORMS.into()),
            None => (false, text),
        };
        let Some((host, port)) = rest.trim_end_matches('/').rsplit_once(':') else {
            return Err(FORMS.into());
        };
        let port =
            port.parse().ok().filter(|port| *port > 0).ok_or("the port is a number from 1 to 65535")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "" | "*" | "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        if host.contains(['/', '@', ' ']) || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("\"{host}\" is not a host; {FORMS}"));
        }
        let host = host.to_owned();
        Ok(if is_tls { Self::Tls { host, port } } else { Self::Tcp { host, port } })
    }

    /// The first address under `[admin] listen` of a configuration file, and the file that holds its token.
    fn of_file(file: &Path) -> Result<(Self, Option<PathBuf>), Trouble> {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Trouble::new(format!("{shown} cannot be read: {error}"), ""))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            Trouble::new(
                format!("{shown} is not TOML: {}", error.message()),
                format!("ringgate check {shown} says where"),
            )
        })?;
        let Some(admin) = table.get("admin").and_then(|admin| admin.as_table()) else {
            let what = format!("{shown} has no [admin] block: this process has no admin interface");
            return Err(Trouble::new(
                what,
                "add [admin] listen = [\"unix:/run/ringgate/admin.sock\"] and start it again",
            ));
        };
        let first = match admin.get("listen") {
            None => DEFAULT,
            Some(toml::Value::Array(list)) => {
                list.first().and_then(|first| first.as_str()).unwrap_or_default()
            }
            Some(one) => one.as_str().unwrap_or_default(),
        };
        // Relative paths begin at the file's folder.
        let folder = file.parent().unwrap_or(Path::new(""));
        let token = admin.get("token_file").and_then(|path| path.as_str()).map(|path| folder.join(path));
        let is_tls = admin.contains_key("certificates");
        let place = Self::parse(first)
            .map_err(|what| Trouble::new(format!("{shown}: [admin] listen: {what}"), ""))?;
        let place = match place {
            Self::Tcp { host, port } if is_tls => Self::Tls { host, port },
            Self::Unix(path) => Self::Unix(folder.join(path)),
            place => place,
        };
        Ok((place, token))
    }
}

/// How the admin interface is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Reach {
    /// Where the admin interface listens (default: RINGGATE_ADMIN, else unix:/run/ringgate/admin.sock)
    #[arg(long, value_name = "ADDR", value_parser = Place::parse, global = true)]
    admin: Option<Place>,
    /// Take address and token from [admin] of this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "admin", global = true)]
    config: Option<PathBuf>,
    /// A file with the token of the admin interface (default: RINGGATE_TOKEN_FILE)
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Authorities that an https:// interface is verified with, as PEM (default: those of the system)
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// The certificate that we show, as PEM
    #[arg(long, value_name = "FILE", global = true)]
    cert: Option<PathBuf>,
    /// Its key, as PEM (default: looked for beside the certificate)
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    key: Option<PathBuf>,
}

impl Reach {
    /// The client for these options and this environment.
    pub(super) fn client(&self) -> Result<Client, Trouble> {
        let (place, of_file) = match (&self.admin, &self.config, environment("RINGGATE_ADMIN")) {
            (Some(place), ..) => (place.clone(), None),
            (None, Some(file), _) => Place::of_file(file)?,
            (None, None, said) => {
                let place = Place::parse(said.as_deref().unwrap_or(DEFAULT));
                (place.map_err(|what| Trouble::new(format!("RINGGATE_ADMIN: {what}"), ""))?, None)
            }
        };
        let said = self.token_file.clone().or_else(|| environment("RINGGATE_TOKEN_FILE").map(PathBuf::from));
        let token = match (said, of_file) {
            (Some(file), _) => Some(token(&file)?),
            // A Unix socket may be open to users who cannot read the token, and not ask for it.
            (None, Some(file)) if matches!(place, Place::Unix(_)) => token(&file).ok(),
            (None, Some(file)) => Some(token(&file)?),
            (None, None) => None,
        };
        let credentials =
            Credentials { token, ca: self.ca.clone(), certificate: self.cert.clone(), key: self.key.clone() };
        Client::new(place, &credentials)
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The token in a file: its first line.
fn token(file: &Path) -> Result<String, Trouble> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Trouble::new(format!("the token in {shown} cannot be read: {error}"), ""))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Trouble::new(
            format!("{shown} holds no token"),
            "its first line is the token: visible ASCII, no blanks",
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, shown) in [
            ("unix:/run/x", "unix:/run/x"),
            ("/run/x", "unix:/run/x"),
            ("unix:x", "unix:x"),
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090"),
            ("http://localhost:9090/", "http://localhost:9090"),
            ("https://admin.example.org:9443", "https://admin.example.org:9443"),
            ("127.0.0.1:9090", "http://127.0.0.1:9090"),
            (":9090", "http://127.0.0.1:9090"),
            ("*:9090", "http://127.0.0.1:9090"),
            ("0.0.0.0:9090", "http://127.0.0.1:9090"),
            ("[::]:9090", "http://[::1]:9090"),
            ("https://[2001:db8::1]:9090", "https://[2001:db8::1]:9090"),
        ] {
            assert_eq!(Place::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "unix:",
            "x",
            "ftp://x:1",
            "http://x",
            "http://x:0",
            "http://x:99999",
            "http://a/b:1",
            "http://u@x:1",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        for (text, shown) in [
            ("[admin]\nlisten = [\"127.0.0.1:1\", \"unix:/x\"]", "http://127.0.0.1:1"),
            ("[admin]\nlisten = \"unix:/x\"", "unix:/x"),
            ("[admin]\n", DEFAULT),
            ("[admin]\nlisten = [\":1\"]\ncertificates = [\"x\"]", "https://127.0.0.1:1"),
            ("", "has no [admin] block"),
            ("[admin", "is not TOML"),
            ("[admin]\nlisten = []", "[admin] listen: write it like"),
        ] {
            std::fs::write(&file, text).unwrap();
            let found =
                Place::of_file(&file).map_or_else(|trouble| trouble.what, |(place, _)| place.to_string());
            assert!(found.contains(shown), "{text}: {found}");
        }
        std::fs::write(&file, "[admin]\nlisten = \":1\"\ntoken_file = \"token\"").unwrap();
        assert_eq!(Place::of_file(&file).unwrap().1, Some(folder.path().join("token")));
        assert!(Place::of_file(&folder.path().join("y")).unwrap_err().what.contains("cannot be read"));
    }

    #[test]
    fn a_token_is_one_visible_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (text, found) in
            [("abc\n", Some("abc")), (" a-b_c \nx", Some("a-b_c")), ("", None), ("a b", None), ("ü", None)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(token(&file).ok().as_deref(), found, "{text:?}");
        }
    }
}

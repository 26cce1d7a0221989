//! `ringgate run` without a file: two servers, a certificate made on the spot, http, https and the dashboard on loopback.
//!
//! What goes in: nothing. What comes out: a configuration like any other. It owns nothing. Always true: it listens on
//! loopback only, and on ports that were free a moment ago; the servers are blocks of ringgate itself.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use crate::clock;
use crate::config::model::Config;
use crate::tls::demo::{LOCAL_NAMES, certificate};
use crate::tls::{ServerOptions, ServerTls};

const PAGE: &str = include_str!("demo.html");
const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;
const ADMIN_PORT: u16 = 9090;

/// The demo's configuration, and what to open in a browser. Errors: what a person can do about it.
pub(super) fn config() -> Result<(Config, String), String> {
    let ports = [free_port(HTTP_PORT)?, free_port(HTTPS_PORT)?, free_port(0)?, free_port(0)?];
    let admin = free_port(ADMIN_PORT)?;
    let [http, https, first, second] = ports;
    let text = format!(
        "[admin]\nlisten = [\"127.0.0.1:{admin}\"]\n\
         [http.demo]\nlisten = [\"127.0.0.1:{http}\"]\npool = \"demo\"\n\
         [http.demo-tls]\nlisten = [\"127.0.0.1:{https}\"]\npool = \"demo\"\n\
         [pool.demo]\nservers = [\n\
         \x20 {{ name = \"A\", address = \"127.0.0.1:{first}\" }},\n\
         \x20 {{ name = \"B\", address = \"127.0.0.1:{second}\" }},\n]\n\
         {}{}",
        server("A", first),
        server("B", second),
    );
    let mut config = Config::parse(&text, "the demo").map_err(|mistakes| mistakes.to_string())?;
    let (store, _) = certificate(&LOCAL_NAMES, clock::wall()).map_err(|error| error.to_string())?;
    let tls = ServerTls::new(store, &ServerOptions::default()).map_err(|error| error.to_string())?;
    if let Some(secure) = config.http.iter_mut().find(|block| block.name == "demo-tls") {
        secure.tls = Some(Arc::new(tls));
    }
    Ok((
        config,
        format!(
            "http://127.0.0.1:{http}/ and https://127.0.0.1:{https}/\nThe dashboard: http://127.0.0.1:{admin}/"
        ),
    ))
}

/// A server that says its name: the page on every path, the name alone on `/whoami`.
fn server(name: &str, port: u16) -> String {
    let page = PAGE.replace("SERVER", name);
    format!(
        "[http.server-{}]\nlisten = [\"127.0.0.1:{port}\"]\nroutes = [\n\
         \x20 {{ exact = \"/whoami\", answer = {{ status = 200, content_type = \"text/plain\", text = \"{name}\\n\" }} }},\n\
         \x20 {{ answer = {{ status = 200, content_type = \"text/html; charset=utf-8\", text = '''{page}''' }} }},\n]\n",
        name.to_lowercase(),
    )
}

/// The wanted port if it is free, else any.
fn free_port(wanted: u16) -> Result<u16, String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(wanted).or_else(|_| bind(0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no port is free on 127.0.0.1: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_a_good_configuration() {
        let (config, urls) = config().unwrap();
        assert_eq!((config.http.len(), config.servers.len()), (4, 2));
        assert!(config.http.iter().any(|block| block.tls.is_some()));
        assert!(urls.contains("https://127.0.0.1:"));
        assert!(
            config.listeners.iter().all(|listener| listener.address.to_string().starts_with("127.0.0.1:"))
        );
    }
}

//! Every mistake as people see it (the table is `mistakes.txt`), every default, and every key once.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::model::*;
use crate::config::*;
use crate::ids::{PoolId, ServerId};
use crate::limits;
use crate::net::Address;
use crate::proxyproto::Version;
use crate::route::{HostMatch, PathMatch};
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
        std::fs::write(folder.path().join("site.pem"), pem).unwrap();
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
            () => Ok(b"<p>sorry</p>".to_vec()),
        }
    }

    fn resolve(&self, name: &str, port: u16) -> io::Result<SocketAddr> {
        Nowhere.resolve(name, port)
    }

    fn has_ipv6(&self) -> bool {
        true
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

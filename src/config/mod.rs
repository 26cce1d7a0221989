//! Configuration: text -> values with places (`raw`) -> all mistakes (`check`) -> plain values (`model`).
//!
//! What goes in: a TOML file. What comes out: a [`Config`], or every mistake in it ([`Mistakes`]) with its line, a caret
//! under the value, and advice. It owns nothing. Always true: a `Config` that comes out of here needs no further check;
//! reading one never panics, whatever the bytes.
//!
//! Files named in a configuration are relative to the folder of the configuration file. Host names of servers are
//! resolved when the configuration is loaded ([`expand()`] makes servers of all their addresses), and again by a process
//! that runs. A name that cannot be resolved is a warning.

use std::io;
use std::path::Path;

mod brackets;
mod check;
mod error;
mod expand;
pub mod model;
pub mod names;
mod raw;
mod values;
mod words;
mod world;

pub use error::{Mistake, Mistakes};
pub use expand::expand;
pub use model::Config;
pub use world::{Certified, Host, Nowhere, World};

use crate::net::Address;
use error::Source;
use raw::Notes;

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is doubtful in it, in the order of the file.
    pub warnings: Vec<Mistake>,
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Loaded, Mistakes> {
    let name = path.display().to_string();
    let whole = |what: String, advice: &str| Mistakes(vec![Mistake::of_file(&name, what, advice)]);
    let bytes = Host.read(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => whole("there is no such file".into(), "check the path"),
        _ => whole(format!("cannot be read: {error}"), "check the path and its permissions"),
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(whole("is larger than 16 MiB".into(), "is it a configuration file?"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse_in(&text, &name, &Host),
        Err(error) => {
            let (valid, bytes) = (error.utf8_error().valid_up_to(), error.into_bytes());
            let text = String::from_utf8_lossy(&bytes);
            let mistake = Source::new(&name, &text).mistake(
                valid..valid,
                "",
                "the file is not UTF-8 text".into(),
                "save it in the encoding UTF-8".into(),
            );
            Err(Mistakes(vec![mistake]))
        }
    }
}

/// Reads a time such as `1m30s`, as the configuration writes it; else what is wrong and what to write.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    values::duration(text).map_err(|fault| format!("{}: {}", fault.what, fault.advice))
}

/// Checks a text. `file_name` is shown in mistakes, and its folder is where relative paths begin; `world` is what files
/// and host names are looked up in.
pub fn parse_in(text: &str, file_name: &str, world: &dyn World) -> Result<Loaded, Mistakes> {
    let notes = Notes::new(Source::new(file_name, text));
    let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
    let config = raw::parse(&notes).map(|tree| check::check(&notes, &tree, folder, world));
    let (mistakes, warnings) = notes.into_lists();
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(Mistakes(mistakes)),
    }
}

/// The address of a server, as it stands in a configuration. Of a name it is the first one now: this blocks. Errors: what
/// is wrong, for people.
pub fn server_address(text: &str, dns: &model::Dns) -> Result<Address, String> {
    match values::server(text, Path::new("")).map_err(|fault| fault.what)? {
        values::Target::Address(address) => Ok(Address::Tcp(address)),
        values::Target::Unix(path) => Ok(Address::Unix(path)),
        values::Target::Service(_) => Err("a service is several servers: write it into the file".into()),
        values::Target::Name(name, port) => {
            let lookups = [model::Lookup { name, port: Some(port) }];
            let found = Host.resolve(&lookups, dns).into_iter().flatten().next();
            let unknown = || format!("the name \"{}\" cannot be resolved", lookups[0].name);
            found.and_then(|answer| Some(Address::Tcp(answer.found.first()?.address))).ok_or_else(unknown)
        }
    }
}

impl Config {
    /// Checks a text: the contents of a configuration file. `file_name` is shown in mistakes, and its folder is where
    /// relative paths begin. Certificates and other files that the text names are read, host names are resolved.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Mistakes> {
        parse_in(text, file_name, &Host).map(|loaded| loaded.config)
    }
}

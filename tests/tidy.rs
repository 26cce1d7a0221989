//! Rules of style that a compiler does not check: layers, length of files, where unsafe stands, headers, names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringgate::close::Close;

/// Which modules stand on which floor; imports go down or stay on the same floor.
const LAYERS: &[&[&str]] = &[
    &["access", "buf", "clock", "ids", "limits", "close", "counters", "net"],
    &["http", "mysql", "proxyproto", "tls"],
    &["config", "route", "balance", "cluster", "meters"],
    &["session", "tell"],
    &["ring", "sandbox"],
    &["worker", "control"],
    &["cli", "main", "lib"],
];

/// Modules on different floors that do not know each other all the same. (The ring knows the lowest floor alone.)
const FORBIDDEN: &[(&str, &str)] = &[("session", "ring"), ("ring", "session"), ("worker", "control")];

/// Words that say nothing, or something else than our own words for the same.
const WORDS: &[&str] = &["manager", "helper", "util", "utils", "upstream", "downstream", "remote"];

/// Names of libraries, which are not ours to choose.
const LIBRARIES: &[&str] = &["hyper_util", "http_body_util"];

/// Lines of a file at most.
const LINES_MAX: usize = 600;

/// A file of `src` without its comments and texts, line by line.
struct Source {
    path: PathBuf,
    /// The module directly under `src`.
    module: String,
    text: String,
    code: Vec<String>,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem == "tests")
            || self.path.components().any(|part| part.as_os_str() == "tests")
    }

    /// Lines before the unit tests at the end of the file.
    fn code_without_tests(&self) -> &[String] {
        let end = self.code.iter().position(|line| line.trim() == "#[cfg(test)]");
        let has_module = |at: usize| {
            self.code.get(at + 1).is_some_and(|line| line.trim_start().starts_with("mod tests {"))
        };
        &self.code[..end.filter(|at| has_module(*at)).unwrap_or(self.code.len())]
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut sources = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&src).unwrap().to_path_buf();
                let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
                let module = first.trim_end_matches(".rs").to_owned();
                let code = bare(&text).lines().map(str::to_owned).collect();
                sources.push(Source { path, module, text, code });
            }
        }
    }
    assert!(sources.len() > 15, "the sources were not found");
    sources
}

/// Blanks out comments, and the contents of texts and characters.
fn bare(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            '/' if next == Some('/') => {
                while at < bytes.len() && bytes[at] != '\n' {
                    at += 1;
                }
            }
            '/' if next == Some('*') => {
                while at < bytes.len() && !(bytes[at] == '*' && bytes.get(at + 1) == Some(&'/')) {
                    if bytes[at] == '\n' {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += 2;
            }
            'r' if (next == Some('"') || next == Some('#')) && !ends_in_word(&out) => {
                let hashes = bytes[at + 1..].iter().take_while(|c| **c == '#').count();
                if bytes.get(at + 1 + hashes) != Some(&'"') {
                    out.push('r');
                    at += 1;
                    continue;
                }
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                at += 2 + hashes;
                while at < bytes.len() && !bytes[at..].starts_with(&end) {
                    if bytes[at] == '\n' {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += end.len();
                out.push_str("\"\"");
            }
            '"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != '"' {
                    if bytes[at] == '\\' {
                        at += 1;
                    }
                    if bytes.get(at) == Some(&'\n') {
                        out.push('\n');
                    }
                    at += 1;
                }
                at += 1;
                out.push_str("\"\"");
            }
            '\'' if next == Some('\\') => {
                at += 3;
                while at < bytes.len() && bytes[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if bytes.get(at + 2) == Some(&'\'') => at += 3,
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_')
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The parts of an identifier: `FooBar_baz` is foo, bar, baz.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for letter in identifier.chars() {
        if letter == '_' || (letter.is_uppercase() && before.is_lowercase()) {
            parts.push(String::new());
        }
        if letter != '_' {
            parts.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before = letter;
    }
    parts
}

/// Fails with a list.
#[track_caller]
fn none(what: &str, list: Vec<String>) {
    assert!(list.is_empty(), "{what}:\n  {}", list.join("\n  "));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules that a file imports from this crate.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = source.code_without_tests().join("\n");
    let mut imports = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // `use crate::{a, b::c}`: names at the first depth of braces.
            let mut depth = 1;
            let mut name = String::new();
            let mut path_begins = true;
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => path_begins = true,
                    _ if depth == 1 && path_begins && (letter.is_alphanumeric() || letter == '_') => {
                        name.push(letter)
                    }
                    _ if !name.is_empty() => path_begins = false,
                    _ => {}
                }
                if (!path_begins || letter == ',' || depth == 0) && !name.is_empty() {
                    imports.insert(std::mem::take(&mut name));
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(name) = words(rest).next() {
            imports.insert(name.to_owned());
        }
    }
    // A crate's macros and re-exports are not modules.
    imports.retain(|name| layer(name).is_some());
    imports
}

#[test]
fn modules_import_downwards_only() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(from) = layer(&source.module) else {
            wrong.push(format!("{}: the module {} is on no floor", source.path.display(), source.module));
            continue;
        };
        for module in imports(source) {
            let to = layer(&module).unwrap();
            let ring = source.module == "ring" && to > 0 && module != "ring";
            let forbidden = FORBIDDEN.contains(&(source.module.as_str(), module.as_str()));
            if to > from || ring || forbidden {
                wrong.push(format!("{} imports {module}", source.path.display()));
            }
        }
    }
    none("imports against the layers", wrong);
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| !source.is_test()).filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path.display()))
    });
    none("files longer than 600 lines", long.collect());
}

#[test]
fn unsafe_stands_in_the_ring_alone() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "ring") {
        for (number, line) in source.code.iter().enumerate() {
            if words(line).any(|word| word == "unsafe" || word == "unsafe_code") {
                wrong.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    none("unsafe outside src/ring", wrong);
}

#[test]
fn modules_begin_with_a_header() {
    let bare = sources().into_iter().filter(|source| !source.is_test() && !source.text.starts_with("//! "));
    none("files without a header", bare.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn names_are_ours() {
    let mut wrong = Vec::new();
    for source in sources() {
        for part in source.path.with_extension("").components() {
            let name = part.as_os_str().to_str().unwrap();
            if parts(name).iter().any(|part| WORDS.contains(&part.as_str())) {
                wrong.push(format!("{}: {name}", source.path.display()));
            }
        }
        for (number, line) in source.code.iter().enumerate() {
            for word in words(line).filter(|word| !LIBRARIES.contains(word)) {
                if parts(word).iter().any(|part| WORDS.contains(&part.as_str())) {
                    wrong.push(format!("{}:{}: {word}", source.path.display(), number + 1));
                }
            }
        }
    }
    none("words that are not ours", wrong);
}

#[test]
fn clocks_are_read_in_one_place() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "clock") {
        for (number, line) in source.code_without_tests().iter().enumerate() {
            if line.contains("Instant::now") || line.contains("SystemTime::now") {
                wrong.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    none("clocks read outside clock.rs", wrong);
}

#[test]
fn the_top_level_holds_what_it_should() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "build.rs",
        "src",
        "benches",
        "fuzz",
        "tests",
        "dist",
        "target",
    ];
    let entries =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let other = entries.filter(|name| {
        !name.starts_with('.') && !name.starts_with("LICENSE-") && !allowed.contains(&name.as_str())
    });
    none("entries that do not belong at the top level", other.collect());
}

#[test]
fn no_path_of_a_machine_and_no_key_is_in_the_tree() {
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "benches", "fuzz", "tests", "dist"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let skipped = ["target", "corpus", "artifacts"].iter().any(|name| path.ends_with(name));
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if let (true, Ok(text)) = (path.is_file(), fs::read_to_string(&path)) {
                let signs = [
                    concat!("/wo", "rk/"),
                    concat!("/tmp", "/wt"),
                    concat!("PRIVATE KEY", "-----"),
                    concat!("deb.", "debian.org"),
                ];
                for sign in signs.iter().filter(|sign| text.contains(**sign)) {
                    wrong.push(format!("{}: {sign:?}", path.display()));
                }
            }
        }
    }
    none("files with what does not belong there", wrong);
}

#[test]
fn the_readme_lists_every_way_a_connection_ends() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let row = |close: &Close| {
        let status = close.status().map_or("none".to_owned(), |status| status.to_string());
        let blame = format!("{:?}", close.blame()).to_lowercase();
        format!("| `{}` | {status} | {blame} | {} |", close.word(), close.about())
    };
    let missing = Close::ALL.iter().map(row).filter(|row| !readme.contains(row.as_str()));
    none("rows that the table in README.md lacks", missing.collect());
    assert_eq!(
        readme
            .lines()
            .filter(|line| line.starts_with("| `")
                && line.matches('|').count() == 5
                && Close::ALL.iter().any(|close| line.contains(close.about())))
            .count(),
        Close::COUNT
    );
}

/// The rules above, tried on texts of known content.
mod rules {
    use super::*;

    fn source(text: &str) -> Source {
        let code = bare(text).lines().map(str::to_owned).collect();
        Source { path: "x.rs".into(), module: "x".into(), text: text.into(), code }
    }

    #[test]
    fn imports_are_found_in_every_form() {
        let text = "use crate::buf::{Page, Pool};\nuse crate::{close::Close, http::h1::{head, crate_less}, ids};\n\
                    // use crate::worker;\nfn f() { crate::net::g(\"crate::cli\") }\n\
                    #[cfg(test)]\nmod tests { use crate::control; }\n";
        let found: Vec<String> = imports(&source(text)).into_iter().collect();
        assert_eq!(found, ["buf", "close", "http", "ids", "net"]);
    }

    #[test]
    fn comments_and_texts_do_not_count() {
        let text = "let a = \"unsafe \\\" unsafe\"; // unsafe\nlet b = '\"'; let c = r#\"unsafe\"#; /* unsafe\nunsafe */ let d = 'x';";
        assert!(!bare(text).contains("unsafe"), "{}", bare(text));
        assert_eq!(bare(text).lines().count(), text.lines().count());
        assert!(bare("fn f<'a>(x: &'a str) { unsafe { } }").contains("unsafe"));
    }

    #[test]
    fn identifiers_fall_into_parts() {
        assert_eq!(parts("UpstreamManager_x2"), ["upstream", "manager", "x2"]);
        assert!(!parts("futile").contains(&"util".to_owned()));
    }
}

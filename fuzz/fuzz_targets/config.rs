//! Any text is a configuration or a list of mistakes; what is good can be shown and answers every request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::config::{Nowhere, parse_in};

fuzz_target!(|text: &str| {
    match parse_in(text, "fuzz.toml", &Nowhere) {
        Ok(loaded) => {
            for http in &loaded.config.http {
                for (host, path) in [("www.x.com", "/a/../b%2fc"), ("", "*"), (text, text)] {
                    let found = http.routes.find(host, path).map(|found| found.index);
                    let explained = http.routes.explain(host, path);
                    assert_eq!(found, explained.found.map(|found| found.index));
                }
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                assert!(!mistake.what.is_empty() && mistake.line > 0 && mistake.column > 0);
                assert!(!mistake.is_warning);
            }
            let shown = mistakes.to_string();
            assert!(!shown.chars().any(|char| char.is_control() && char != '\n' && char != '\t'));
        }
    }
});

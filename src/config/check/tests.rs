//! temporary
use crate::config::*;

#[test]
fn show() {
    let text = std::fs::read_to_string(std::env::var("CONF").unwrap()).unwrap();
    match parse_in(&text, "site.toml", &Nowhere) {
        Ok(loaded) => {
            println!("{:#?}", loaded.config);
            for w in loaded.warnings {
                println!("{w}\n");
            }
        }
        Err(m) => println!("{m}"),
    }
}

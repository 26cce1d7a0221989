//! The dashboard: one page, and the policy that lets nothing but its own script and style into it.
//!
//! What goes in: nothing; the page is part of the program. What comes out: its text, and the value of the field
//! `Content-Security-Policy` that must be sent with it. It owns nothing. Always true: the policy names the page's one script
//! and one style by their hash, so that no other script can run in it, however it came there.

use std::sync::OnceLock;

use aws_lc_rs::digest;

const PAGE: &str = include_str!("dashboard.html");

/// The page (HTML, UTF-8), and its `Content-Security-Policy`.
pub(super) fn page() -> (&'static str, &'static str) {
    static POLICY: OnceLock<String> = OnceLock::new();
    (PAGE, POLICY.get_or_init(policy))
}

/// Only what the page itself brings, and requests to where it came from. Trusted types are demanded and none are made: a
/// text cannot become markup.
fn policy() -> String {
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The hash of the text inside of an element, as a policy names it (CSP Level 3, 2.3.1).
fn hash(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inside = PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let text = inside.map_or("", |(text, _)| text);
    format!("'sha256-{}'", base64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()))
}

/// Base64 with padding (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at > group.len() { '=' } else { letter as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("~~~???", "fn5+Pz8/"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    /// What a policy by hashes demands of the page, and what keeps a text from becoming markup.
    #[test]
    fn the_page_is_whole_in_itself() {
        for (element, times) in
            [("<script", 1), ("<style", 1), ("</script>", 1), ("</style>", 1), ("<link ", 1)]
        {
            assert_eq!(PAGE.matches(element).count(), times, "{element}");
        }
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
            "url(",
            "http://",
            "https://",
            "\r",
        ] {
            let known = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!known.contains(forbidden), "{forbidden}");
        }
        let (page, policy) = page();
        assert!(page.starts_with("<!doctype html>"));
        assert!(policy.matches("'sha256-").count() == 2 && !policy.contains("unsafe"), "{policy}");
    }
}

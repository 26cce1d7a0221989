//! curl as the client.

use std::process::Command;

use tempfile::TempDir;

use super::program;

/// What curl got for one URL.
#[derive(Debug)]
pub struct Reply {
    /// curl's exit code: 0 is a complete answer; 18 a truncated one; 52 none; 56 a reset.
    pub code: i32,
    /// The final status; 0 is none.
    pub status: u16,
    /// The last head.
    pub head: String,
    /// All heads, interim ones included.
    pub heads: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl complained about.
    pub complaint: String,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a field of the last head.
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// Asks for one URL with these arguments.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Reply {
    let folder = TempDir::new().unwrap();
    let (heads, body) = (folder.path().join("heads"), folder.path().join("body"));
    let output = Command::new(program("curl", "curl"))
        .args(["-sS", "--noproxy", "*", "--max-time", "30", "-w", "%{http_code}"])
        .arg("-D")
        .arg(&heads)
        .arg("-o")
        .arg(&body)
        .args(arguments)
        .output()
        .unwrap();
    let heads = String::from_utf8_lossy(&std::fs::read(heads).unwrap_or_default()).into_owned();
    let head = heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
    Reply {
        code: output.status.code().unwrap(),
        status: String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0),
        head,
        heads,
        body: std::fs::read(body).unwrap_or_default(),
        complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs curl and returns what it printed; every transfer must succeed.
#[track_caller]
pub fn curl_text(arguments: &[&str]) -> String {
    let output = Command::new(program("curl", "curl"))
        .args(["-sS", "--noproxy", "*", "--max-time", "30"])
        .args(arguments)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?} ended with {}: {complaint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

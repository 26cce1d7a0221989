//! A headless Chromium, directed through the DevTools protocol.

use std::net::TcpStream;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use super::{PATIENCE, Running, eventually, program};

/// A browser with one page.
pub struct Browser {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    calls: u64,
    complaints: Vec<String>,
    _running: Running,
    _folder: TempDir,
}

impl Browser {
    /// Starts one with an empty page of a desktop's size.
    #[track_caller]
    pub fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let data = format!("--user-data-dir={}", folder.path().join("data").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
            &data,
            "about:blank",
        ];
        let mut running =
            Running::start("chromium", &program("chromium", "chromium"), &arguments, folder.path());
        let port = folder.path().join("data/DevToolsActivePort");
        // A browser takes its time on a busy machine.
        for _ in 0..3 {
            if port.exists() || running.ended().is_some() {
                break;
            }
            std::thread::sleep(PATIENCE / 3);
        }
        let place = eventually("the browser says where it listens", || {
            let text = std::fs::read_to_string(&port).ok()?;
            let (port, path) = text.split_once('\n')?;
            (!path.is_empty()).then(|| format!("ws://127.0.0.1:{port}{}", path.trim()))
        });
        let (socket, _) = tungstenite::connect(place).unwrap();
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        }
        let mut browser = Self {
            socket,
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            _running: running,
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.size(1280, 900);
        browser
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Message::Text(text) = message else { continue };
            let mut said: Value = serde_json::from_str(&text).unwrap();
            if said["id"] == json!(self.calls) {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].take();
            }
            self.note(&said);
        }
    }

    /// Keeps what the page complained about.
    fn note(&mut self, event: &Value) {
        let details = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(details["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if details["type"] != "log" => {
                self.complaints.push(details["args"].to_string());
            }
            Some("Log.entryAdded") if details["entry"]["level"] != "verbose" => {
                self.complaints.push(details["entry"].to_string());
            }
            _ => {}
        }
    }

    /// What the page complained about so far: exceptions, errors, violations of its policy.
    pub fn complaints(&mut self) -> &[String] {
        self.run("1");
        &self.complaints
    }

    /// The window's inner size.
    pub fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Whether the user prefers a dark page.
    pub fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Opens a page.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", &json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {}", opened["errorText"]);
        self.until("document.readyState === 'complete'");
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn run(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut done = self.call("Runtime.evaluate", &parameters);
        assert!(done["exceptionDetails"].is_null(), "{expression}: {}", done["exceptionDetails"]);
        done["result"]["value"].take()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let whole = format!("!!({expression})");
        let start = super::now();
        while self.run(&whole) != json!(true) {
            assert!(start.elapsed() < 2 * PATIENCE, "waited in vain: {expression}\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// What the page shows as text.
    pub fn text(&mut self) -> String {
        self.run("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks with the mouse into the middle of an element.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let middle = format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center' }});
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        );
        let at = self.run(&middle);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Types a text into the element that has the focus.
    pub fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses a key such as `Enter`.
    pub fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            _ => 9,
        };
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// A picture of the window: a PNG in base64. With SCREENSHOTS=FOLDER it is written there too, for people.
    pub fn picture(&mut self, name: &str) -> String {
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let picture = taken["data"].as_str().unwrap().to_owned();
        if let Some(folder) = std::env::var_os("SCREENSHOTS") {
            let file = std::path::Path::new(&folder).join(format!("{name}.png"));
            std::fs::write(file, decode(&picture)).unwrap();
        }
        picture
    }

    /// How many colours a picture has, on a page without a policy of its own.
    #[track_caller]
    pub fn colours(&mut self, picture: &str) -> u64 {
        self.open("about:blank");
        let count = format!(
            "(async () => {{ const i = new Image(); i.src = 'data:image/png;base64,{picture}'; await i.decode();
             const c = new OffscreenCanvas(i.width, i.height).getContext('2d'); c.drawImage(i, 0, 0);
             return new Set(new Uint32Array(c.getImageData(0, 0, i.width, i.height).data.buffer)).size; }})()"
        );
        self.run(&count).as_u64().unwrap()
    }
}

/// Base64 to bytes.
fn decode(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    let mut bytes = Vec::new();
    for group in letters.chunks(4) {
        let bits = group.iter().fold(0, |bits, letter| bits << 6 | value(*letter)) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

//! The `[log]` block.

use std::net::SocketAddr;

use super::*;
use crate::access::line::Format;
use crate::config::model::{Log, LogTo};

/// Where programs of this host leave messages for syslog.
const DEV_LOG: &str = "/dev/log";
const WORDS: &str = "write \"file:/var/log/ringgate/access.log\", \"stdout\", \"syslog\", \"syslog:unix:/dev/log\", \
                     \"syslog:udp:127.0.0.1:514\" or \"off\"";

impl<'t> Checker<'t, '_> {
    /// Checks the block.
    pub(super) fn log(&mut self, document: &Table<'t>) {
        const EXAMPLE: &str = "write [log] and access = \"file:/var/log/ringgate/access.log\"";
        let Some(block) = document.table("log", EXAMPLE) else { return };
        let default = Log::default();
        let access = block.get("access").and_then(|value| self.log_to(&value));
        let formats = [("json", Format::Json), ("text", Format::Text)];
        let format = block.get("format").and_then(|value| value.word(&formats)).unwrap_or_default();
        let size = block.get("rotate_size").and_then(|value| {
            if value.is_boolean() {
                if value.boolean()? {
                    value.mistake("rotate_size must be a size or false", "write it like \"100MB\"");
                }
                return Some(0);
            }
            value.size(limits::LOG_ROTATE_MIN..=u64::MAX)
        });
        let keep = block.get("rotate_keep").and_then(|value| value.integer(1..=limits::LOG_KEEP_MAX.into()));
        let keep = keep.and_then(|keep| u32::try_from(keep).ok());
        block.finish();
        if let Some(LogTo::File(path)) = &access {
            self.config.files.written.push(path.clone());
        }
        self.config.log = Log {
            access,
            format,
            rotate_size: size.unwrap_or(default.rotate_size),
            rotate_keep: keep.unwrap_or(default.rotate_keep),
        };
    }

    fn log_to(&self, value: &Value<'t>) -> Option<LogTo> {
        let text = value.text()?;
        match text {
            "off" => return None,
            "stdout" => return Some(LogTo::Stdout),
            "syslog" => return Some(LogTo::SyslogUnix(DEV_LOG.into())),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("file:") {
            return self.log_file(path, value);
        }
        if let Some(path) = text.strip_prefix("syslog:unix:").filter(|path| !path.is_empty()) {
            return Some(LogTo::SyslogUnix(self.folder.join(path)));
        }
        if let Some(address) = text.strip_prefix("syslog:udp:") {
            if let Ok(address) = address.parse::<SocketAddr>() {
                return Some(LogTo::SyslogUdp(address));
            }
            let what = format!("\"{}\" is no address with a port", address.escape_debug());
            value.mistake(what, "write it like \"syslog:udp:127.0.0.1:514\"");
            return None;
        }
        value.mistake(format!("a log cannot go to \"{}\"", text.escape_debug()), WORDS);
        None
    }

    fn log_file(&self, text: &str, value: &Value<'t>) -> Option<LogTo> {
        if text.is_empty() || text.ends_with('/') || text.contains('\0') {
            value.mistake("the name of the log's file is missing", WORDS);
            return None;
        }
        let path = self.folder.join(text);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder
            && !self.world.is_folder(folder)
        {
            value.mistake(
                format!("there is no folder {}", folder.display()),
                "make it, and let the user that ringgate runs as write there",
            );
        }
        Some(LogTo::File(path))
    }
}

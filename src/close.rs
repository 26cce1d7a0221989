//! Every way in which a session or an exchange ends: one table for the log, the metrics, the answer and the retry.
//!
//! A failure anywhere in a session becomes one of these and goes through one function, `fail(close)`. The word is what
//! logs and metrics show; the status is what the client gets when nothing of an answer was sent yet.

/// Who caused the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: a normal end.
    Nobody,
    /// The client broke a rule, or went away.
    Client,
    /// A server broke a rule, failed or was too slow.
    Server,
    /// ringgate: a limit, a drain, or a bug.
    Ringgate,
}

macro_rules! closes {
    ($($name:ident, $word:literal, $status:expr, $blame:ident, $retry:literal, $about:literal;)*) => {
        /// How a session or an exchange ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Close { $(#[doc = $about] $name,)* }

        impl Close {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Close] = &[$(Close::$name,)*];

            /// The word for logs and metrics.
            pub const fn word(self) -> &'static str { match self { $(Close::$name => $word,)* } }

            /// The status of our own answer, when one can still be sent.
            pub const fn status(self) -> Option<u16> { match self { $(Close::$name => $status,)* } }

            /// Who caused it.
            pub const fn blame(self) -> Blame { match self { $(Close::$name => Blame::$blame,)* } }

            /// Whether another server may be tried, as far as the reason goes (the request must allow it too).
            pub const fn may_retry(self) -> bool { match self { $(Close::$name => $retry,)* } }

            /// One sentence for people.
            pub const fn about(self) -> &'static str { match self { $(Close::$name => $about,)* } }
        }
    };
}

closes! {
    Done,               "done",                None,      Nobody,   false, "everything was answered and one side said that it was the last";
    ClientClosed,       "client_closed",       None,      Nobody,   false, "the client closed between two requests";
    IdleTimeout,        "idle_timeout",        None,      Nobody,   false, "no request came within the idle time";
    ClientGone,         "client_gone",         None,      Client,   false, "the client went away before its answer was complete";
    ClientReset,        "client_reset",        None,      Client,   false, "the client's connection was reset or failed";
    BadRequest,         "bad_request",         Some(400), Client,   false, "the request broke the rules of HTTP";
    BadBody,            "bad_body",            Some(400), Client,   false, "the framing of the request's body broke the rules of HTTP";
    HeadTimeout,        "head_timeout",        Some(408), Client,   false, "the request's head was not complete in time";
    BodyTimeout,        "body_timeout",        Some(408), Client,   false, "the request's body came too slowly";
    SlowReader,         "slow_reader",         None,      Client,   false, "the client read its answer too slowly";
    BodyTooLarge,       "body_too_large",      Some(413), Client,   false, "the request's body is larger than allowed";
    TargetTooLong,      "target_too_long",     Some(414), Client,   false, "the request's target is longer than allowed";
    HeadTooLarge,       "head_too_large",      Some(431), Client,   false, "the request's head has more bytes or fields than allowed";
    ExpectationFailed,  "expectation_failed",  Some(417), Client,   false, "the request expects something other than 100-continue";
    MethodRefused,      "method_refused",      Some(405), Client,   false, "CONNECT is not served here";
    VersionRefused,     "version_refused",     Some(505), Client,   false, "the request's HTTP version is not 1.0 or 1.1";
    CodingRefused,      "coding_refused",      Some(501), Client,   false, "the request's transfer coding is not known";
    NoRoute,            "no_route",            Some(404), Client,   false, "no route matches the request";
    Misdirected,        "misdirected",         Some(421), Client,   false, "the Host field names a site that this TLS connection was not opened for";
    PlainOnTls,         "plain_on_tls",        Some(400), Client,   false, "a plain HTTP request came to a TLS listener";
    TlsHandshake,       "tls_handshake",       None,      Client,   false, "the TLS handshake with the client failed";
    TlsTimeout,         "tls_timeout",         None,      Client,   false, "the TLS handshake or PROXY header was not complete in time";
    TlsBroken,          "tls_broken",          None,      Client,   false, "the client's TLS stream was damaged";
    ProxyHeader,        "proxy_header",        None,      Client,   false, "the PROXY protocol header is missing, malformed or not from a trusted source";
    SqlDenied,          "sql_denied",          None,      Client,   false, "an SQL client was not let in";
    SqlStateLost,       "sql_state_lost",      None,      Server,   false, "a server connection was lost that alone knew something of an SQL session";
    TooManyFromClient,  "too_many_from_client",Some(429), Client,   false, "the client's address has too many connections";
    ServerRefused,      "server_refused",      Some(502), Server,   true,  "the server refused the connection or could not be reached";
    ServerConnectTimeout,"server_connect_timeout",Some(504),Server, true,  "the connection to the server did not stand in time";
    ServerTls,          "server_tls",          Some(502), Server,   true,  "the TLS handshake with the server failed";
    ServerClosedEarly,  "server_closed_early", Some(502), Server,   true,  "the server closed before the first byte of its answer";
    ServerTimeout,      "server_timeout",      Some(504), Server,   false, "the server's answer did not begin in time";
    ServerBadAnswer,    "server_bad_answer",   Some(502), Server,   false, "the server's answer broke the rules of its protocol";
    ServerTruncated,    "server_truncated",    None,      Server,   false, "the server closed in the middle of its answer";
    ServerSlow,         "server_slow",         None,      Server,   false, "the server's answer came too slowly";
    NoServer,           "no_server",           Some(503), Server,   false, "no server of the pool can be used";
    QueueFull,          "queue_full",          Some(503), Ringgate, false, "too many requests wait for a place at a server";
    QueueTimeout,       "queue_timeout",       Some(503), Ringgate, false, "no server had a place in time";
    NoMemory,           "no_memory",           Some(503), Ringgate, false, "all pages of memory_max are in use";
    NoDescriptors,      "no_descriptors",      Some(503), Ringgate, false, "the process may not open more files";
    TunnelDone,         "tunnel_done",         None,      Nobody,   false, "both sides of a tunnel or TCP relay closed";
    TunnelTimeout,      "tunnel_timeout",      None,      Nobody,   false, "no byte passed a tunnel or TCP relay within the idle time";
    Drained,            "drained",             None,      Ringgate, false, "ringgate is stopping; the connection was unused or out of time";
    Bug,                "bug",                 Some(500), Ringgate, false, "a rule of ringgate's own was broken; please report it";
}

impl Close {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The number of this one, for tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_metric_safe() {
        for (at, close) in Close::ALL.iter().enumerate() {
            assert_eq!(close.index(), at);
            assert!(close.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{close:?}");
            assert!(Close::ALL[..at].iter().all(|other| other.word() != close.word()), "{close:?}");
        }
    }

    #[test]
    fn only_a_server_can_be_retried() {
        assert!(Close::ALL.iter().all(|close| !close.may_retry() || close.blame() == Blame::Server));
    }
}

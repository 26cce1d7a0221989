//! Every bound of the program that is not configuration.
//!
//! Bounds that a user may set have their default here (`*_DEFAULT`) and their value in `config::model`. Each comment
//! says what happens when the bound is reached.

use std::time::Duration;

/// Bytes of memory of one page. A TLS record (at most 16,384 bytes of plaintext, 256 of expansion, 5 of header) fits.
pub const PAGE_BYTES: usize = 20 * 1024;
/// Bytes that stay free in front of received data, so that a frame header can be written before it in place.
pub const PAGE_HEADROOM: usize = 64;
/// Pages of one worker kept for what cannot wait (at most a sixteenth of all): TLS records that arrive in pieces.
pub const POOL_RESERVE: usize = 16;
/// Bytes that one receive puts into a page at most.
pub const RECV_BYTES: usize = 16 * 1024;
/// Chunks that one send hands to the kernel; more wait for the next send.
pub const CHAIN_CHUNKS_MAX: usize = 4;
/// Bytes that wait to be sent to one side before reading from the other side stops.
pub const OUTBOX_BYTES_MAX: usize = 64 * 1024;
/// Pages that wait to be sent to one side before reading from the other side stops (a page may hold few bytes).
pub const OUTBOX_PAGES_MAX: usize = 8;
/// Bytes received and not yet understood of one connection before reading from it stops.
pub const INBOX_BYTES_MAX: usize = 2 * RECV_BYTES;
/// Pages received and not yet understood of one connection before reading from it stops (a page may hold few bytes).
pub const INBOX_PAGES_MAX: usize = 8;
/// The start of a body is copied behind its head into the same page when it is at most this long.
pub const BODY_COPY_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a request or response head (start line and fields). More: 431 to a client, 502 for a server.
pub const HEAD_BYTES_DEFAULT: usize = 16 * 1024;
/// Largest configurable head: a head is parsed in one page.
pub const HEAD_BYTES_MAX: usize = RECV_BYTES;
/// Fields of one head. More: 431 to a client, 502 for a server.
pub const FIELDS_DEFAULT: usize = 100;
/// Largest configurable number of fields.
pub const FIELDS_MAX: usize = 128;
/// Bytes of a request target. More: 414.
pub const TARGET_BYTES_DEFAULT: usize = 8 * 1024;
/// Bytes of a chunk extension, and of the trailers of one message. More: 400 to a client, 502 for a server.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Bytes of the trailers of one message. More: 400 to a client, 502 for a server.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the body of a configured answer or error page. A larger file is a mistake in the configuration.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a client may still send after an early answer before its connection is closed.
pub const LINGER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Interim (1xx) answers to one request. More: 502.
pub const INTERIM_MAX: u32 = 16;

/// A head must be complete within this time. Later: 408.
pub const HEAD_TIME_DEFAULT: Duration = Duration::from_secs(10);
/// A keep-alive connection without a request is closed after this time.
pub const IDLE_TIME_DEFAULT: Duration = Duration::from_secs(60);
/// A body must make progress (see `PROGRESS_BYTES_MIN`) within each such span. Else: 408, or the connection closes.
pub const PROGRESS_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes that count as progress within one `PROGRESS_TIME_DEFAULT`.
pub const PROGRESS_BYTES_MIN: u64 = 1024;
/// An answer that has begun must go on within each such span, while the client takes it. Else the connection closes.
pub const SERVER_PROGRESS_TIME_DEFAULT: Duration = Duration::from_secs(60);
/// A connection to a server must stand within this time. Else: another server, then 504.
pub const CONNECT_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// The first byte of an answer must come within this time. Else: 504.
pub const FIRST_BYTE_TIME_DEFAULT: Duration = Duration::from_secs(60);
/// A tunnel (WebSocket, TCP) without a byte in either direction is closed after this time.
pub const TUNNEL_TIME_DEFAULT: Duration = Duration::from_secs(3600);
/// How long the rest of a refused request is read and dropped, so that the client can read the answer.
pub const LINGER_TIME: Duration = Duration::from_secs(5);
/// A TLS handshake and a PROXY protocol header must be complete within this time.
pub const HANDSHAKE_TIME_DEFAULT: Duration = Duration::from_secs(10);
/// When ringgate stops, or a reload removes a listener, an unused connection stays open for this long: its next request,
/// which may be on its way, is answered and is the last one. Without one it closes then.
pub const LAST_REQUEST_TIME: Duration = Duration::from_secs(2);
/// How long a draining process waits for exchanges in progress.
pub const DRAIN_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// A request waits this long for a place at a full server. Then: 503.
pub const QUEUE_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// Requests that wait for a place in one pool. More: 503.
pub const QUEUE_DEFAULT: usize = 1024;

/// An unused server connection is closed after this time. Below the 75 s of nginx and the 60 s of most servers.
pub const SERVER_IDLE_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Unused server connections kept per server and worker. More are closed.
pub const SERVER_IDLE_DEFAULT: usize = 128;
/// A request that must not be sent twice takes no connection that was unused for longer than this.
pub const SERVER_IDLE_FRESH_TIME: Duration = Duration::from_secs(1);

/// Attempts for one request, the first included.
pub const ATTEMPTS_DEFAULT: u32 = 3;
/// Most attempts that can be configured.
pub const ATTEMPTS_MAX: usize = 10;
/// Retries in per cent of requests that a pool may spend (its budget).
pub const RETRY_BUDGET_PERCENT: u64 = 20;
/// Retries that a pool may always spend, so that a quiet site can retry too.
pub const RETRY_BUDGET_MIN: u64 = 10;
/// The span over which both are counted: the running half of it and the half before.
pub const RETRY_BUDGET_TIME: Duration = Duration::from_secs(10);
/// A server that fails is left alone for this long at first.
pub const EJECT_TIME_DEFAULT: Duration = Duration::from_secs(1);
/// Each further failure doubles that time, up to this (or the configured time, if that is longer).
pub const EJECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Refused connections in a row until a server is left alone.
pub const EJECT_REFUSALS_DEFAULT: u8 = 1;
/// Fresh connections in a row that a server closes without an answer until it is left alone.
pub const EJECT_CLOSES_DEFAULT: u8 = 3;
/// Where time-outs or errors count as failures: so many in a row until a server is left alone.
pub const EJECT_FAILURES_DEFAULT: u8 = 5;
/// Most failures in a row that can be configured.
pub const EJECT_FAILURES_MAX: u8 = 100;
/// The share of a server that begins to warm up, in per cent of its full share.
pub const SLOW_START_PERCENT: u64 = 10;
/// When no server of a pool can be used and none of them is new to that, one request per such span still tries one.
/// Others: 503.
pub const EJECT_TRY_TIME: Duration = Duration::from_millis(100);
/// Turns of a round-robin schedule. Weights that need more are rounded (every server keeps at least one turn).
pub const SCHEDULE_TURNS_MAX: u64 = 4096;

/// Memory of all pages of the process.
pub const MEMORY_DEFAULT: u64 = 256 * 1024 * 1024;
/// The least that can be configured.
pub const MEMORY_MIN: u64 = 4 * 1024 * 1024;
/// Bytes that a multishot receive takes in one go, where the kernel can limit it: more than a session wants at once
/// would be held in pages.
pub const RECV_LIMIT_BYTES: u32 = 64 * 1024;
/// Microseconds for which a wait gathers completions while several are expected.
pub const GATHER_US: u32 = 100;
/// A wait gathers at most one in so many of the answers that are on their way: with few of them, each one waits for
/// nobody.
pub const GATHER_SHARE: u32 = 3;
/// Receives that a wait gathers at most.
pub const GATHER_MAX: u32 = 64;
/// Pages of one worker that the kernel may hold for receiving.
pub const LENT_PAGES_MAX: usize = 128;
/// Client connections in total. More wait in the kernel's accept queue.
pub const CONNECTIONS_DEFAULT: usize = 100_000;
/// Work that waited for a page goes on when so many are available.
pub const STARVED_PAGES_MIN: usize = 8;
/// After an accept failed for want of descriptors, accepting is tried again after this time.
pub const ACCEPT_AGAIN_TIME: Duration = Duration::from_millis(100);
/// At start an address that is taken is tried again for this long: a killed process lets go of its sockets late.
pub const TAKEN_TIME: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile.
pub const TAKEN_AGAIN_TIME: Duration = Duration::from_millis(20);
/// For so long after a reload connections may still come from listeners that it closed.
pub const CLOSING_TIME: Duration = Duration::from_secs(1);
/// Accept queue of a listener, in connections (the kernel caps it at net.core.somaxconn).
pub const BACKLOG_MAX: i32 = 4096;
/// Entries of a worker's submission queue; a fuller one is handed to the kernel at once.
pub const SUBMISSION_ENTRIES: u32 = 1024;
/// Entries of a worker's completion queue; the kernel keeps what exceeds it.
pub const COMPLETION_ENTRIES: u32 = 8192;
/// The least pages that a worker can live with; fewer: start fails.
pub const PAGES_MIN: usize = 32;
/// Open files kept for what is not a connection: logs, certificates, the standard streams, sockets about to be closed.
pub const DESCRIPTORS_SPARE: u64 = 64;
/// Open files of each worker beside its listeners: its ring, what wakes it, one to spare.
pub const DESCRIPTORS_PER_WORKER: u64 = 3;
/// Workers.
pub const WORKERS_MAX: usize = 256;

/// A server with a check is asked so often.
pub const CHECK_EVERY_DEFAULT: Duration = Duration::from_secs(2);
/// The shortest time between two checks of a server that can be configured.
pub const CHECK_EVERY_MIN: Duration = Duration::from_millis(50);
/// An answer to a check must be complete within this time, or the time between two checks if that is shorter.
pub const CHECK_TIME_DEFAULT: Duration = Duration::from_secs(1);
/// The first check of a server comes within this time.
pub const CHECK_FIRST_TIME: Duration = Duration::from_secs(1);
/// Successful checks in a row until a server that is down is up.
pub const CHECK_RISE_DEFAULT: u32 = 2;
/// Failed checks in a row until a server that is up is down.
pub const CHECK_FALL_DEFAULT: u32 = 3;
/// Most of both that can be configured.
pub const CHECK_COUNT_MAX: u32 = 100;
/// Statuses and ranges of them that a check can name.
pub const CHECK_STATUSES_MAX: usize = 32;
/// Bytes that are read of an answer to a check. A head or greeting that is longer: the check failed.
pub const CHECK_BYTES_MAX: usize = 16 * 1024;
/// Checks under way at once. More wait for one to end.
pub const CHECKS_MAX: usize = 256;
/// Characters of an admin token at least.
pub const TOKEN_BYTES_MIN: usize = 16;
/// Connections to the admin listeners at a time. More wait in the kernel's queue.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes of the body of an admin request. More: 413.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// An admin request must be complete, and its answer taken, within this time.
pub const ADMIN_TIME: Duration = Duration::from_secs(30);
/// Workers take a new edition over within this time; later the answer says so.
pub const TAKE_TIME: Duration = Duration::from_secs(5);
/// Sessions that one answer lists.
pub const SESSIONS_LISTED_MAX: usize = 10_000;
/// Servers that may be added while running, in all.
pub const ADDED_SERVERS_MAX: usize = 10_000;
/// Orders to the control thread that wait.
pub const ORDERS_MAX: usize = 64;
/// How often certificate files are looked at.
pub const WATCH_TIME: Duration = Duration::from_secs(2);
/// For so long the rest of an answer to a check is read and dropped.
pub const CHECK_LINGER_TIME: Duration = Duration::from_millis(100);
/// Servers that one name can stand for. The rest of its records is not used.
pub const NAMED_SERVERS_MAX: usize = 256;
/// An answer of DNS is used for so long at least, and a name that cannot be resolved is tried again after this time.
/// `ttl_min` cannot be set to less.
pub const TTL_MIN_DEFAULT: Duration = Duration::from_secs(1);
/// An answer of DNS is used for so long at most.
pub const TTL_MAX_DEFAULT: Duration = Duration::from_secs(300);
/// Name servers that can be configured.
pub const NAME_SERVERS_MAX: usize = 8;
/// `ttl_max` cannot be set to more.
pub const TTL_MAX_MAX: Duration = Duration::from_secs(3600);
/// A name must be resolved within this time; at the start and in a reload all names together.
pub const LOOKUP_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// The most that it can be set to.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(60);
/// A name that still cannot be resolved is tried again after twice the time, up to this.
pub const LOOKUP_RETRY_TIME_MAX: Duration = Duration::from_secs(10);
/// Names that are being resolved at a time. The others wait.
pub const LOOKUPS_MAX: usize = 64;
/// /etc/resolv.conf and /etc/hosts are read again when they were read so long ago.
pub const RESOLVER_TIME: Duration = Duration::from_secs(5);
/// Names that cannot be resolved, shown by the admin interface. There may be more.
pub const STALE_NAMES_MAX: usize = 100;
/// Addresses of a name in one line of the log.
pub const LOGGED_ADDRESSES_MAX: usize = 8;
/// Bytes of one answer of the admin interface that `ctl` and `top` take. A longer one is given up.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// `ctl` and `top` wait this long for a connection to the admin interface.
pub const ADMIN_CONNECT_TIME: Duration = Duration::from_secs(3);
/// `ctl` and `top` wait this long for a whole answer of the admin interface (a reload may look up many names).
pub const ADMIN_TIME_MAX: Duration = Duration::from_secs(30);
/// Rates that `top` remembers for its curve. The oldest is forgotten.
pub const TOP_RATES_MAX: usize = 600;
/// Listening sockets that one process hands over to another, or systemd to it.
pub const HANDED_MAX: usize = 4096;
/// A new version of the program that is not ready within this time is ended, and the old one serves on.
pub const UPGRADE_TIME: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
pub const UPGRADE_LOOK_TIME: Duration = Duration::from_millis(20);
/// Bytes of what was set while running, as one version leaves it to the next. Of more, nothing is taken over.
pub const SETTINGS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the name of a server that is added while running.
pub const SERVER_NAME_BYTES_MAX: usize = 255;
/// How often the old process looks whether the new one, which serves already, has ended.
pub const SUCCESSOR_LOOK_TIME: Duration = Duration::from_millis(500);
/// A worker hands the lines of its log over when they are so many bytes.
pub const LOG_BATCH_BYTES: usize = 128 * 1024;
/// And when the first of them is so old.
pub const LOG_BATCH_TIME: Duration = Duration::from_millis(100);
/// Batches of lines that wait to be written. More are dropped and counted.
pub const LOG_BATCHES_MAX: usize = 64;
/// Bytes of a target, field or name that the log shows; the rest is cut off.
pub const LOG_TEXT_BYTES_MAX: usize = 2048;
/// Bytes of a line that goes to syslog in one datagram; a longer one is dropped and counted.
pub const LOG_DATAGRAM_BYTES_MAX: usize = 60 * 1024;
/// An SQL connection without a command; the servers' own `wait_timeout` has the same default.
pub const SQL_IDLE_TIME_DEFAULT: Duration = Duration::from_secs(8 * 3600);
/// An SQL statement may run for so long before its answer begins.
pub const SQL_ANSWER_TIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// A write waits so long for a primary.
pub const SQL_PRIMARY_TIME_DEFAULT: Duration = Duration::from_secs(10);
/// A replica that is further behind gets nothing.
pub const SQL_LAG_DEFAULT: Duration = Duration::from_secs(5);
/// Sources of GTIDs that are told apart: MariaDB's replication domains, MySQL servers that were ever primary. A write of a further
/// one sends its session's reads to the primary.
pub const SQL_GTID_SOURCES_MAX: usize = 16;
/// Tags of MySQL's GTIDs that are told apart, of all servers together. A write with a further one sends its session to the primary.
pub const SQL_TAGS_MAX: usize = 64;
/// Variables of an SQL session that differ from what its login gave, and that a further connection is brought to. With more, everything
/// goes to the primary.
pub const SQL_VARIABLES_MAX: usize = 64;
/// Bytes of the value of such a variable.
pub const SQL_VARIABLE_BYTES_MAX: usize = 4096;
/// Sources of GTIDs that a session has written to. With more, everything goes to the primary.
pub const SQL_WRITTEN_MAX: usize = 4;
/// Bytes of a statement that brings a connection to a session's state.
pub const SQL_SETUP_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a command that is looked at as a whole. A longer one goes to the primary, piece by piece.
pub const SQL_COMMAND_BYTES_MAX: usize = 16 * 1024;
/// How often a session that waits for a server looks whether there is one.
pub const SQL_LOOK_TIME: Duration = Duration::from_millis(50);
/// A statement's warnings or error can be asked for so long; then its connection is given to others (`pooling = "transaction"`).
pub const SQL_DIAGNOSTICS_TIME: Duration = Duration::from_secs(1);
/// How often a session that waits for a place at a server looks without having been told.
pub const SQL_QUEUE_LOOK_TIME: Duration = Duration::from_millis(500);
/// A client that comes in is given no connection whose user logged in at the server longer ago than this.
pub const SQL_LOGIN_AGE_MAX: Duration = Duration::from_secs(60);
/// A session that ends gives its server connections so long to take their COM_QUIT, or to be reset for others.
pub const SQL_LEAVE_TIME: Duration = Duration::from_secs(1);
/// Passwords that are remembered because only a hash of them is stored. With more, all are asked for again.
pub const SQL_PASSWORDS_MAX: usize = 4096;
/// Prepared statements of an SQL session that may run on replicas; further ones run on the primary.
pub const SQL_STATEMENTS_MAX: usize = 256;
/// All prepared statements of an SQL session; the servers' `max_prepared_stmt_count` has the same default. Further ones: 1461.
pub const SQL_STATEMENTS_ALL_MAX: usize = 16_382;
/// Prepared statements that a shared server connection keeps for the next client that prepares the same.
pub const SQL_CACHED_MAX: usize = 64;
/// Bytes of the text of such a statement.
pub const SQL_STATEMENT_BYTES_MAX: usize = 8 * 1024;
/// Shapes of statements that a fence held back, and that are known as writes from then on.
pub const SQL_WRITES_MAX: usize = 1024;
/// A read waits so long at a replica for what it must have seen, then it goes to the primary.
pub const SQL_WAIT_TIME: Duration = Duration::from_millis(20);
/// The same for what cannot go to the primary instead, because the session's user variables are on the replica.
pub const SQL_WAIT_THERE_TIME: Duration = Duration::from_secs(2);
/// After a wait in vain a session's reads go to the primary at once for so long, unless a replica is known to be there.
pub const SQL_NO_WAIT_TIME: Duration = Duration::from_millis(500);
/// Bytes of the answer to the question whether a position was reached.
pub const SQL_POSITION_BYTES_MAX: usize = 4096;
/// Bytes of one write to a log file.
pub const LOG_WRITE_BYTES: usize = 64 * 1024;
/// A destination that takes nothing for so long loses what it was to take.
pub const LOG_WRITE_TIME: Duration = Duration::from_millis(200);
/// The end of the process waits this long for the log to be written.
pub const LOG_END_TIME: Duration = Duration::from_secs(2);
/// A log that fails says so once in this time.
pub const LOG_SAY_TIME: Duration = Duration::from_secs(60);
/// A log file is rotated at this size.
pub const LOG_ROTATE_DEFAULT: u64 = 100 * 1000 * 1000;
/// The smallest size that can be configured.
pub const LOG_ROTATE_MIN: u64 = 4096;
/// Old log files that are kept.
pub const LOG_KEEP_DEFAULT: u32 = 5;
/// Most of them that can be configured.
pub const LOG_KEEP_MAX: u32 = 1000;
/// How often rates and latencies are worked out.
pub const STATS_STEP: Duration = Duration::from_secs(2);
/// Of how many such steps they are remembered.
pub const STATS_HISTORY: usize = 150;
/// Bytes of a client's request id or traceparent; a longer one is replaced.
pub const MARK_BYTES_MAX: usize = 128;
/// Characters of each name in `Ringgate-Decision`.
pub const MARK_NAME_CHARS_MAX: usize = 100;
/// Bytes of one packet of a MySQL client before it has logged in (its fields have 255 bytes, its attributes 64 KiB at
/// most). A longer one: 1153, and the connection closes.
pub const SQL_LOGIN_BYTES_MAX: usize = 72 * 1024;
/// Bytes of a packet of a MySQL server that is judged before it is passed on (OK, EOF, ERR). A longer one ends the
/// connection to the server.
pub const SQL_JUDGED_BYTES_MAX: usize = 256 * 1024;
/// Packets of a MySQL login exchange (switches and further data) of one side. More: the login fails.
pub const SQL_LOGIN_PACKETS_MAX: u8 = 16;
/// Sessions of an `[sql]` block that a KILL finds by their ids. Those beyond cannot be killed by them.
pub const SQL_SEATS_MAX: usize = 64 * 1024;
/// Bytes of a compressed packet's payload that are decompressed at a time.
pub const SQL_INFLATE_BYTES: usize = 16 * 1024;
/// Every server of an `[sql]` block is asked so often what it is and how far; replicas right after the primary.
pub const SQL_ASK_TIME: Duration = Duration::from_millis(500);
/// It must answer within this time.
pub const SQL_ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// The monitor's connection and login to it must be made within this time.
pub const SQL_ASK_CONNECT_TIME: Duration = Duration::from_secs(3);
/// A server that still does not answer is asked again after twice the time, up to this.
pub const SQL_RETRY_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of what a server answers to the monitor, and of each of its packets. More is an error.
pub const SQL_ASK_BYTES_MAX: usize = 1024 * 1024;
/// How often the accounts are read from the primary.
pub const SQL_ACCOUNTS_TIME: Duration = Duration::from_secs(10);
/// How often they are read at most when somebody who is not among them wants to log in.
pub const SQL_ACCOUNTS_WISH_TIME: Duration = Duration::from_secs(1);
/// Bytes of all accounts of a server. Of more, none is taken over.
pub const SQL_ACCOUNTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Positions of a primary that are remembered, to measure how far replicas are behind.
pub const SQL_HISTORY_MAX: usize = 128;
/// The first primary of a block is chosen when all its servers were asked, or after this time.
pub const SQL_SETTLE_TIME: Duration = Duration::from_secs(1);
/// Names of one statement that its verdict holds. More are left out, and what they pin stays pinned.
pub const SQL_NAMES_MAX: usize = 4;
/// Bytes of the shape of a statement as text. A longer one ends in `...`.
pub const SQL_DIGEST_BYTES_MAX: usize = 1024;
/// Shapes of statements of an `[sql]` block that a worker remembers. With more, those that took the least time go.
pub const SQL_DIGESTS_MAX: usize = 512;
/// Shapes of statements that the admin interface shows of a block at most.
pub const SQL_DIGESTS_SHOWN_MAX: usize = 2000;
/// Named locks, temporary tables, and statements prepared by text that a session remembers by name, each. More pin the
/// session to the primary until it is reset.
pub const SQL_SESSION_NAMES_MAX: usize = 32;

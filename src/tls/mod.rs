//! TLS (stub).

/// TLS towards clients.
#[derive(Debug)]
pub struct ServerTls {}

/// TLS towards servers.
#[derive(Debug)]
pub struct ClientTls {}

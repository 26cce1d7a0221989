//! What a server's session holds while nobody uses its connection.
//!
//! What goes in: a connection that is given back. What comes out: what its next user finds on it. It owns copies of the state.
//! Always true: a connection goes from one client to another only if both are the same user, shown by the same secret, with
//! the same capabilities.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::clock::Moment;
use crate::mysql::facts::{Capabilities, Version};

use super::back::{Cached, Side};
use super::login::Secrets;
use super::state::Variable;

/// Who may use a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LoginKey {
    /// A SHA-256 of what must be the same: user, secret, capabilities, collation.
    who: [u8; 32],
    side: Side,
    /// A database that was chosen cannot be unchosen.
    has_database: bool,
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("LoginKey")
    }
}

impl LoginKey {
    /// For connections that are opened with these.
    pub(super) fn new(user: &[u8], secrets: &Secrets, capabilities: Capabilities, collation: u8) -> Self {
        let mut context = Context::new(&SHA256);
        secrets.each(|secret| {
            context.update(&secret.len().to_le_bytes());
            context.update(secret);
        });
        context.update(&capabilities.0.to_le_bytes());
        context.update(&[collation]);
        context.update(user);
        let mut who = [0; 32];
        who.copy_from_slice(context.finish().as_ref());
        Self { who, side: Side::Primary, has_database: false }
    }

    /// The same for another side.
    pub(super) const fn of(self, side: Side, has_database: bool) -> Self {
        Self { side, has_database, ..self }
    }
}

/// What a server's session holds.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who may use it.
    pub key: LoginKey,
    /// A hash of the variables and the database: the same number, most probably the same state.
    pub shape: u64,
    pub(super) capabilities: Capabilities,
    pub(super) version: Option<Version>,
    /// The server's id of the connection.
    pub(super) thread: u32,
    /// The state changes that tell what its session began with.
    pub(super) initial: Arc<[u8]>,
    pub(super) variables: Arc<Vec<Variable>>,
    pub(super) database: Vec<u8>,
    pub(super) cache: Vec<Cached>,
    /// When its user logged in.
    pub logged_in: Moment,
    /// Since when nobody uses it.
    pub(super) since: Moment,
}

/// See [`Standing::shape`].
pub(super) fn shape(variables: &[Variable], database: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    database.hash(&mut hasher);
    for variable in variables {
        variable.name.hash(&mut hasher);
        variable.value.hash(&mut hasher);
    }
    hasher.finish()
}

//! Routes (stub).

/// Which of a block's routes serves a request.
#[derive(Debug)]
pub struct Routes<T> {
    /// The routes.
    pub routes: Vec<T>,
}

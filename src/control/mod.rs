//! The control plane.
//!
//! What goes in: requests of people and programs that run this process. What comes out: what they see of it. It owns
//! nothing yet. Always true: workers do not know it.

pub mod dashboard;

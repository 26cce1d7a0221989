//! Sessions told events by hand: whole conversations without a socket, and what must hold after each event.

mod broken;
mod conversations;
mod records;
mod rig;
mod table;

//! Sessions: a client connection and its server connections as a plain struct. No socket, no clock, no thread.

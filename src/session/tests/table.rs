//! Every phase of a client's connection met by every event.

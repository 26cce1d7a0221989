//! Identifiers: small newtypes, so that no bare integer crosses a module.
//!
//! Ids of configuration things (`PoolId`, `ServerId`, ...) are indexes into the lists of one `config::model::Config`.
//! Ids of living things (`SockId`, `SessionId`) carry a generation: a completion that belongs to an older life of the
//! same slot is recognised and reaches nobody.

use std::hash::Hasher;

macro_rules! index_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in its list.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

macro_rules! living_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// Which slot of the table.
            pub slot: u32,
            /// Which life of that slot.
            pub generation: u32,
        }

        impl $name {
            /// The position in its table.
            pub const fn index(self) -> usize {
                self.slot as usize
            }
        }
    };
}

index_id!(
    /// A socket that accepts: one address of one listener block, index into `Config::listeners`.
    ListenerId
);
index_id!(
    /// An `[http.NAME]` block, index into `Config::http`.
    HttpId
);
index_id!(
    /// A `[tcp.NAME]` block, index into `Config::tcp`.
    TcpId
);
index_id!(
    /// An `[sql.NAME]` block, index into `Config::sql`.
    SqlId
);
index_id!(
    /// A pool, index into `Config::pools`.
    PoolId
);
index_id!(
    /// A server, index into `Config::servers` (flat over all pools).
    ServerId
);
index_id!(
    /// A worker, 0 up to the number of workers.
    WorkerId
);
living_id!(
    /// A connected socket of one worker's ring.
    SockId
);
living_id!(
    /// A session of one worker.
    SessionId
);

/// Hashes numbers that are hardly anybody's choice: cheap, and no protection against who can choose them freely.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

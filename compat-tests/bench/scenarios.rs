//! What is measured: the table of production, and what is read of it afterwards.

/// How a producer works that sends as fast as it is answered.
pub struct Production {
    /// Its name in the results, and that of its topic.
    pub name: &'static str,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// At most so many bytes in a batch.
    pub batch_bytes: u32,
    /// How long a batch may wait to become full. Long enough for that at any speed measured so far.
    pub linger_ms: u32,
    /// Whether the producer is idempotent: a sequence number on each batch, at most five requests in flight.
    pub idempotent: bool,
}

/// Records of 1 KiB, 100 B and 10 KiB in batches of 1 MB, 64 KiB and 16 KiB, the last being the Java client's default.
pub const PRODUCTIONS: [Production; 11] = [
    production("produce-1KiB-1MB", 1_024, 1_000_000, 50),
    production("produce-1KiB-64KiB", 1_024, 65_536, 10),
    production("produce-1KiB-16KiB", 1_024, 16_384, 5),
    production("produce-100B-1MB", 100, 1_000_000, 50),
    production("produce-100B-64KiB", 100, 65_536, 10),
    production("produce-100B-16KiB", 100, 16_384, 5),
    production("produce-10KiB-1MB", 10_240, 1_000_000, 50),
    production("produce-10KiB-64KiB", 10_240, 65_536, 10),
    production("produce-10KiB-16KiB", 10_240, 16_384, 5),
    idempotent(production("produce-1KiB-1MB-idempotent", 1_024, 1_000_000, 50)),
    idempotent(production("produce-1KiB-16KiB-idempotent", 1_024, 16_384, 5)),
];

/// The topic that is consumed, at the sender and at its partner.
pub const CONSUMED: &str = PRODUCTIONS[0].name;

impl Production {
    /// What librdkafka is told.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("batch.size", self.batch_bytes.to_string()),
            ("linger.ms", self.linger_ms.to_string()),
            ("enable.idempotence", self.idempotent.to_string()),
        ]
    }
}

const fn production(name: &'static str, record_bytes: usize, batch_bytes: u32, linger_ms: u32) -> Production {
    Production { name, record_bytes, batch_bytes, linger_ms, idempotent: false }
}

const fn idempotent(production: Production) -> Production {
    Production { idempotent: true, ..production }
}

//! Effects on HyperLogLogs, which are strings.

macro_rules! hyperloglog_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Raises registers of a HyperLogLog, given as three bytes each (index and value), one after the
        /// other; creates it where absent. It becomes dense beyond this number of bytes.
        HyperLogLogRaise(26, Key) {
            key: &'a [u8] as Key, sparse_bytes_max: u64 as Offset, registers: &'a [u8] as Rest
        } " {key} {registers} (sparse up to {sparse_bytes_max} bytes)";
        }
    };
}

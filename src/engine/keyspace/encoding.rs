//! Redis's limits of compact encodings. They decide what OBJECT ENCODING says of a value, and a few replies
//! that follow from the layout in Redis (approximate trims of streams). How values lie in memory here is
//! another matter.

/// The limits that CONFIG SET sets; the defaults are those of Redis 8.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingLimits {
    /// The most fields of a hash that is a `listpack`, and the most bytes of a name or a value in it.
    pub hash_entries: u64,
    pub hash_value: u64,
    /// Of a list that is a `listpack`: the most elements if positive; if negative, a class of sizes, from
    /// -1 (4 KiB) to -5 (64 KiB).
    pub list_size: i64,
    /// The number of nodes at each end that Redis does not compress; 0 for no compression. Nothing depends
    /// on it.
    pub list_compress_depth: u64,
    /// The most members of a set that is an `intset`.
    pub set_intset_entries: u64,
    /// The most members of a set that is a `listpack`, and the most bytes of one.
    pub set_entries: u64,
    pub set_value: u64,
    /// The same of a sorted set.
    pub sorted_set_entries: u64,
    pub sorted_set_value: u64,
    /// The most bytes of a sparse HyperLogLog.
    pub hyperloglog_sparse_bytes: u64,
    /// The most bytes and entries of a node of a stream, which an approximate trim removes as a whole; 0 for
    /// no limit.
    pub stream_node_bytes: u64,
    pub stream_node_entries: u64,
}

impl Default for EncodingLimits {
    fn default() -> EncodingLimits {
        EncodingLimits {
            hash_entries: 512,
            hash_value: 64,
            list_size: -2,
            list_compress_depth: 0,
            set_intset_entries: 512,
            set_entries: 128,
            set_value: 64,
            sorted_set_entries: 128,
            sorted_set_value: 64,
            hyperloglog_sparse_bytes: 3000,
            stream_node_bytes: 4096,
            stream_node_entries: 100,
        }
    }
}

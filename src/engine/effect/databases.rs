//! Effects on whole databases.

macro_rules! database_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Removes all keys of the database.
        Flush(12, Database) "";

        /// Removes all keys of all databases.
        FlushAll(13, Global) "";

        /// Exchanges two databases.
        SwapDatabases(14, Global) { first: u32 as DatabaseNumber, second: u32 as DatabaseNumber }
            " {{ first: {first}, second: {second} }}";
        }
    };
}

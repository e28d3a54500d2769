//! Plain data structures behind the value types. Imports nothing else of the engine: no clock, no effects, no keys.

mod bytes;
mod content;
mod hash;
mod housed;
mod number;
mod string;

pub use bytes::ShortBytes;
pub use content::{Content, Contents};
pub use hash::{Field, Hash};
pub use housed::{House, Housed};
pub use number::{add_decimals, format_double, parse_double, parse_integer};
pub use string::StringValue;

//! Addresses of servers, as clients of Redis write them.

use super::error::MoveError;

/// A server: `redis://[user:password@]host[:port]`, or `host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    /// User (empty for the default one) and password.
    pub credentials: Option<(String, String)>,
}

impl Address {
    /// # Errors
    /// What is no such address, and `rediss://`: there is no TLS here.
    pub fn parse(text: &str) -> Result<Address, MoveError> {
        let wrong = |cause: &str| MoveError::Arguments(format!("{text}: {cause}"));
        if text.starts_with("rediss://") {
            return Err(wrong("there is no TLS here: use a tunnel, and redis://"));
        }
        let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("valkey://")).unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        if place.contains('/') {
            return Err(wrong("all databases are moved: leave the number of a database out"));
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => (host, port),
            _ if place.is_empty() || place.starts_with(':') => return Err(wrong("it names no host")),
            _ => (place, "6379"),
        };
        let port = port.parse().map_err(|_| wrong("its port is no number"))?;
        let credentials = credentials.map(|pair| {
            let (user, password) = pair.split_once(':').unwrap_or(("", pair));
            (decoded(user), decoded(password))
        });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Address { host, port, credentials })
    }
}

impl std::fmt::Display for Address {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Percent-encoded bytes as text.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut after = bytes.clone();
        let digits = (byte == b'%').then(|| [after.next(), after.next()]);
        let code = digits.and_then(|digits| match digits {
            [Some(high), Some(low)] => {
                u8::from_str_radix(&format!("{}{}", char::from(high), char::from(low)), 16).ok()
            }
            _ => None,
        });
        match code {
            Some(code) => {
                out.push(code);
                bytes = after;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_forms() {
        for (text, host, port, credentials) in [
            ("redis://example:7000", "example", 7000, None),
            ("example", "example", 6379, None),
            ("127.0.0.1:6380", "127.0.0.1", 6380, None),
            ("redis://:secret@[::1]:1/", "::1", 1, Some(("", "secret"))),
            ("redis://me:p%40ss%3a@h:2", "h", 2, Some(("me", "p@ss:"))),
            ("secret@h", "h", 6379, Some(("", "secret"))),
        ] {
            let address = Address::parse(text).expect(text);
            let found = address.credentials.as_ref().map(|(user, password)| (&**user, &**password));
            assert_eq!((&*address.host, address.port, found), (host, port, credentials), "{text}");
        }
        for text in ["rediss://h", "redis://", "h:port", "redis://h:1/3", ":7000"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}

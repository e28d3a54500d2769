//! The listening sockets, in two steps: `bind` before recovery, so that an address in use or a missing
//! password is reported at once, and `listen` after it, so that no client waits in a backlog for a server
//! that is still starting.

use crate::config::Config;
use crate::server::ServerError;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

/// Sockets that own their addresses and accept nothing yet.
pub struct Listeners {
    sockets: Vec<(SocketAddr, Socket)>,
    backlog: i32,
}

impl Listeners {
    /// Takes the addresses of the configuration.
    ///
    /// # Errors
    /// An address that cannot be had, none at all, or an address of other machines without a password.
    pub fn bind(config: &Config) -> Result<Listeners, ServerError> {
        if config.protected_mode && config.password.is_empty() && !config.is_loopback_only() {
            return Err(ServerError::Unprotected { address: config.bind.join(", ") });
        }
        let mut sockets = Vec::new();
        for address in &config.bind {
            // As in redis.conf, an address with a dash in front may be missing on this machine. One that
            // another process has is an error all the same.
            let (name, is_optional) = match address.strip_prefix('-') {
                Some(name) => (name, true),
                None => (address.as_str(), false),
            };
            match resolve(name, config.port).and_then(bind) {
                Ok(socket) => sockets.push(socket),
                Err(error) if is_optional && is_absent(&error) => {
                    tracing::debug!("not listening on {name}: {error}");
                }
                Err(cause) => {
                    return Err(ServerError::Listen { address: format!("{name}:{}", config.port), cause });
                }
            }
        }
        if sockets.is_empty() {
            return Err(ServerError::NoAddress { addresses: config.bind.join(", ") });
        }
        Ok(Listeners { sockets, backlog: i32::try_from(config.backlog).unwrap_or(i32::MAX) })
    }

    /// Begins to accept connections.
    pub(crate) fn listen(self) -> Result<Vec<TcpListener>, ServerError> {
        let backlog = self.backlog;
        let listen = |(address, socket): (SocketAddr, Socket)| {
            let failed = |cause| ServerError::Listen { address: address.to_string(), cause };
            socket.listen(backlog).map_err(failed).map(|()| TcpListener::from(socket))
        };
        self.sockets.into_iter().map(listen).collect()
    }
}

/// `*` is every IPv4 address of the machine, `::*` every IPv6 address.
fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let host = match name {
        "*" => "0.0.0.0",
        "::*" => "::",
        host => host,
    };
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Otherwise `::` would take the IPv4 addresses too, and `bind * -::*` would collide with itself.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok((address, socket))
}

/// Whether the machine does not have the address, or not its protocol.
fn is_absent(error: &io::Error) -> bool {
    let absent = [
        Errno::ADDRNOTAVAIL,
        Errno::AFNOSUPPORT,
        Errno::PFNOSUPPORT,
        Errno::PROTONOSUPPORT,
        Errno::SOCKTNOSUPPORT,
        Errno::NOPROTOOPT,
    ];
    error.raw_os_error().is_some_and(|code| absent.contains(&Errno::from_raw_os_error(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::time::Duration;

    fn config(bind: &[&str], port: u16) -> Config {
        let bind = bind.iter().map(|address| (*address).to_owned()).collect();
        Config { bind, port, protected_mode: false, ..Config::default() }
    }

    /// Linux completes one handshake more than the backlog has room for, and lets the rest try again.
    #[test]
    fn the_backlog_bounds_who_waits_to_be_accepted() {
        let listeners = Listeners::bind(&Config { backlog: 1, ..config(&["127.0.0.1"], 0) });
        let listening = listeners.expect("loopback is there").listen().expect("it is ours");
        let address = listening[0].local_addr().expect("it is bound");
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let waiting: Vec<TcpStream> = (0..6).filter_map(connect).collect();
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn an_address_may_be_missing_and_may_not_be_taken() {
        let listeners = Listeners::bind(&config(&["127.0.0.1", "-192.0.2.1"], 0)).expect("one is there");
        assert_eq!(listeners.sockets.len(), 1);
        let listening = listeners.listen().expect("it is ours");
        let port = listening[0].local_addr().expect("it is bound").port();
        for taken in ["127.0.0.1", "-127.0.0.1"] {
            let error = Listeners::bind(&config(&[taken], port)).err().expect("it is taken").to_string();
            assert!(error.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{error}");
        }
        let open = Config { protected_mode: true, ..config(&["*", "-::*"], 0) };
        assert!(matches!(Listeners::bind(&open), Err(ServerError::Unprotected { .. })));
        let open = Config { password: "secret".to_owned(), ..open };
        let both = Listeners::bind(&open).expect("they do not collide").listen();
        assert!(!both.expect("all listen").is_empty());
        let none = Listeners::bind(&config(&["-192.0.2.1"], 0));
        assert!(matches!(none, Err(ServerError::NoAddress { .. })));
    }
}

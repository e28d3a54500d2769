//! The listening sockets, in two steps: `bind` before recovery, so that an address in use or a missing
//! password is reported at once, and `listen` after it, so that no client waits in a backlog for a server
//! that is still starting. Then [`accept`] hands the connections to the workers in turn.

use crate::clients::Client;
use crate::config::Config;
use crate::context::ServerContext;
use crate::error::ServerError;
use crate::worker::Incoming;
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener as TokioListener, TcpStream as TokioStream};

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

/// How long to wait after a connection could not be accepted. Without a file descriptor for it, the next try
/// fails as well, until another connection has ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines in the log about that.
const ACCEPT_WARNING_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn accept(shared: Arc<ServerContext>, listener: TokioListener, workers: Vec<Incoming>) {
    let mut turn = 0;
    let mut warned_at = None;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                let now = shared.now();
                if warned_at.is_none_or(|at| now.saturating_sub(at) >= ACCEPT_WARNING_PAUSE) {
                    tracing::warn!("cannot accept connections: {error}");
                    warned_at = Some(now);
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = prepare(&stream, &shared) {
            tracing::debug!("the options of the socket of {address} stay as they are: {error}");
        }
        let Ok(stream) = stream.into_std() else { continue };
        shared.stats.connections.fetch_add(1, Ordering::Relaxed);
        let Some(client) = admit(&shared, &stream, address) else { continue };
        turn = (turn + 1) % workers.len();
        if workers[turn].send((stream, client.clone())).is_err() {
            shared.clients.remove(client.id);
        }
    }
}

/// Replies leave at once, and a peer that is gone is noticed.
fn prepare(stream: &TokioStream, shared: &ServerContext) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive_s = shared.config.read().keepalive_s;
    if keepalive_s > 0 {
        // As in Redis: a probe after so long, two more in the same time again, then the peer is dead.
        let time = Duration::from_secs(keepalive_s);
        let interval = Duration::from_secs((keepalive_s / 3).max(1));
        let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Refuses the connection with a word, or enters it into the list of clients.
fn admit(shared: &ServerContext, mut stream: &TcpStream, address: SocketAddr) -> Option<Arc<Client>> {
    let config = shared.config.read();
    let is_stranger = !address.ip().to_canonical().is_loopback();
    let refusal = if shared.clients.len() >= config.clients_max {
        Some("-ERR max number of clients reached\r\n")
    } else if is_stranger && config.protected_mode && shared.acl.default_user().rights().has_no_password {
        Some(PROTECTED)
    } else {
        None
    };
    drop(config);
    if let Some(text) = refusal {
        shared.stats.rejected_connections.fetch_add(1, Ordering::Relaxed);
        // The socket is new, so the text fits in its buffer; an error means that the client has gone.
        _ = stream.write(text.as_bytes());
        return None;
    }
    let local = stream.local_addr().unwrap_or(address);
    let client = Arc::new(Client::new(shared.clients.next_id(), address, local, shared.now()));
    shared.clients.add(client.clone());
    Some(client)
}

const PROTECTED: &str = "-DENIED EngramDB is running in protected mode because no password is set and connections \
    are accepted from this machine only. To allow others, set a password with 'CONFIG SET requirepass <password>' \
    from this machine, or in the configuration; or turn protected mode off with 'CONFIG SET protected-mode no', if \
    nobody else can reach the port.\r\n";

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

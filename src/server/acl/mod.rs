//! Users and their rights.
//!
//! The store has each user's rules as text ([`engramdb_engine::store::users`]). Effects change them, so they
//! are durable as keys are. [`Acl`] has what rules mean. It is called for each effect under the keyspace's
//! lock, in execution and where a log is followed; connections take over new rights at their next command.
//!
//! - `rules` reads and shows rules; `selector` says what they permit; `catalog` is what they can name;
//! - `password` has hashes; `log` is ACL LOG; `file` reads ACL files.
//!
//! A user who may do everything costs a command one comparison. For others a command is looked up in a set,
//! and its keys in the user's patterns: without an allocation, unless the command finds its keys itself.

mod catalog;
mod commands;
mod file;
mod log;
mod password;
mod rules;
mod selector;

pub use catalog::RuleCatalog;
pub use file::{FileUser, parse as parse_users, read_file};
pub use log::{AclLog, AclLogEntry};
pub use password::PasswordHash;
pub use rules::{Rights, merge_selectors};
pub use selector::{CallWords, Denied, Selector, denied_error};

use crate::clients::Clients;
use engramdb_engine::command::{Args, CommandError, CommandTable, CoveredKeys, Known, PrefixFinder};
use engramdb_engine::store::users::UserKeeper;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The user of a connection that has not said who it is.
pub const DEFAULT_USER: &[u8] = b"default";

pub struct User {
    pub name: Box<[u8]>,
    rights: RwLock<Arc<Rights>>,
    is_deleted: AtomicBool,
}

impl User {
    fn new(name: &[u8], rights: Rights) -> Arc<User> {
        let rights = RwLock::new(Arc::new(rights));
        Arc::new(User { name: name.into(), rights, is_deleted: AtomicBool::new(false) })
    }

    pub fn rights(&self) -> Arc<Rights> {
        self.rights.read().clone()
    }

    fn heap_bytes(&self) -> usize {
        size_of::<User>() + 2 * self.name.len() + self.rights.read().heap_bytes()
    }

    /// Its connections are to end.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }
}

/// How often something was refused, for INFO.
#[derive(Default)]
pub struct RefusalCounts {
    pub auth: AtomicU64,
    pub command: AtomicU64,
    pub key: AtomicU64,
    pub channel: AtomicU64,
}

impl RefusalCounts {
    /// The count for a reason of ACL LOG.
    pub fn of(&self, reason: &str) -> &AtomicU64 {
        match reason {
            "auth" => &self.auth,
            "command" => &self.command,
            "channel" => &self.channel,
            _ => &self.key,
        }
    }
}

/// All users, and what is common to them.
pub struct Acl {
    pub catalog: RuleCatalog,
    users: RwLock<BTreeMap<Box<[u8]>, Arc<User>>>,
    default: Arc<User>,
    /// Grows with each change of a user, after the change.
    version: AtomicU64,
    /// Connections need no password: `default` is on and has `nopass`.
    is_open: AtomicBool,
    /// `acl-pubsub-default allchannels`.
    permits_channels: AtomicBool,
    log: Mutex<AclLog>,
    pub refusals: RefusalCounts,
    /// Memory of the users, in bytes.
    bytes: AtomicUsize,
    clients: Arc<Clients>,
    table: Arc<CommandTable>,
}

impl Acl {
    /// The user `default` may do everything, and needs a password if one is given.
    pub fn new(table: Arc<CommandTable>, clients: Arc<Clients>, password: &str) -> Acl {
        let catalog = RuleCatalog::new(&table);
        let default = User::new(DEFAULT_USER, Rights::unrestricted(&catalog));
        let bytes = AtomicUsize::new(default.heap_bytes());
        let acl = Acl {
            catalog,
            users: RwLock::new(BTreeMap::from([(DEFAULT_USER.into(), default.clone())])),
            default,
            version: AtomicU64::new(1),
            is_open: AtomicBool::new(true),
            permits_channels: AtomicBool::new(false),
            log: Mutex::default(),
            refusals: RefusalCounts::default(),
            bytes,
            clients,
            table,
        };
        acl.set_default_password(password);
        acl
    }

    /// A connection whose rights are of this version has them all.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether connections need no password.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    pub fn user(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// In the order of their names.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.users.read().values().cloned().collect()
    }

    /// The user, if the password is right. Takes about as long if there is no such user.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        match self.user(name) {
            Some(user) => user.rights().accepts(password).then_some(user),
            None => {
                std::hint::black_box(PasswordHash::of(password).is(&PasswordHash::of(b"")));
                None
            }
        }
    }

    /// Those of a user who does not exist yet.
    pub fn new_rights(&self) -> Rights {
        Rights::new(&self.catalog, self.permits_channels())
    }

    pub fn permits_channels(&self) -> bool {
        self.permits_channels.load(Ordering::Relaxed)
    }

    pub fn set_pubsub_default(&self, permits_channels: bool) {
        self.permits_channels.store(permits_channels, Ordering::Relaxed);
    }

    /// Gives `default` this one password, or none if it is empty (`requirepass`).
    pub fn set_default_password(&self, password: &str) {
        self.set_rights(&self.default, self.rights_with_password(password));
    }

    /// The rights of `default` with this one password, or with none.
    pub fn rights_with_password(&self, password: &str) -> Rights {
        let mut rights = (*self.default.rights()).clone();
        let is_empty = password.is_empty();
        rights.has_no_password = is_empty;
        rights.passwords = if is_empty { Vec::new() } else { vec![PasswordHash::of(password.as_bytes())] };
        rights
    }

    fn set_rights(&self, user: &Arc<User>, rights: Rights) {
        if Arc::ptr_eq(user, &self.default) {
            self.is_open.store(rights.is_on && rights.has_no_password, Ordering::Relaxed);
        }
        self.bytes.fetch_add(rights.heap_bytes(), Ordering::Relaxed);
        let before = std::mem::replace(&mut *user.rights.write(), Arc::new(rights));
        self.bytes.fetch_sub(before.heap_bytes(), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub fn call<'c>(&'c self, known: &'c Known, args: Args<'c>) -> CallWords<'c> {
        CallWords { known, listed: self.catalog.get(known.id), args, covered: None }
    }

    /// Whether the rights permit a call. `look` looks at the keyspace, for commands about indexes.
    pub fn check(
        &self,
        rights: &Rights,
        known: &Known,
        args: Args<'_>,
        look: impl FnOnce(PrefixFinder) -> CoveredKeys,
    ) -> Result<(), Denied> {
        let covered = known.command.prefixes.filter(|_| !rights.has_all_keys()).map(look);
        rights.check(CallWords { covered: covered.as_ref(), ..self.call(known, args) })
    }

    pub fn log(&self) -> parking_lot::MutexGuard<'_, AclLog> {
        self.log.lock()
    }

    /// Memory of the users, in bytes, by estimate. Costs no walk.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Acl {
    /// Looks at waiting connections of a user whose rights have changed: a wait for keys ends if the command
    /// may no longer run, and a subscriber looks at its channels.
    fn recheck(&self, name: &[u8]) {
        let Some(rights) = self.user(name).map(|user| user.rights()) else { return };
        for client in self.clients.of_user(name) {
            if client.is_subscriber() {
                client.wake();
            }
            let Some(words) = client.parked_words() else { continue };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let args = Args::new(&words);
            let Some(known) = self.table.find(args) else { continue };
            let call = self.call(known, args);
            if let Err(denied) = rights.check(call) {
                client.unblock(Some(denied_error(denied, name, call)));
            }
        }
    }
}

impl UserKeeper for Acl {
    fn user_set(&self, name: &[u8], rules: &[u8]) {
        let (rights, unknown) = Rights::parse(&self.catalog, rules);
        for rule in unknown {
            let (name, rule) = (name.escape_ascii(), rule.escape_ascii());
            tracing::warn!(
                "the rule {rule} of the user {name} is not known to this version: it permits nothing"
            );
        }
        let known = self.user(name);
        match known {
            Some(user) => self.set_rights(&user, rights),
            None => {
                let user = User::new(name, rights);
                self.bytes.fetch_add(user.heap_bytes(), Ordering::Relaxed);
                self.users.write().insert(name.into(), user);
            }
        }
        self.recheck(name);
    }

    fn user_deleted(&self, name: &[u8]) {
        if name == DEFAULT_USER {
            return self.set_rights(&self.default, Rights::unrestricted(&self.catalog));
        }
        if let Some(user) = self.users.write().remove(name) {
            self.bytes.fetch_sub(user.heap_bytes(), Ordering::Relaxed);
            user.is_deleted.store(true, Ordering::Release);
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        for client in self.clients.of_user(name) {
            let error = "NOPERM the user of this connection was deleted while it waited";
            client.unblock(Some(CommandError::of(error)));
            client.expel();
        }
    }
}

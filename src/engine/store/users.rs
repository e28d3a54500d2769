//! Users: ground state beside the databases. The store keeps each user's rules as text; the shell, which
//! knows commands and connections, keeps what they mean ([`UserKeeper`]).
//!
//! Invariants: only effects change users, in execution, in replay and while a log is followed; the keeper is
//! called under the keyspace's write lock, after the change.

use crate::effect::{Effect, Record};
use crate::gate::{Hazard, OpenBatch, ReplyGate};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Follows the changes of users. It is called under the keyspace's write lock, so it must not take that.
pub trait UserKeeper: Any + Send + Sync {
    /// A user is new, or has other rules.
    fn user_set(&self, name: &[u8], rules: &[u8]);

    fn user_deleted(&self, name: &[u8]);
}

/// The users of a store.
#[derive(Default)]
pub struct Users {
    rules: BTreeMap<Vec<u8>, Vec<u8>>,
    is_owned: bool,
    hazard: Arc<Hazard>,
    keeper: Option<Arc<dyn UserKeeper>>,
}

impl Users {
    /// Names and rules, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rules.iter().map(|(name, rules)| (&name[..], &rules[..]))
    }

    /// True if any effect has been about users: then an ACL file adds none.
    pub fn is_owned(&self) -> bool {
        self.is_owned
    }

    /// The keeper, if it is of this type.
    pub fn keeper<K: UserKeeper>(&self) -> Option<Arc<K>> {
        let keeper: Arc<dyn Any + Send + Sync> = self.keeper.clone()?;
        keeper.downcast().ok()
    }

    /// Calls `each` with the effects that restore the users.
    pub fn save<E>(&self, mut each: impl FnMut(&Effect<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.is_owned {
            each(&Effect::UsersOwned)?;
        }
        self.iter().try_for_each(|(name, rules)| each(&Effect::UserSet { name, rules }))
    }

    pub(crate) fn gate(&self) -> ReplyGate {
        self.hazard.gate()
    }

    /// Sets the keeper, which gets all users there are.
    pub(crate) fn keep(&mut self, keeper: Arc<dyn UserKeeper>) {
        self.iter().for_each(|(name, rules)| keeper.user_set(name, rules));
        self.keeper = Some(keeper);
    }

    /// Applies an effect on users. False if it does not fit.
    pub(crate) fn apply(&mut self, record: &Record<'_>, batch: &mut OpenBatch<'_>) -> bool {
        batch.mark(&self.hazard);
        self.is_owned = true;
        match record.effect {
            Effect::UserSet { name, rules } => {
                self.rules.insert(name.to_vec(), rules.to_vec());
                if let Some(keeper) = &self.keeper {
                    keeper.user_set(name, rules);
                }
            }
            Effect::UserDelete { name } => {
                if self.rules.remove(name).is_none() {
                    return false;
                }
                if let Some(keeper) = &self.keeper {
                    keeper.user_deleted(name);
                }
            }
            _ => {}
        }
        true
    }
}

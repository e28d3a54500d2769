//! `Tx`: read, validate, apply, record. The only way to change state.
//!
//! A handler validates first and applies then: an error after the first effect of a command is a bug (EXEC and scripts
//! keep the effects of their earlier commands, as Redis does). A write that meets an expired key or field logs its
//! delete first, so that replay never has to know what time it was.

use crate::effect::{Cause, Effect, List, Record};
use crate::keyspace::Value;
use crate::log::Lsn;
use crate::store::Store;
use crate::types::Hash;
use crate::view::View;
use std::cell::Cell;

/// One batch in the making: exclusive access to the store, at one moment of the engine clock.
pub struct Tx<'a> {
    store: &'a mut Store,
    shared: &'a crate::engine::Shared,
    database: u32,
    now_ms: u64,
    /// What earlier commands of the batch, and views of it, have to wait for.
    gate: Lsn,
    /// How many effects this transaction applied.
    effects: usize,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        store: &'a mut Store,
        shared: &'a crate::engine::Shared,
        database: u32,
        now_ms: u64,
    ) -> Tx<'a> {
        Tx { store, shared, database, now_ms, gate: Lsn(0), effects: 0 }
    }

    pub fn database(&self) -> u32 {
        self.database
    }

    /// The engine clock: one value for the whole batch.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn select(&mut self, database: u32) {
        self.database = database;
    }

    /// Runs `read` on the present state, the batch's own effects included; its hazards count for this batch's reply.
    pub fn read<R>(&mut self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let view = View {
            keyspace: &self.store.keyspace,
            modules: &self.store.modules,
            hazards: &self.shared.hazards,
            env: &self.shared.env,
            database: self.database,
            now_ms: self.now_ms,
            last_lsn: self.store.last_lsn,
            gate: Cell::new(self.gate),
        };
        let result = read(&view);
        self.gate = view.gate.get();
        result
    }

    /// Applies an effect to the current database and records it for the log. Returns its count (`Outcome::count`).
    pub fn apply(&mut self, effect: Effect<'_>) -> usize {
        self.purge_expired(&effect);
        self.record(effect)
    }

    /// How many effects this transaction has applied: 0 means that nothing changed.
    pub fn effects(&self) -> usize {
        self.effects
    }

    /// What the reply has to wait for: everything that was read, and the batch itself.
    pub(crate) fn gate(&self) -> Lsn {
        if self.effects == 0 { self.gate } else { self.gate.max(self.store.open_lsn()) }
    }

    fn record(&mut self, effect: Effect<'_>) -> usize {
        self.effects += 1;
        self.store.execute(&self.shared.hazards, &Record { database: self.database, effect })
    }

    /// What an effect is about to touch must not carry anything that a reader no longer sees.
    fn purge_expired(&mut self, effect: &Effect<'_>) {
        match *effect {
            Effect::Delete { .. } => {}
            Effect::Copy { key, to, to_database } => {
                self.purge_key(key);
                let home = std::mem::replace(&mut self.database, to_database);
                self.purge_key(to);
                self.database = home;
            }
            Effect::Rename { key, to } => {
                self.purge_key(key);
                self.purge_key(to);
            }
            Effect::Move { key, to_database } => {
                self.purge_key(key);
                let home = std::mem::replace(&mut self.database, to_database);
                self.purge_key(key);
                self.database = home;
            }
            _ => {
                if let Some(key) = effect.key() {
                    self.purge_key(key);
                }
            }
        }
    }

    /// Logs the delete of the key, or of its fields, if expired. True if there was something to delete.
    pub(crate) fn purge_key(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.store.keyspace.entry(self.database, key) else { return false };
        if !entry.alive(self.now_ms) {
            self.record(Effect::Delete { key, cause: Cause::Expired });
            return true;
        }
        match entry.value() {
            Value::Hash(hash) if hash.next_expiry_ms().is_some_and(|at| at <= self.now_ms) => {
                let expired = expired_fields(hash, self.now_ms);
                self.purge_fields(key, &expired)
            }
            _ => false,
        }
    }

    fn purge_fields(&mut self, key: &[u8], expired: &[Vec<u8>]) -> bool {
        if expired.is_empty() {
            return false;
        }
        let names: Vec<&[u8]> = expired.iter().map(Vec::as_slice).collect();
        self.record(Effect::HashDelete { key, fields: List::Arguments(&names), cause: Cause::Expired });
        true
    }
}

fn expired_fields(hash: &Hash, now_ms: u64) -> Vec<Vec<u8>> {
    let expired = hash.iter().filter(|field| !field.alive(now_ms));
    expired.map(|field| field.name.as_slice().to_vec()).collect()
}

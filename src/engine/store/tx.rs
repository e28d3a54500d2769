//! `Tx`: read, validate, apply, record. The only way to change state.
//!
//! A handler validates first and then applies: an error after the first effect of a command is a bug (EXEC
//! and scripts keep the effects of their earlier commands, as in Redis). A write to an expired key or field
//! logs its delete first, so that replay never needs the time of the write.

use crate::effect::{Cause, Effect, List, Record};
use crate::gate::ReplyGate;
use crate::keyspace::{
    EffectOrigin, EncodingLimits, Entry, Garbage, Given, Keyspace, OwnedValue, TypedValue, ValueRef,
};
use crate::module::{FORESEEN_VALUE_BYTES, Upcoming, UpcomingMaking};
use crate::store::Store;
use crate::store::lookups::{LookupCounts, Lookups};
use crate::store::prepared::{Copied, Copy, Foreseen, Foresight, MadeOfWords, Making, Preparing, mark_of};
use crate::store::view::{StoreContext, View};
use crate::types::Contents;
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The approximate limits of one step of active expiry: expired fields of a hash, and visited fields.
const EXPIRED_FIELDS_MAX: usize = 1000;
const LOOKED_AT_MAX: usize = 10_000;
/// The least number of fields to visit together: a step that may find fewer ends.
const LOOKED_AT_LEAST: usize = 64;

/// The deletes of a step of active expiry: a key, or some fields of its hash.
#[derive(Default)]
pub(crate) struct ExpiryStep {
    pub(crate) is_whole: bool,
    fields: Vec<Vec<u8>>,
    /// The number of visited fields.
    pub(crate) looked_at: usize,
    /// The cursor of the next step; 0 if this step reached the end of the hash.
    pub(crate) next: u64,
}

impl ExpiryStep {
    pub(crate) fn find(keyspace: &Keyspace, database: u32, key: &[u8], now_ms: u64) -> ExpiryStep {
        let mut step = ExpiryStep { next: keyspace.expiry_cursor(database, key), ..ExpiryStep::default() };
        let Some(entry) = keyspace.entry(database, key) else { return ExpiryStep::default() };
        // `alive` may visit all fields, so only the first step calls it.
        let is_alive = if step.next == 0 { entry.alive(now_ms) } else { entry.is_in_time(now_ms) };
        let ValueRef::Hash(hash) = entry.value() else {
            return ExpiryStep { is_whole: !is_alive, ..ExpiryStep::default() };
        };
        if !is_alive {
            return ExpiryStep { is_whole: true, looked_at: hash.len(), ..ExpiryStep::default() };
        }
        loop {
            let count = EXPIRED_FIELDS_MAX.saturating_sub(step.fields.len());
            step.next = hash.scan(step.next, count, &mut |field| {
                step.looked_at += 1;
                if !field.alive(now_ms) {
                    step.fields.push(field.name.to_vec());
                }
            });
            let is_full = step.fields.len() + LOOKED_AT_LEAST > EXPIRED_FIELDS_MAX;
            if is_full || step.next == 0 || step.looked_at >= LOOKED_AT_MAX {
                return step;
            }
        }
    }

    /// An upper bound of the size of the batch that makes these deletes, in bytes.
    pub(crate) fn bytes(&self, key: &[u8]) -> usize {
        64 + key.len() + self.fields.iter().map(|name| name.len() + 4).sum::<usize>()
    }
}

/// The inputs of a run's commands other than their words. It outlives the commands, so that they need not
/// pass it on.
#[derive(Default)]
pub(crate) struct Lent {
    /// The preparation, for commands that may return and run again; `None` in EXEC.
    pub(crate) preparing: Option<Preparing>,
    /// Large words of the running command.
    pub(crate) contents: Option<Arc<Contents>>,
    /// The bytes that effects may take in the log beyond the bound from the commands' words.
    pub(crate) room_bytes: usize,
    /// A script runs the command.
    pub(crate) is_in_script: bool,
    pub(crate) lookups: LookupCounts,
}

/// One open batch: exclusive access to the store, at one moment of the engine clock.
pub struct Tx<'a> {
    store: &'a mut Store,
    context: &'a StoreContext,
    pub(crate) lent: &'a mut Lent,
    database: u32,
    now_ms: u64,
    /// The gate of earlier commands of the batch, and of views of it.
    gate: ReplyGate,
    /// The keyspace event that the next effects notify.
    event: &'static str,
    /// The number of effects that this transaction applied.
    effects: usize,
    /// A copy for the next effect that takes one.
    copy: Option<Copied>,
}

impl<'a> Tx<'a> {
    #[inline]
    pub(crate) fn new(
        store: &'a mut Store,
        context: &'a StoreContext,
        lent: &'a mut Lent,
        database: u32,
        now_ms: u64,
    ) -> Tx<'a> {
        store.keyspace.set_access_time(now_ms, context.access_mode());
        Tx {
            store,
            context,
            lent,
            database,
            now_ms,
            gate: ReplyGate::NONE,
            event: "",
            effects: 0,
            copy: None,
        }
    }

    /// The longest string that a command may make, in bytes.
    pub(crate) fn string_bytes_max(&self) -> usize {
        self.context.string_bytes_max()
    }

    /// Redis's limits of compact encodings, as they are configured.
    pub fn encoding_limits(&self) -> EncodingLimits {
        *self.context.encoding_limits.read()
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

    /// Names the keyspace event that effects notify from here on, where it is not that of the command's row.
    pub fn event(&mut self, event: &'static str) {
        self.event = event;
    }

    /// Notifies an event that has no effect, or a second event of the last effect.
    pub fn notify(&mut self, event: &'static str, key: &[u8]) {
        self.store.hook.notices.notify(event, self.database, key);
    }

    /// Runs a part of the batch as a separate command, in this database. Returns the gate of its reply, other
    /// than the batch; the gate of the surrounding command does not change.
    pub(crate) fn nested<R>(&mut self, database: u32, run: impl FnOnce(&mut Tx<'a>) -> R) -> (R, ReplyGate) {
        let outer_database = std::mem::replace(&mut self.database, database);
        let outer_event = self.event;
        let outer_gate = std::mem::replace(&mut self.gate, ReplyGate::NONE);
        let (preparing, copy, contents) =
            (self.lent.preparing.take(), self.copy.take(), self.lent.contents.take());
        let result = run(self);
        let gate = std::mem::replace(&mut self.gate, outer_gate);
        self.database = outer_database;
        self.event = outer_event;
        (self.lent.preparing, self.copy, self.lent.contents) = (preparing, copy, contents);
        (result, gate)
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store
    }

    /// Runs `read` on the current state, including the batch's own effects; its hazards count for the batch's
    /// reply.
    pub fn read<R>(&mut self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let view = View {
            keyspace: &self.store.keyspace,
            modules: &self.store.modules,
            users: &self.store.users,
            hook: &self.store.hook,
            context: self.context,
            database: self.database,
            now_ms: self.now_ms,
            last_lsn: self.store.last_lsn,
            gate: Cell::new(self.gate),
            is_exclusive: true,
            is_in_script: self.lent.is_in_script,
            lookups: Lookups::default(),
            #[cfg(debug_assertions)]
            looked_up: Cell::default(),
        };
        let result = read(&view);
        self.gate = view.gate.get();
        self.lent.lookups.add(view.lookups.counted());
        let missed = view.lookups.take_missed();
        if !missed.is_empty() {
            self.store.hook.notices.add_missed(missed);
        }
        result
    }

    /// The same for reads that are not gated: their hazards do not count.
    pub(crate) fn look<R>(&mut self, look: impl FnOnce(&View<'_>) -> R) -> R {
        let gate = self.gate;
        let result = self.read(look);
        self.gate = gate;
        result
    }

    /// Applies an effect to the current database and records it for the log. Returns its count
    /// (`EffectOutcome::count`).
    pub fn apply(&mut self, effect: Effect<'_>) -> usize {
        self.purge_expired(&effect);
        self.record(effect, None)
    }

    /// The same with the object as the effect leaves it, if that was made already: it takes the place of the
    /// object at the key.
    pub fn apply_given(&mut self, effect: Effect<'_>, object: Option<Box<dyn TypedValue>>) -> usize {
        self.purge_expired(&effect);
        self.record(effect, object)
    }

    /// Keeps what a command has made and does not need, to be dropped outside the lock.
    pub fn discard(&mut self, made: Box<dyn Any + Send + Sync>) {
        self.store.discard_all(vec![Garbage::Made(made)]);
    }

    /// Requests a copy of the key's value for the next effect. False if the copy must be made without the
    /// lock: then the handler must return, without an effect or a reply, and will run again.
    pub(crate) fn has_copy(&mut self, key: &[u8], making: impl FnOnce() -> Making) -> bool {
        let Some(preparing) = &mut self.lent.preparing else { return true };
        match preparing.copy(self.database, key, making) {
            Copy::Made(copied) => self.copy = Some(copied),
            Copy::InPlace => {}
            Copy::Wanted => return false,
        }
        true
    }

    /// What `making` makes of large words, made without the lock where the command may return and run again;
    /// `None` if it must return now, without an effect or a reply. In EXEC it is made in place.
    pub fn made_of(
        &mut self,
        words: &[&[u8]],
        making: fn(Vec<Arc<Vec<u8>>>) -> MadeOfWords,
    ) -> Option<MadeOfWords> {
        let shared = |tx: &Tx<'_>| words.iter().map(|word| tx.shared_word(word)).collect();
        let Some(mut preparing) = self.lent.preparing.take() else {
            return Some(making(shared(self)));
        };
        let made = preparing.of_words(words, || {
            let words = shared(self);
            (words.clone(), Box::new(move || making(words)))
        });
        self.lent.preparing = Some(preparing);
        made
    }

    /// Whether an effect with a key, which comes next, can be applied now. If not, a module has much to read
    /// of the document that `upcoming` makes, or `foresight` asks for that document itself; the command must
    /// return, and will run again. In EXEC everything is done in place.
    pub fn foresee(
        &mut self,
        effect: &Effect<'_>,
        foresight: Foresight,
        upcoming: impl FnOnce(&mut Self) -> UpcomingMaking,
    ) -> Foreseen {
        let (Some(preparing), Some(key)) = (&mut self.lent.preparing, effect.key()) else {
            return Foreseen::Ready(None);
        };
        let mark = if preparing.is_in_use() { mark_of(effect) } else { 0 };
        let attempts = match preparing.observe(self.database, key, mark) {
            // What has expired meanwhile is deleted before the effect: it must not come back.
            Ok(Some(object)) if self.is_due(key) => {
                self.store.discard(OwnedValue::Object(object));
                return Foreseen::Ready(None);
            }
            Ok(object) => return Foreseen::Ready(object),
            Err(attempts) => attempts,
        };
        let record = Record { database: self.database, effect: *effect };
        let making = self.store.modules.preparation(&self.store.keyspace, &record);
        if making.is_none() && foresight == Foresight::default() {
            return Foreseen::Ready(None);
        }
        // What a hash's fields are is in the words.
        let watch = match effect {
            Effect::HashSet { .. } => None,
            _ => Some(self.look(|view| view.watch(key))),
        };
        let making = (upcoming(self), making);
        let preparing = self.lent.preparing.as_mut().expect("checked above");
        preparing.want_observation((self.database, effect, attempts), making, foresight, watch);
        Foreseen::Again
    }

    /// The same for the fields of a hash, names and values in turn, of which large values are read. False if
    /// the command must return, and will run again.
    pub fn foresees_fields(&mut self, effect: &Effect<'_>, fields: &[&[u8]]) -> bool {
        let (pairs, _) = fields.as_chunks::<2>();
        let large = pairs.iter().filter(|[_, value]| value.len() >= FORESEEN_VALUE_BYTES);
        if large.clone().next().is_none() {
            return true;
        }
        let foreseen = self.foresee(effect, Foresight::default(), |tx| {
            let fields = large.map(|[name, value]| (name.to_vec(), tx.shared_word(value))).collect();
            Box::new(move || Upcoming::Fields(fields))
        });
        matches!(foreseen, Foreseen::Ready(_))
    }

    /// Keeps what `made_of` has returned for the run after an effect that was not foreseen.
    pub fn keep_made(&mut self, made: MadeOfWords) {
        if let Some(preparing) = &mut self.lent.preparing {
            preparing.keep_words(made);
        }
    }

    /// A word's bytes, in an allocation that can be shared.
    pub fn shared_word(&self, word: &[u8]) -> Arc<Vec<u8>> {
        let content = self.lent.contents.as_ref().and_then(|contents| contents.of(word));
        content.map_or_else(|| Arc::new(word.to_vec()), |content| content.bytes().clone())
    }

    /// The number of effects that this transaction has applied: 0 means that nothing changed.
    pub fn effects(&self) -> usize {
        self.effects
    }

    /// The bytes of the effects so far.
    pub(crate) fn logged_bytes(&mut self) -> usize {
        self.store.open_batch_bytes()
    }

    /// Ends the transaction and its batch. Returns the gate of its reply, and the store.
    #[inline]
    pub(crate) fn finish(mut self) -> (ReplyGate, &'a mut Store) {
        if self.store.end_batch() {
            self.gate = self.store.hook.last_applied(self.store.last_lsn);
        }
        (self.gate, self.store)
    }

    fn record(&mut self, effect: Effect<'_>, object: Option<Box<dyn TypedValue>>) -> usize {
        self.effects += 1;
        self.store.hook.notices.name(self.event);
        let takes_copy =
            matches!(effect, Effect::Copy { .. } | Effect::StringAppend { .. } | Effect::StringWrite { .. });
        let copy = if takes_copy { self.take_copy() } else { None };
        let contents = self.lent.contents.as_deref();
        let given = Given { copy, contents, object, origin: EffectOrigin::Command };
        let record = Record { database: self.database, effect };
        let observation = match &mut self.lent.preparing {
            // The deletes of what has expired come before the effect that was foreseen.
            Some(preparing) if preparing.is_in_use() && !is_delete(&effect) => {
                preparing.take_observation(self.database, effect.key())
            }
            _ => None,
        };
        let count = self.store.execute(&record, given, observation);
        if matches!(effect, Effect::HashDelete { cause: Cause::Expired, .. }) {
            self.context.expired.fields.fetch_add(count as u64, Ordering::Relaxed);
        }
        count
    }

    /// The same for an effect that is not the command's: it has an event of its own.
    fn record_as(&mut self, event: &'static str, effect: Effect<'_>) {
        let outer_event = std::mem::replace(&mut self.event, event);
        self.record(effect, None);
        self.event = outer_event;
    }

    /// The copy, if its key has not changed since the copying began. If the key has expired since, it was
    /// deleted just before.
    #[inline]
    fn take_copy(&mut self) -> Option<Box<OwnedValue>> {
        let Copied { value, watch } = self.copy.take()?;
        if watch.dirtied_by().is_none() {
            return Some(value);
        }
        self.store.discard(*value);
        None
    }

    /// Deletes expired keys and fields that an effect is about to change, because readers no longer see them.
    fn purge_expired(&mut self, effect: &Effect<'_>) {
        match *effect {
            Effect::Delete { .. } => {}
            Effect::Copy { key, to, to_database } => {
                self.purge_key(key);
                self.purge_key_of(to_database, to);
            }
            Effect::Rename { key, to } => {
                self.purge_key(key);
                self.purge_key(to);
            }
            Effect::Move { key, to_database } => {
                self.purge_key(key);
                self.purge_key_of(to_database, key);
            }
            Effect::HashSet { key, fields, .. } => {
                self.purge_key(key);
                self.purge_fields(key, fields.pairs().map(|(name, _)| name));
            }
            Effect::HashDelete { key, fields, .. } | Effect::HashExpire { key, fields, .. } => {
                self.purge_key(key);
                self.purge_fields(key, fields.iter());
            }
            _ => {
                if let Some(key) = effect.key() {
                    self.purge_key(key);
                }
            }
        }
    }

    fn purge_key_of(&mut self, database: u32, key: &[u8]) {
        let home = std::mem::replace(&mut self.database, database);
        self.purge_key(key);
        self.database = home;
    }

    /// True if the database may have a key or field that has expired and is still stored. Needs no lookup,
    /// and saves most writes one.
    #[inline]
    fn may_have_due(&self) -> bool {
        let database = self.store.keyspace.database(self.database);
        database.is_some_and(|keys| keys.may_have_due(self.now_ms))
    }

    /// Whether the key is stored and reads as absent.
    fn is_due(&self, key: &[u8]) -> bool {
        let entry = self.store.keyspace.entry(self.database, key);
        entry.is_some_and(|entry| !entry.alive(self.now_ms))
    }

    /// Logs the delete of the key if it reads as absent.
    fn purge_key(&mut self, key: &[u8]) {
        if self.may_have_due() {
            self.purge_due_key(key);
        }
    }

    fn purge_due_key(&mut self, key: &[u8]) {
        let entry = self.store.keyspace.entry(self.database, key);
        let Some(entry) = entry.filter(|entry| !entry.alive(self.now_ms)) else { return };
        let expired = &self.context.expired;
        match entry.value() {
            // As in Redis, a hash whose fields have all expired counts as expired fields, not as an expired
            // key.
            ValueRef::Hash(hash) if entry.is_in_time(self.now_ms) => {
                expired.fields.fetch_add(hash.len() as u64, Ordering::Relaxed);
                self.notify("hexpired", key);
                self.record_as("", Effect::Delete { key, cause: Cause::Expired });
                return self.notify("del", key);
            }
            _ => expired.keys.fetch_add(1, Ordering::Relaxed),
        };
        self.record_as("expired", Effect::Delete { key, cause: Cause::Expired });
    }

    /// Logs the delete of those named fields that have expired.
    fn purge_fields<'n>(&mut self, key: &[u8], names: impl Iterator<Item = &'n [u8]>) {
        if !self.may_have_due() {
            return;
        }
        let Some(ValueRef::Hash(hash)) = self.store.keyspace.entry(self.database, key).map(Entry::value)
        else {
            return;
        };
        if hash.next_expiry_ms().is_none_or(|at| at > self.now_ms) {
            return;
        }
        let now_ms = self.now_ms;
        let expired = names.filter(|name| hash.get(name).is_some_and(|field| !field.alive(now_ms)));
        let expired: Vec<&[u8]> = expired.collect();
        self.delete_expired(key, &expired);
    }

    /// Makes the deletes of a step of active expiry.
    pub(crate) fn expire(&mut self, key: &[u8], step: &ExpiryStep) {
        if step.is_whole {
            // The expiry index has returned the key, and no longer has it.
            self.purge_due_key(key);
        }
        self.delete_expired(key, &step.fields.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn delete_expired(&mut self, key: &[u8], fields: &[&[u8]]) {
        if !fields.is_empty() {
            let fields = List::Arguments(fields);
            self.record_as("hexpired", Effect::HashDelete { key, fields, cause: Cause::Expired });
        }
    }
}

fn is_delete(effect: &Effect<'_>) -> bool {
    matches!(effect, Effect::Delete { .. } | Effect::HashDelete { .. })
}

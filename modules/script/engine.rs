//! Derived state of this process: interpreters, compiled scripts and functions.
//!
//! There is one interpreter for EVAL and one for functions, as in Redis, so that what a library keeps in its
//! locals is kept from call to call. A script holds the keyspace's write lock, so that nothing waits for
//! these locks but SCRIPT LOAD and the like.
//!
//! Scripts of EVAL are kept up to [`EVAL_SCRIPTS_MAX`], the least recently used ones are forgotten; those of
//! SCRIPT LOAD are kept until SCRIPT FLUSH.

use crate::header::{Flags, ScriptHeader};
use crate::libraries::{FUNCTIONS_BYTES_MAX, Library, RegisteredFunction};
use crate::lua::{Interpreter, InterpreterUse, Registered, sha1hex};
use engramdb_engine::command::CommandError;
use engramdb_engine::env::Clock;
use engramdb_engine::hashing::HashMap;
use engramdb_server::{ScriptCall, ScriptKind, ScriptRules, Tick};
use mlua::Function;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Scripts that EVAL keeps, as many as Redis.
const EVAL_SCRIPTS_MAX: usize = 500;
/// How long the code of a library may run when it is loaded.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);
/// What a compiled script takes beside its text, in bytes.
const SCRIPT_BYTES: usize = 256;

/// A script in the cache.
pub struct CachedScript {
    /// SHA1 in lower-case hexadecimal.
    pub sha: Arc<str>,
    pub body: Vec<u8>,
    flags: Option<Flags>,
    function: Function,
    /// EVAL brought it; SCRIPT LOAD keeps it for good.
    is_of_eval: bool,
    used: AtomicU64,
}

/// The interpreter of EVAL and its scripts.
struct EvalState {
    interpreter: Interpreter,
    by_sha: HashMap<Arc<str>, Arc<CachedScript>>,
    by_body: HashMap<Vec<u8>, Arc<CachedScript>>,
    uses: u64,
    of_eval: usize,
}

/// The interpreter of functions and the libraries that it has loaded.
struct FunctionState {
    interpreter: Interpreter,
    loaded: HashMap<String, LoadedLibrary>,
}

struct LoadedLibrary {
    library: Arc<Library>,
    callbacks: Vec<Function>,
}

#[derive(Default)]
pub struct ScriptEngine {
    eval: Mutex<Option<EvalState>>,
    functions: Mutex<Option<FunctionState>>,
    eval_bytes: AtomicUsize,
    function_bytes: AtomicUsize,
    scripts: AtomicUsize,
    scripts_bytes: AtomicUsize,
    evicted: AtomicU64,
}

/// Numbers for INFO.
pub struct ScriptUsage {
    pub eval_bytes: usize,
    pub function_bytes: usize,
    pub scripts: usize,
    pub scripts_bytes: usize,
    pub evicted: u64,
}

fn broken(error: &mlua::Error) -> CommandError {
    CommandError::new(format!("ERR cannot start the interpreter: {error}"))
}

impl ScriptEngine {
    /// Memory of the interpreters and of scripts, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let counts = [&self.eval_bytes, &self.function_bytes, &self.scripts_bytes];
        counts.into_iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    pub fn usage(&self) -> ScriptUsage {
        ScriptUsage {
            eval_bytes: self.eval_bytes.load(Ordering::Relaxed),
            function_bytes: self.function_bytes.load(Ordering::Relaxed),
            scripts: self.scripts.load(Ordering::Relaxed),
            scripts_bytes: self.scripts_bytes.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// EVAL: runs the script with this text.
    pub fn eval(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        body: &[u8],
        (keys, arguments, is_read_only): (&[&[u8]], &[&[u8]], bool),
    ) -> Result<(), CommandError> {
        let mut state = self.eval.lock();
        let state = EvalState::of(&mut state)?;
        let script = match state.by_body.get(body) {
            Some(script) => script.clone(),
            None => self.add(state, body, true)?,
        };
        self.run(state, call, &script, (keys, arguments, is_read_only))
    }

    /// EVALSHA: runs the script of this name.
    pub fn evalsha(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        sha: &[u8],
        (keys, arguments, is_read_only): (&[&[u8]], &[&[u8]], bool),
    ) -> Result<(), CommandError> {
        let mut state = self.eval.lock();
        let state = EvalState::of(&mut state)?;
        let script = state.find(sha).cloned();
        let script = script.ok_or(CommandError::of("NOSCRIPT No matching script. Please use EVAL."))?;
        self.run(state, call, &script, (keys, arguments, is_read_only))
    }

    fn run(
        &self,
        state: &mut EvalState,
        call: &mut ScriptCall<'_, '_, '_>,
        script: &CachedScript,
        (keys, arguments, is_read_only): (&[&[u8]], &[&[u8]], bool),
    ) -> Result<(), CommandError> {
        state.uses += 1;
        script.used.store(state.uses, Ordering::Relaxed);
        let script_name = (ScriptKind::Eval, script.sha.clone());
        call.begin(script_name, rules_of(script.flags, is_read_only), [0; 2])?;
        let result = state.interpreter.run_script(call, (&script.function, &script.sha), (keys, arguments));
        self.eval_bytes.store(state.interpreter.memory_bytes(), Ordering::Relaxed);
        result
    }

    /// SCRIPT LOAD: compiles the script and keeps it. Returns its SHA1.
    pub fn script_load(&self, body: &[u8]) -> Result<Arc<str>, CommandError> {
        let mut state = self.eval.lock();
        let state = EvalState::of(&mut state)?;
        if let Some(script) = state.by_body.get(body).filter(|script| !script.is_of_eval) {
            return Ok(script.sha.clone());
        }
        if let Some(script) = state.by_body.get(body).cloned() {
            self.forget(state, &script);
        }
        Ok(self.add(state, body, false)?.sha.clone())
    }

    pub fn script_exists(&self, sha: &[u8]) -> bool {
        self.eval.lock().as_ref().is_some_and(|state| state.find(sha).is_some())
    }

    /// The text of a script.
    pub fn script_body(&self, sha: &[u8]) -> Option<Vec<u8>> {
        self.eval.lock().as_ref()?.find(sha).map(|script| script.body.clone())
    }

    /// SCRIPT FLUSH: forgets all scripts and the interpreter.
    pub fn script_flush(&self) {
        let mut state = self.eval.lock();
        *state = None;
        for count in [&self.eval_bytes, &self.scripts, &self.scripts_bytes] {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn add(
        &self,
        state: &mut EvalState,
        body: &[u8],
        is_of_eval: bool,
    ) -> Result<Arc<CachedScript>, CommandError> {
        let header = ScriptHeader::of(body)?;
        let compiled = state.interpreter.compile(&body[header.bytes..], "@user_script");
        let function = compiled.map_err(|text| {
            CommandError::new(format!("ERR Error compiling script (new function): {text}"))
        })?;
        if is_of_eval && state.of_eval >= EVAL_SCRIPTS_MAX {
            let of_eval = state.by_sha.values().filter(|script| script.is_of_eval);
            let oldest = of_eval.min_by_key(|script| script.used.load(Ordering::Relaxed)).cloned();
            if let Some(oldest) = oldest {
                self.forget(state, &oldest);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        state.uses += 1;
        let script = Arc::new(CachedScript {
            sha: Arc::from(sha1hex(body)),
            body: body.to_vec(),
            flags: header.flags,
            function,
            is_of_eval,
            used: AtomicU64::new(state.uses),
        });
        state.by_sha.insert(script.sha.clone(), script.clone());
        state.by_body.insert(body.to_vec(), script.clone());
        state.of_eval += usize::from(is_of_eval);
        self.scripts.store(state.by_sha.len(), Ordering::Relaxed);
        self.scripts_bytes.fetch_add(2 * body.len() + SCRIPT_BYTES, Ordering::Relaxed);
        Ok(script)
    }

    fn forget(&self, state: &mut EvalState, script: &CachedScript) {
        state.by_sha.remove(&script.sha);
        state.by_body.remove(&script.body);
        state.of_eval -= usize::from(script.is_of_eval);
        self.scripts.store(state.by_sha.len(), Ordering::Relaxed);
        self.scripts_bytes.fetch_sub(2 * script.body.len() + SCRIPT_BYTES, Ordering::Relaxed);
    }

    /// FCALL: runs a function of a library, which is compiled if this process has not yet done so.
    pub fn fcall(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        (library, function, libraries): (&Arc<Library>, &RegisteredFunction, [usize; 2]),
        (keys, arguments, is_read_only): (&[&[u8]], &[&[u8]], bool),
    ) -> Result<(), CommandError> {
        let name: Arc<str> = Arc::from(&*function.name);
        let rules = rules_of(Some(function.flags), is_read_only);
        call.begin((ScriptKind::Function, name), rules, libraries)?;
        let mut state = self.functions.lock();
        let state = FunctionState::of(&mut state)?;
        if !state.has(library) {
            let scripts = call.scripts().clone();
            state.load(library, Arc::new(move || scripts.tick()))?;
        }
        let index = library.functions.iter().position(|known| known.name == function.name);
        let loaded = state.loaded.get(&library.name).zip(index);
        let (loaded, index) = loaded.expect("a library has the functions that it registered");
        let callback = loaded.callbacks[index].clone();
        let result = state.interpreter.run_function(call, (&callback, &function.name), (keys, arguments));
        self.function_bytes.store(state.interpreter.memory_bytes(), Ordering::Relaxed);
        result
    }

    /// Runs the code of a library and keeps what it registered until [`ScriptEngine::keep`], or the next
    /// trial.
    pub fn try_library(
        &self,
        (name, code, header_bytes): (String, &[u8], usize),
        clock: Arc<dyn Clock>,
    ) -> Result<(Library, TriedLibrary), CommandError> {
        let mut state = self.functions.lock();
        let state = FunctionState::of(&mut state)?;
        let ends_at = clock.monotonic() + LOAD_TIME_MAX;
        let ticker = move || if clock.monotonic() > ends_at { Tick::End } else { Tick::GoOn };
        let registered = state.interpreter.load(&code[header_bytes..], Arc::new(ticker))?;
        if registered.is_empty() {
            return Err(CommandError::of("ERR No functions registered"));
        }
        let functions = registered.iter().map(described).collect();
        let library = Library { name, code: code.to_vec(), functions };
        if library.encode_functions().len() > FUNCTIONS_BYTES_MAX {
            return Err(CommandError::new(format!(
                "ERR the names and descriptions of a library's functions take more than {FUNCTIONS_BYTES_MAX} bytes"
            )));
        }
        Ok((library, TriedLibrary(registered.into_iter().map(|one| one.callback).collect())))
    }

    /// Keeps what was tried as the compiled form of a library, which is ground state now.
    pub fn keep(&self, library: &Arc<Library>, tried: TriedLibrary) {
        let mut state = self.functions.lock();
        let Some(state) = &mut *state else { return };
        let loaded = LoadedLibrary { library: library.clone(), callbacks: tried.0 };
        state.loaded.insert(library.name.clone(), loaded);
        self.function_bytes.store(state.interpreter.memory_bytes(), Ordering::Relaxed);
    }

    /// Forgets a library's compiled form.
    pub fn drop_library(&self, name: &str) {
        if let Some(state) = &mut *self.functions.lock() {
            state.loaded.remove(name);
        }
    }

    /// Forgets all libraries and their interpreter.
    pub fn drop_libraries(&self) {
        *self.functions.lock() = None;
        self.function_bytes.store(0, Ordering::Relaxed);
    }
}

/// What a library registered.
pub struct TriedLibrary(Vec<Function>);

fn described(registered: &Registered) -> RegisteredFunction {
    let mut flags = Flags::default();
    registered.flags.iter().filter_map(|name| Flags::named(name)).for_each(|flag| flags.add(flag));
    RegisteredFunction { name: registered.name.clone(), description: registered.description.clone(), flags }
}

fn rules_of(flags: Option<Flags>, is_read_only_command: bool) -> ScriptRules {
    let has = |flag| flags.is_some_and(|flags| flags.has(flag));
    ScriptRules {
        is_plain: flags.is_none(),
        no_writes: has(Flags::NO_WRITES),
        allow_oom: has(Flags::ALLOW_OOM),
        is_read_only_command,
    }
}

impl EvalState {
    fn of(state: &mut Option<EvalState>) -> Result<&mut EvalState, CommandError> {
        if state.is_none() {
            *state = Some(EvalState {
                interpreter: Interpreter::new(InterpreterUse::Eval).map_err(|error| broken(&error))?,
                by_sha: HashMap::default(),
                by_body: HashMap::default(),
                uses: 0,
                of_eval: 0,
            });
        }
        Ok(state.as_mut().expect("it was made"))
    }

    fn find(&self, sha: &[u8]) -> Option<&Arc<CachedScript>> {
        const SHA_CHARS: usize = 40;
        let mut lower = [0; SHA_CHARS];
        if sha.len() != SHA_CHARS {
            return None;
        }
        lower.copy_from_slice(sha);
        lower.make_ascii_lowercase();
        self.by_sha.get(std::str::from_utf8(&lower).ok()?)
    }
}

impl FunctionState {
    fn of(state: &mut Option<FunctionState>) -> Result<&mut FunctionState, CommandError> {
        if state.is_none() {
            let interpreter = Interpreter::new(InterpreterUse::Functions).map_err(|error| broken(&error))?;
            *state = Some(FunctionState { interpreter, loaded: HashMap::default() });
        }
        Ok(state.as_mut().expect("it was made"))
    }

    /// Whether this very version of the library is compiled.
    fn has(&self, library: &Arc<Library>) -> bool {
        self.loaded.get(&library.name).is_some_and(|loaded| Arc::ptr_eq(&loaded.library, library))
    }

    fn load(&mut self, library: &Arc<Library>, ticker: crate::lua::Ticker) -> Result<(), CommandError> {
        let header_bytes = library.code.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let registered = self.interpreter.load(&library.code[header_bytes..], ticker)?;
        let names = registered.iter().map(|one| &one.name);
        if !names.eq(library.functions.iter().map(|function| &function.name)) {
            let text = format!("ERR library '{}' registers other functions than it did", library.name);
            return Err(CommandError::new(text));
        }
        let callbacks = registered.into_iter().map(|one| one.callback).collect();
        self.loaded.insert(library.name.clone(), LoadedLibrary { library: library.clone(), callbacks });
        Ok(())
    }
}

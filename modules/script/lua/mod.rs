//! One interpreter: Lua 5.1 in Redis's sandbox.
//!
//! Scripts see globals that they can only read, no files and no clock but `os.clock`, and `redis.*`. What
//! they call of that is in `prelude.lua`, in [`api`] and in the libraries beside it. A script that runs is
//! asked every 100,000 instructions whether it goes on; its memory is bounded by that of the interpreter.
//!
//! Deliberately not here: which scripts there are ([`crate::engine`]).

mod api;
mod bits;
mod checked;
mod cjson;
mod cmsgpack;
mod convert;
mod current;
mod number;
mod pattern;
mod random;
mod strings;
mod structs;

pub use crate::lua::api::sha1hex;

use crate::lua::convert::{Failure, is_counted_error, to_reply};
use crate::lua::current::CommandRunner;
use crate::lua::strings::SharedTicker;
use engramdb_engine::command::CommandError;
use engramdb_server::{ScriptCall, Tick};
use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What an interpreter may take, in bytes, with all that its scripts keep.
const MEMORY_BYTES_MAX: usize = 512 << 20;
/// How often a script is asked whether it goes on.
const INSTRUCTIONS_PER_TICK: u32 = 100_000;

/// Asked regularly while a script runs.
pub type Ticker = Arc<dyn Fn() -> Tick + Send + Sync>;

/// What scripts change about the interpreter, and what ends them.
#[derive(Default)]
struct Running {
    /// RESP of the replies of commands: 3 or 2.
    resp: AtomicU8,
    /// The script is being ended; catching that does not help it.
    is_ending: AtomicBool,
    /// A function in Rust has noticed that the script is to end. The hook will, too.
    has_ended_work: AtomicBool,
}

pub struct Interpreter {
    lua: Lua,
    running: Arc<Running>,
    ticker: SharedTicker,
    globals: Table,
    run: Function,
    run_function: Function,
    /// Of libraries that are being loaded.
    registered: Table,
    /// Begins and ends the loading of a library; only in an interpreter of functions.
    load_mode: Option<Function>,
}

/// What an interpreter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterpreterUse {
    Eval,
    Functions,
}

/// The name of the chunks that the sandbox is made of: errors name no line of it.
const PRELUDE: &str = "=prelude";

impl Interpreter {
    pub fn new(purpose: InterpreterUse) -> mlua::Result<Interpreter> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        lua.set_memory_limit(MEMORY_BYTES_MAX)?;
        let running = Arc::new(Running::default());
        let ticker = Arc::new(parking_lot::Mutex::new(None));
        let scripts_globals = lua.create_table()?;
        let native = api::native(&lua, &running, &ticker)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name(PRELUDE).set_mode(ChunkMode::Text);
        let prelude = prelude.set_environment(scripts_globals.clone());
        let interface: Table = prelude.call((lua.globals(), native, &scripts_globals))?;
        let kind: Table = interface.raw_get("kind")?;
        let load_mode = match purpose {
            InterpreterUse::Eval => {
                kind.raw_get::<Function>("eval")?.call::<()>(())?;
                None
            }
            InterpreterUse::Functions => Some(kind.raw_get::<Function>("functions")?.call::<Function>(())?),
        };
        lua.set_globals(scripts_globals)?;
        let interpreter = Interpreter {
            running,
            ticker,
            globals: interface.raw_get("globals")?,
            run: interface.raw_get("run")?,
            run_function: interface.raw_get("run_function")?,
            registered: interface.raw_get("registered")?,
            load_mode,
            lua,
        };
        interpreter.watch()?;
        Ok(interpreter)
    }

    /// Has running scripts asked regularly.
    fn watch(&self) -> mlua::Result<()> {
        let (ticker, running) = (self.ticker.clone(), self.running.clone());
        let triggers = HookTriggers::new().every_nth_instruction(INSTRUCTIONS_PER_TICK);
        self.lua.set_global_hook(triggers, move |lua, _| {
            let is_ending = running.is_ending.load(Ordering::Relaxed);
            let ticker = ticker.lock().clone();
            if !is_ending && ticker.is_none_or(|ticker| ticker() == Tick::GoOn) {
                return Ok(VmState::Continue);
            }
            if !is_ending {
                running.is_ending.store(true, Ordering::Relaxed);
                // From now on each line is the last: a script must not go on that catches the error.
                let running = running.clone();
                lua.set_global_hook(HookTriggers::EVERY_LINE, move |_, _| {
                    match running.is_ending.load(Ordering::Relaxed) {
                        true => Err(mlua::Error::runtime("ended")),
                        false => Ok(VmState::Continue),
                    }
                })?;
            }
            Err(mlua::Error::runtime("ended"))
        })
    }

    fn begin(&self, ticker: Ticker) {
        // Lua collects no garbage when an allocation fails: what a script left must not fail the next one.
        if self.lua.used_memory() > MEMORY_BYTES_MAX / 2 {
            _ = self.lua.gc_collect();
        }
        self.running.resp.store(2, Ordering::Relaxed);
        *self.ticker.lock() = Some(ticker);
    }

    /// True if the script was ended.
    fn end(&self) -> bool {
        *self.ticker.lock() = None;
        let was_ended = self.running.is_ending.swap(false, Ordering::Relaxed);
        let has_ended_work = self.running.has_ended_work.swap(false, Ordering::Relaxed);
        if was_ended {
            // The hook of before comes back. Where it cannot, scripts could not be ended: that is a full
            // memory.
            _ = self.watch();
        }
        was_ended || has_ended_work
    }

    /// Memory of the interpreter, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Compiles a chunk; an error has the compiler's text.
    pub fn compile(&self, code: &[u8], name: &str) -> Result<Function, String> {
        let chunk = self.lua.load(code).set_name(name).set_mode(ChunkMode::Text);
        chunk.into_function().map_err(|error| text_of(&error))
    }

    /// Runs a script of EVAL with these keys and arguments, to its reply.
    pub fn run_script(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        (script, name): (&Function, &str),
        (keys, arguments): (&[&[u8]], &[&[u8]]),
    ) -> Result<(), CommandError> {
        self.run_with(call, name, |interpreter| {
            let globals = &interpreter.globals;
            globals.raw_set("KEYS", interpreter.list(keys)?)?;
            globals.raw_set("ARGV", interpreter.list(arguments)?)?;
            interpreter.run.call(script)
        })
    }

    /// Runs a function of a library.
    pub fn run_function(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        (callback, name): (&Function, &str),
        (keys, arguments): (&[&[u8]], &[&[u8]]),
    ) -> Result<(), CommandError> {
        self.run_with(call, name, |interpreter| {
            let (keys, arguments) = (interpreter.list(keys)?, interpreter.list(arguments)?);
            interpreter.run_function.call((callback, keys, arguments))
        })
    }

    fn list(&self, words: &[&[u8]]) -> mlua::Result<Table> {
        let list = self.lua.create_table_with_capacity(words.len(), 0)?;
        for (index, word) in words.iter().enumerate() {
            list.raw_set(index + 1, self.lua.create_string(word)?)?;
        }
        Ok(list)
    }

    fn run_with(
        &self,
        call: &mut ScriptCall<'_, '_, '_>,
        name: &str,
        run: impl FnOnce(&Interpreter) -> mlua::Result<(bool, Value)>,
    ) -> Result<(), CommandError> {
        let scripts = call.scripts().clone();
        self.begin(Arc::new(move || scripts.tick()));
        let runner = RunOfScript { call: RefCell::new(&mut *call), running: &self.running };
        let outcome = current::within(&runner, || run(self));
        let is_resp3 = self.running.resp.load(Ordering::Relaxed) == 3;
        let was_ended = self.end();
        match outcome {
            Ok((true, value)) => {
                if is_counted_error(&value) {
                    call.error_was_counted();
                }
                to_reply(&value, is_resp3, call.reply())
            }
            Ok((false, failure)) => {
                let failure = Failure::of(&failure, was_ended);
                if failure.is_counted {
                    call.error_was_counted();
                }
                Err(failure.error(name))
            }
            Err(error) => Err(Failure::of_error(&error, was_ended).error(name)),
        }
    }

    /// Runs the code of a library, and returns what it registers, in order. Errors are Redis's texts.
    pub fn load(&self, code: &[u8], ticker: Ticker) -> Result<Vec<Registered>, CommandError> {
        let chunk = self
            .compile(code, "@user_function")
            .map_err(|text| CommandError::new(format!("ERR Error compiling function: {text}")))?;
        let load_mode = self.load_mode.as_ref().expect("libraries are loaded where functions run");
        self.begin(ticker);
        let loaded = load_mode.call::<()>(true).and_then(|()| self.run.call::<(bool, Value)>(chunk));
        let was_ended = self.end();
        let registered = load_mode.call::<()>(false).and_then(|()| self.take_registered());
        let failure = match loaded {
            Ok((true, _)) => return registered.map_err(|error| registering(&text_of(&error))),
            _ if was_ended => return Err(registering("ERR FUNCTION LOAD timeout")),
            Ok((false, failure)) => Failure::of(&failure, false),
            Err(error) => Failure::of_error(&error, false),
        };
        Err(registering(&failure.text))
    }

    fn take_registered(&self) -> mlua::Result<Vec<Registered>> {
        let mut all = Vec::new();
        for entry in self.registered.sequence_values::<Table>() {
            let entry = entry?;
            let description: Option<mlua::LuaString> = entry.raw_get("description")?;
            let flags: Option<Vec<mlua::LuaString>> = entry.raw_get("flags")?;
            all.push(Registered {
                name: entry.raw_get::<mlua::LuaString>("name")?.to_string_lossy(),
                description: description.map(|text| text.as_bytes().to_vec()),
                flags: flags.unwrap_or_default().iter().map(|flag| flag.as_bytes().to_vec()).collect(),
                callback: entry.raw_get("callback")?,
            });
        }
        self.registered.clear()?;
        Ok(all)
    }
}

/// A run of a script, to which its commands go.
struct RunOfScript<'r, 'c, 'o, 't> {
    call: RefCell<&'r mut ScriptCall<'c, 'o, 't>>,
    running: &'r Running,
}

impl CommandRunner for RunOfScript<'_, '_, '_, '_> {
    fn call(&self, lua: &Lua, words: &MultiValue, raises: bool) -> mlua::Result<Value> {
        let is_resp3 = self.running.resp.load(Ordering::Relaxed) == 3;
        api::call(lua, &mut self.call.borrow_mut(), words, (is_resp3, raises))
    }

    fn may_call(&self, words: &MultiValue) -> mlua::Result<bool> {
        api::may_call(&mut self.call.borrow_mut(), words)
    }
}

fn registering(text: &str) -> CommandError {
    CommandError::new(format!("ERR Error registering functions: {text}"))
}

/// A function that a library registers.
pub struct Registered {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: Vec<Vec<u8>>,
    pub callback: Function,
}

/// An error of the interpreter as Lua words it.
fn text_of(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) | mlua::Error::MemoryError(message) => message.clone(),
        mlua::Error::CallbackError { cause, .. } => text_of(cause),
        error => error.to_string(),
    }
}

//! EVAL and EVALSHA, and their forms that write nothing.

use super::split;
use crate::module::ScriptModule;
use engramdb_engine::command::{CommandError, Outcome};
use engramdb_server::ScriptCall;

type Call<'a, 'c, 'o, 't> = &'a mut ScriptCall<'c, 'o, 't>;

pub fn eval(call: Call<'_, '_, '_, '_>) -> Outcome {
    run(call, false, false)
}

pub fn eval_ro(call: Call<'_, '_, '_, '_>) -> Outcome {
    run(call, false, true)
}

pub fn evalsha(call: Call<'_, '_, '_, '_>) -> Outcome {
    run(call, true, false)
}

pub fn evalsha_ro(call: Call<'_, '_, '_, '_>) -> Outcome {
    run(call, true, true)
}

fn run(call: Call<'_, '_, '_, '_>, is_named: bool, is_read_only: bool) -> Outcome {
    let args = call.args();
    let (keys, arguments) = split(args, CommandError::NOT_INTEGER)?;
    let engine = call.look(|view| view.module::<ScriptModule>().engine.clone());
    let words = (keys, arguments, is_read_only);
    match is_named {
        true => engine.evalsha(call, args.word(1), words),
        false => engine.eval(call, args.word(1), words),
    }
}

-- The part of the sandbox and of `redis.*` that is written in Lua. It runs once in each interpreter, with the
-- table of all globals of Lua, the functions in Rust, and an empty table that becomes the scripts' globals.
--
-- Lua 5.1 has no tables that only can be read. So what scripts see of a protected table is an empty table (its
-- *front*), whose metatable leads reads to the real one and refuses writes. Functions that ignore
-- metatables get replacements here that know fronts.
--
-- Functions of this file are called by scripts, which can reach their environment: it is the scripts' own,
-- and everything else is a local.
local lua, native, globals = ...

local error, type, select, tostring = lua.error, lua.type, lua.select, lua.tostring
local next, pairs, rawget, rawset, pcall, xpcall = lua.next, lua.pairs, lua.rawget, lua.rawset, lua.pcall, lua.xpcall
local setmetatable, getmetatable = lua.setmetatable, lua.getmetatable
local load, loadstring = lua.load, lua.loadstring
local byte, insert = lua.string.byte, lua.table.insert

local READ_ONLY = "Attempt to modify a readonly table"

-- The real table of each front, and what `getmetatable` shows of it.
local reals, shown = {}, {}

local function refuse()
  error(READ_ONLY, 2)
end

local function front_of(real, front)
  front = front or {}
  reals[front] = real
  setmetatable(front, { __index = real, __newindex = refuse })
  return front
end

-- Functions that ignore metatables.

local function protected_next(front, key)
  return next(reals[front], key)
end

local base = {}

function base.next(table, key)
  return next(reals[table] or table, key)
end

function base.pairs(table)
  if reals[table] then
    return protected_next, table, nil
  end
  return pairs(table)
end

function base.rawget(table, key)
  return rawget(reals[table] or table, key)
end

function base.rawset(table, key, value)
  if reals[table] then
    error(READ_ONLY, 0)
  end
  return rawset(table, key, value)
end

function base.setmetatable(table, metatable)
  if reals[table] then
    error(READ_ONLY, 0)
  end
  return setmetatable(table, metatable)
end

function base.getmetatable(value)
  if reals[value] then
    return shown[value]
  end
  return getmetatable(value)
end

-- Compiled code is not checked when it is loaded: only source is.

local function is_compiled(chunk)
  return type(chunk) == "string" and byte(chunk) == 27
end

function base.loadstring(chunk, name)
  if is_compiled(chunk) then
    return nil, "compiled code cannot be loaded"
  end
  return loadstring(chunk, name)
end

function base.load(reader, name)
  if type(reader) ~= "function" then
    error("bad argument #1 to 'load' (function expected, got " .. type(reader) .. ")", 2)
  end
  local is_first = true
  local refused = false
  local function checked()
    local piece = reader()
    if is_first and piece ~= nil and piece ~= "" then
      is_first = false
      if is_compiled(piece) then
        refused = true
        return nil
      end
    end
    return piece
  end
  local chunk, message = load(checked, name)
  if refused then
    return nil, "compiled code cannot be loaded"
  end
  return chunk, message
end

-- Errors of functions in Rust become what they are about where they are caught. An error of a command is a
-- table; scripts that catch one get its text.

local function value_of(failure)
  if type(failure) == "userdata" then
    return native.failure(failure)
  end
  return failure
end

local function caught(is_done, failure, ...)
  if is_done then
    return true, failure, ...
  end
  failure = value_of(failure)
  if type(failure) == "table" and (type(failure.err) == "string" or type(failure.err) == "number") then
    return false, failure.err
  end
  return false, failure
end

function base.pcall(...)
  return caught(pcall(...))
end

-- Lua calls a handler where the error was raised. That is inside of the hook if the script is being ended, and
-- there no hook would end the handler. So handlers are called after the call has ended.

local function handled_by(handler, is_done, failure, ...)
  if is_done then
    return true, failure, ...
  end
  local is_handled, value = pcall(handler, value_of(failure))
  if is_handled then
    return false, value
  end
  return false, "error in error handling"
end

function base.xpcall(...)
  if select("#", ...) < 2 then
    error("bad argument #2 to 'xpcall' (value expected)", 2)
  end
  local call, handler = ...
  return handled_by(handler, pcall(call))
end

local function resumed(is_done, failure, ...)
  if is_done then
    return true, failure, ...
  end
  return false, value_of(failure)
end

function base.collectgarbage(option, argument)
  if option == nil or option == "collect" or option == "step" or option == "count" then
    return lua.collectgarbage(option, argument)
  end
  return 0
end

for _, name in pairs({
  "assert", "error", "gcinfo", "ipairs", "rawequal", "select", "tonumber", "tostring", "type", "unpack",
  "_VERSION",
}) do
  base[name] = lua[name]
end

-- The standard libraries.

local function copy(library)
  local made = {}
  for name, value in pairs(library) do
    made[name] = value
  end
  return made
end

local string, table, math = copy(lua.string), copy(lua.table), copy(lua.math)

function table.insert(list, ...)
  if reals[list] then
    error(READ_ONLY, 0)
  end
  return insert(list, ...)
end

-- Lua's own matcher overflows the stack, and no hook ends it.
string.find, string.match, string.gsub = native.find, native.match, native.gsub

local gmatch_next = native.gmatch

function string.gmatch(...)
  local text, pattern = ...
  if select("#", ...) < 2 then
    gmatch_next(...)
  end
  -- Refuses what is no text: there is nothing behind the end.
  gmatch_next(text, pattern, 2 ^ 53)
  local position = 0
  local function step(next, ...)
    position = next or position
    return ...
  end
  return function()
    return step(gmatch_next(text, pattern, position))
  end
end

math.random, math.randomseed = native.random, native.randomseed

base.string, base.table, base.math = string, table, math
base.coroutine = copy(lua.coroutine)

local resume = lua.coroutine.resume

function base.coroutine.resume(...)
  return resumed(resume(...))
end

base.os = { clock = lua.os.clock }
base.bit, base.struct, base.cmsgpack, base.cjson = native.bit, native.struct, native.cmsgpack, native.cjson

-- redis.*

local redis = { call = native.call, pcall = native.pcall, acl_check_cmd = native.acl_check_cmd }

local function failed(text)
  return { err = "ERR " .. text }
end

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return failed("wrong number or type of arguments")
  end
  return { err = native.error_text(text) }
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return failed("wrong number or type of arguments")
  end
  return { ok = text }
end

redis.sha1hex, redis.log = native.sha1hex, native.log
redis.setresp, redis.set_repl = native.setresp, native.set_repl

local LOG_LEVELS = { LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3 }

redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL = 0, 1, 2, 2, 3

local loading = {}

for _, api in pairs({ redis, loading }) do
  api.log = redis.log
  api.REDIS_VERSION, api.REDIS_VERSION_NUM = native.REDIS_VERSION, native.REDIS_VERSION_NUM
  for name, level in pairs(LOG_LEVELS) do
    api[name] = level
  end
end

-- Which functions a library registers, in order. The loader reads and clears it.
local registered = {}

local REGISTER_ERRORS = {
  "wrong number of arguments to redis.register_function",
  "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
}

local function text_of(value)
  if type(value) == "number" then
    return tostring(value)
  end
  return type(value) == "string" and value or nil
end

local function read_flags(flags)
  local names = {}
  local index = 1
  while flags[index] ~= nil do
    local name = text_of(flags[index])
    if not name or not native.is_flag(name) then
      return nil
    end
    names[index] = name
    index = index + 1
  end
  return names
end

local function read_named(arguments)
  local made = {}
  for key, value in pairs(arguments) do
    local name = text_of(key)
    if not name then
      return nil, "named argument key given to redis.register_function is not a string"
    end
    name = string.lower(name)
    if name == "function_name" then
      made.name = text_of(value)
      if not made.name then
        return nil, "function_name argument given to redis.register_function must be a string"
      end
    elseif name == "description" then
      made.description = text_of(value)
      if not made.description then
        return nil, "description argument given to redis.register_function must be a string"
      end
    elseif name == "callback" then
      if type(value) ~= "function" then
        return nil, "callback argument given to redis.register_function must be a function"
      end
      made.callback = value
    elseif name == "flags" then
      if type(value) ~= "table" then
        return nil, "flags argument to redis.register_function must be a table representing function flags"
      end
      made.flags = read_flags(value)
      if not made.flags then
        return nil, "unknown flag given"
      end
    else
      return nil, "unknown argument given to redis.register_function"
    end
  end
  if not made.name then
    return nil, "redis.register_function must get a function name argument"
  end
  if not made.callback then
    return nil, "redis.register_function must get a callback argument"
  end
  return made
end

local function read_registration(count, first, second)
  if count < 1 or count > 2 then
    return nil, REGISTER_ERRORS[1]
  end
  if count == 1 then
    if type(first) ~= "table" then
      return nil, REGISTER_ERRORS[2]
    end
    return read_named(first)
  end
  local name = text_of(first)
  if not name then
    return nil, "first argument to redis.register_function must be a string"
  end
  if type(second) ~= "function" then
    return nil, "second argument to redis.register_function must be a function"
  end
  return { name = name, callback = second }
end

function loading.register_function(...)
  if not registered.is_open then
    error(failed("redis.register_function can only be called on FUNCTION LOAD command"), 0)
  end
  local made, message = read_registration(select("#", ...), ...)
  if made then
    message = native.name_error(made.name)
    if not message and registered[made.name] then
      message = "Function already exists in the library"
    end
  end
  if message then
    error(failed(message), 0)
  end
  registered[made.name] = true
  registered[#registered + 1] = made
end

-- The globals.

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

-- As front_of; reading what is not there is an error too.
local function strict(real, front)
  front = front_of(setmetatable(real, { __index = missing }), front)
  shown[front] = front_of({ __index = missing })
  return front
end

local real_globals = {}
for name, value in pairs(base) do
  real_globals[name] = type(value) == "table" and front_of(value) or value
end

local string_metatable = getmetatable("")
string_metatable.__index = real_globals.string
string_metatable.__metatable = front_of({ __index = real_globals.string })

real_globals._G = globals

local kind = {}

-- The globals of EVAL's scripts.
function kind.eval()
  function redis.breakpoint()
    return false
  end
  function redis.debug() end
  function redis.replicate_commands()
    return true
  end
  real_globals.redis = front_of(redis)
  real_globals.server = real_globals.redis
  strict(real_globals, globals)
end

-- The globals of functions. While a library is loaded it sees nothing but another `redis`.
function kind.functions()
  real_globals.redis = front_of(redis)
  real_globals.server = real_globals.redis
  strict(real_globals, globals)
  local api = strict(loading, {})
  local loading_globals = setmetatable({ redis = api, server = api }, { __index = missing })
  local metatable = getmetatable(globals)
  return function(is_loading)
    reals[globals] = is_loading and loading_globals or real_globals
    metatable.__index = reals[globals]
    registered.is_open = is_loading
  end
end

-- What the interpreter calls.

local handle = native.handle

local interface = { kind = kind, registered = registered, globals = real_globals }

function interface.run(script)
  return xpcall(script, handle)
end

function interface.run_function(callback, keys, arguments)
  return xpcall(function()
    return callback(keys, arguments)
  end, handle)
end

return interface

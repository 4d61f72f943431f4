-- Makes the interpreter's globals into the sandbox that scripts see. Runs once per interpreter, before
-- any script, with `host`: Rust functions. Answers what Rust calls later.
local host = ...
local setmetatable, getmetatable, next, type = setmetatable, getmetatable, next, type
local pcall, xpcall, loadstring, load = pcall, xpcall, loadstring, load
local resume = coroutine.resume
local getfenv, setfenv, collectgarbage = getfenv, setfenv, collectgarbage
local byte = string.byte
local thrown, thrown_to_pcall = host.thrown, host.thrown_to_pcall

-- A read-only table is an empty table in front of the real one: `reals` has the real one, `metas` what
-- `getmetatable` shows of it.
local reals, metas = host.reals, host.metas

local function protect(real, meta)
  local front = setmetatable({}, { __index = real, __newindex = host.refuse })
  reals[front] = real
  metas[front] = meta or false
  return front
end

local function caught(ok, ...)
  if ok then return true, ... end
  return false, thrown((...))
end

local function caught_by_pcall(ok, ...)
  if ok then return true, ... end
  return false, thrown_to_pcall((...))
end

-- Text only: a precompiled chunk could do anything. Behind a blank it is a syntax error.
local function text(source)
  if type(source) == "string" and byte(source) == 27 then return " " .. source end
  return source
end

local real = {}
for name, value in next, host.globals do real[name] = value end

function real.pcall(...) return caught_by_pcall(pcall(...)) end
function real.xpcall(f, handler)
  return caught(xpcall(f, function(value) return handler(thrown(value)) end))
end
function real.load(reader, name)
  local first = true
  return load(function()
    local piece = reader()
    if first then
      first = false
      return text(piece)
    end
    return piece
  end, name)
end
real.getfenv, real.setfenv = nil, nil
function real.collectgarbage(what, ...)
  if what == "stop" then return 0 end
  return collectgarbage(what, ...)
end

local coroutines = {}
for name, value in next, real.coroutine do coroutines[name] = value end
function coroutines.resume(...) return caught(resume(...)) end
real.coroutine = protect(coroutines)

for _, name in next, { "string", "table", "math", "cjson", "cmsgpack", "bit", "struct" } do
  if real[name] then real[name] = protect(real[name]) end
end
real.redis = protect(host.redis)
host.strings.front = protect(host.strings.real)

local shown_meta = protect({ __index = host.undefined })
setmetatable(real, { __index = host.undefined })
local globals = protect(real, shown_meta)
local globals_meta = getmetatable(globals)
real._G = globals
setfenv(0, globals)

-- What functions see while their library is loaded.
local loading
if host.loading then
  setmetatable(host.loading, { __index = host.undefined })
  loading = { redis = protect(host.loading, shown_meta) }
  setmetatable(loading, { __index = host.undefined })
end

local scripts = {}

-- Leaves nothing behind that one script could do to the next.
local function tidy()
  for front in next, reals do
    local key = next(front)
    while key ~= nil do
      front[key] = nil
      key = next(front)
    end
  end
  if getfenv(0) ~= globals then setfenv(0, globals) end
end

local functions = {}
local calls = {}

-- Compiles a script; the error or nil.
function calls.define(name, source, chunk)
  local compiled, fault = loadstring(text(source), chunk)
  if not compiled then return fault end
  scripts[name] = setfenv(compiled, globals)
end

-- Runs a script: true and what it returns, or false and what went wrong outside of its own code.
function calls.run(name, keys, args)
  real.KEYS, real.ARGV = keys, args
  local ok, result = xpcall(scripts[name], host.failed)
  tidy()
  return ok, result
end

-- Runs the main chunk of a library, which registers its functions.
function calls.load(name)
  globals_meta.__index = loading
  local ok, result = pcall(scripts[name])
  globals_meta.__index = real
  scripts[name] = nil
  tidy()
  if ok then return nil end
  return thrown(result)
end

function calls.keep(name, f) functions[name] = f end

function calls.call(name, keys, args)
  local f = functions[name]
  local ok, result = xpcall(function()
    local result = f(keys, args)
    return result
  end, host.failed)
  tidy()
  return ok, result
end

return calls

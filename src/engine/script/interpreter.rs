//! One Lua interpreter, made into the sandbox that Redis 7.0 gives to scripts or to functions.

use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::libraries;
use super::raise::{self, Raise};
use super::running::Kind;
use super::session::{Failure, Shared};
use super::{api, globals, memory};

/// Instructions between two looks at whether the script shall be killed.
const HOOK_INSTRUCTIONS: u32 = 100_000;

pub struct Interpreter {
    pub lua: Lua,
    define: Function,
    run: Function,
    load: Function,
    keep: Function,
    call: Function,
}

impl Interpreter {
    /// `max_bytes` bounds what scripts hold in memory together.
    pub fn new(kind: Kind, shared: &Shared, max_bytes: usize) -> mlua::Result<Interpreter> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        let globals = lua.globals();
        for denied in ["dofile", "loadfile", "print", "require", "module", "package"] {
            globals.raw_set(denied, Value::Nil)?;
        }
        // The prelude makes the scripts' globals out of these, and uses the interpreter's own itself.
        let scripts = lua.create_table()?;
        for pair in globals.pairs::<Value, Value>() {
            let (name, value) = pair?;
            scripts.raw_set(name, value)?;
        }
        let host = lua.create_table()?;
        host.raw_set("globals", &scripts)?;
        let strings = lua.create_table()?;
        strings.raw_set("real", lua.type_metatable::<mlua::LuaString>())?;
        host.raw_set("strings", &strings)?;
        host.raw_set("reals", lua.create_table()?)?;
        host.raw_set("metas", lua.create_table()?)?;
        globals::replace(&lua, &scripts, &host, shared)?;
        libraries::open(&lua, &scripts)?;
        host.raw_set("redis", api::table(&lua, kind, shared)?)?;
        if kind == Kind::Function {
            host.raw_set("loading", api::loading(&lua, shared)?)?;
        }
        api::catching(&lua, &host, shared)?;
        globals::guard(&lua, &host)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let calls: Table = prelude.into_function()?.call(&host)?;
        let session = shared.clone();
        lua.set_global_hook(
            HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS),
            move |_, frame| {
                if session.loads_too_long() {
                    return Err(Raise::End.into());
                }
                if !session.running.is_killed() {
                    session.outside(|outside| outside.meanwhile(&session.running));
                }
                if !session.running.is_killed() {
                    return Ok(VmState::Continue);
                }
                let source = frame.source().source.map(|source| source.into_owned());
                let line = frame.current_line().map_or(-1, |line| line as i64);
                let text = b"ERR Script killed by user with SCRIPT KILL...".to_vec();
                let place = source.map(|source| (source, line));
                session.with(|run| run.failure = Some(Failure { text, place }));
                Err(Raise::End.into())
            },
        )?;
        lua.set_memory_limit(max_bytes)?;
        let function = |name: &str| calls.raw_get::<Function>(name);
        Ok(Interpreter {
            define: function("define")?,
            run: function("run")?,
            load: function("load")?,
            keep: function("keep")?,
            call: function("call")?,
            lua,
        })
    }

    /// Compiles a chunk under a name of ours; the compiler's words when it does not.
    pub fn define(&self, name: &str, source: &[u8], chunk: &str) -> mlua::Result<Option<Vec<u8>>> {
        let source = self.lua.create_string(source)?;
        let fault: Option<mlua::LuaString> = self.define.call((name, source, chunk))?;
        Ok(fault.map(|fault| fault.as_bytes().to_vec()))
    }

    /// Runs a script: what it returns, or nothing when it failed.
    pub fn run(&self, name: &str, keys: Table, args: Table) -> mlua::Result<Result<Value, Value>> {
        let (done, value): (bool, Value) = self.run.call((self.name(name)?, keys, args))?;
        Ok(if done { Ok(value) } else { Err(value) })
    }

    /// Runs the main chunk of a library; what it threw.
    pub fn load(&self, name: &str) -> mlua::Result<Value> {
        self.load.call(name)
    }

    /// Keeps a function that a library has registered.
    pub fn keep(&self, name: &str, function: Option<Function>) -> mlua::Result<()> {
        self.keep.call((name, function))
    }

    /// As [`Interpreter::run`], of a registered function.
    pub fn call(&self, name: &str, keys: Table, args: Table) -> mlua::Result<Result<Value, Value>> {
        let (done, value): (bool, Value) = self.call.call((self.name(name)?, keys, args))?;
        Ok(if done { Ok(value) } else { Err(value) })
    }

    fn name(&self, name: &str) -> mlua::Result<mlua::LuaString> {
        memory::make(&self.lua, (1, name.len()), || self.lua.create_string(name))
    }

    pub fn strings(&self, items: &[bytes::Bytes]) -> mlua::Result<Table> {
        memory::make(&self.lua, memory::size_of(items), || {
            let table = self.lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, self.lua.create_string(item)?)?;
            }
            Ok(table)
        })
    }
}

/// The error that a call from the interpreter's own C code has thrown, with the place and the name
/// that it would have had without us in between.
pub fn forwarded(lua: &Lua, name: &str, error: &mlua::Error) -> mlua::Error {
    let text = raise::message(error);
    let text = text.split("\nstack traceback:").next().unwrap_or_default();
    // What `luaL_error` has thrown, unlike the interpreter's own errors, tells the place.
    match text.starts_with("bad argument") || text.contains("protected metatable") {
        true => raise::error(lua, text.replace("to '?'", &format!("to '{name}'"))),
        false => raise::bare(text),
    }
}

/// Calls one of the interpreter's own functions.
pub fn forward(lua: &Lua, name: &str, to: &Function, args: MultiValue) -> mlua::Result<MultiValue> {
    to.call(args).map_err(|error| forwarded(lua, name, &error))
}

//! The Lua scripts, each a file beside this one, and how they are called.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Script};
use std::sync::LazyLock;

use crate::Error;

/// A script's text and the hash that Redis knows it by.
pub(crate) struct LuaScript {
    text: &'static str,
    script: Script,
}

impl LuaScript {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }

    /// What the server knows it by.
    pub(crate) fn hash(&self) -> &str {
        self.script.get_hash()
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal $(by $each:ident)?;)*) => {
        $(
            pub(crate) static $name: LazyLock<LuaScript> =
                LazyLock::new(|| LuaScript::new(text!($file $($each)?)));
        )*

        fn all() -> Vec<&'static LuaScript> {
            vec![$(&*$name,)*]
        }

        /// File name and text of every script, for the tests that hold them to their form.
        pub const SOURCES: &[(&str, &str)] = &[$(($file, include_str!($file)),)*];
    };
}

/// A script as it is given to the server. `by each`: for many jobs in one call.
macro_rules! text {
    ($file:literal) => {
        include_str!($file)
    };
    ($file:literal each) => {
        concat!(
            include_str!("lua/change.lua"),
            "\nlocal function change()\n",
            include_str!($file),
            "\nend\n",
            include_str!("lua/each.lua")
        )
    };
}

scripts! {
    ACCEPT = "lua/accept.lua" by each;
    TRANSITION = "lua/transition.lua" by each;
    REPORT = "lua/report.lua" by each;
    CLAIM = "lua/claim.lua" by each;
    BEAT = "lua/beat.lua" by each;
    DUE = "lua/due.lua";
    REDISPATCH = "lua/redispatch.lua";
    DISPATCHED = "lua/dispatched.lua";
    UNTIMED = "lua/untimed.lua";
    REFUSE = "lua/refuse.lua";
    VOID = "lua/void.lua";
    RETIRE = "lua/retire.lua";
    WAIT = "lua/wait.lua";
    WAITS_OVER = "lua/waits_over.lua" by each;
    SUBSCRIBE = "lua/subscribe.lua" by each;
    MINT = "lua/mint.lua";
    LIST = "lua/list.lua";
    RETENTION = "lua/retention.lua";
    LINK = "lua/link.lua";
    POST = "lua/post.lua";
    DELIVERED = "lua/delivered.lua";
    PUT_OFF = "lua/put_off.lua";
    PUT_OFF_DUE = "lua/put_off_due.lua";
}

/// Run by its text, before the others are loaded.
pub(crate) const OPEN: &str = include_str!("lua/open.lua");

/// Gives every script to the server. A restart, a fail-over or `SCRIPT FLUSH` makes it forget them.
pub(crate) async fn load(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    let mut pipeline = Pipeline::new();
    for script in all() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.text).ignore();
    }
    let () = pipeline.query_async(connection).await?;
    Ok(())
}

/// One call of one script.
pub(crate) struct Call(Cmd);

impl Call {
    pub(crate) fn new(script: &LuaScript, keys: &[&str]) -> Self {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.hash()).arg(keys.len());
        for key in keys {
            cmd.arg(*key);
        }
        Self(cmd)
    }

    pub(crate) fn arg<T: redis::ToRedisArgs>(mut self, value: T) -> Self {
        self.0.arg(value);
        self
    }

    pub(crate) fn add_to(self, pipeline: &mut Pipeline) {
        pipeline.add_command(self.0);
    }
}

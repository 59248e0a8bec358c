//! Exit codes, for scripts. `docs/cli.md` lists them.

use std::process::ExitCode;

/// How a command ended when nothing went wrong with the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done, or everything is well: 0.
    Success,
    /// `cluster health`: it works, but less could fail than should be able to. `verify`: not all is well. 1.
    Degraded,
    /// `cluster health`: part of the cluster does not serve: 2.
    Unavailable,
}

impl Exit {
    /// Of a command that failed; the reason was printed.
    pub const FAILURE: u8 = 1;
    /// Of a command line that is not understood: `EX_USAGE` of sysexits.h, apart from what `cluster health` says.
    pub const USAGE: u8 = 64;
    /// Of a node whose config is wrong: `EX_CONFIG` of sysexits.h. Starting it again does not help.
    pub const CONFIG: u8 = 78;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Degraded => 1,
            Exit::Unavailable => 2,
        })
    }
}

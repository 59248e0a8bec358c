//! Inputs to begin with: valid ones, so that the search starts behind the first checks.

use std::path::Path;
use std::{env, fs};

/// Names the directory that seeds are written to when a target starts; unset, none are.
pub const SEEDS_VARIABLE: &str = "DUOLOG_FUZZ_SEEDS";

/// An input and a name that says what it is.
pub type Seed = (String, Vec<u8>);

/// Writes the seeds where [`SEEDS_VARIABLE`] says.
///
/// # Panics
/// When the directory cannot be written.
pub fn write(seeds: Vec<Seed>) {
    let Some(dir) = env::var_os(SEEDS_VARIABLE) else { return };
    let dir = Path::new(&dir);
    fs::create_dir_all(dir).expect("the directory of seeds can be created");
    for (name, input) in seeds {
        fs::write(dir.join(&name), input).unwrap_or_else(|error| panic!("seed {name} cannot be written: {error}"));
    }
}

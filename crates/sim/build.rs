//! The symbols of `interpose.rs` must be found by whoever looks for them while the program runs.

fn main() {
    println!("cargo:rustc-link-arg-bins=-rdynamic");
    println!("cargo:rerun-if-changed=build.rs");
}

//! The Lightning daemon: a library with a thin binary.

mod edge;
mod wallet;

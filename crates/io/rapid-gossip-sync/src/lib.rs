#![doc = include_str!("../README.md")]

mod decode;
mod encode;
mod error;
mod format;

pub use decode::decode;
pub use encode::{Since, Version, encode};
pub use error::{DecodeError, Field, Problem};

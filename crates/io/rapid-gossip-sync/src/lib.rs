#![doc = include_str!("../README.md")]

mod decode;
mod encode;
mod error;
mod follow;
mod format;
mod publish;
mod source;

pub use decode::decode;
pub use encode::{Since, Version, encode};
pub use error::{DecodeError, Field, Problem};
pub use follow::{FollowConfig, SyncError, Target, fetch, follow};
pub use publish::publish;
pub use source::{FetchError, FetchLimits, NoSource, Source};

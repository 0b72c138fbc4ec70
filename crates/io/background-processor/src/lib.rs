//! The driver of a node.
mod lanes;
mod release;
pub use lanes::{SigningJob, SigningResult};
pub use release::{Released, Releaser, RunAhead};

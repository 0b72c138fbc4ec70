//! The facade: one dependency that re-exports the Fulmen crates.

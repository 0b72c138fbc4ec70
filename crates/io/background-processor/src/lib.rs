//! The driver: group commit, release of actions, ports.

//! Stores for the record batches of a node: SQLite and plain files.

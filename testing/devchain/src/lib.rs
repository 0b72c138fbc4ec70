//! An embedded regtest chain with script validation, mempool policy and an RPC server.

//! Chain data from Bitcoin Core over RPC and REST.

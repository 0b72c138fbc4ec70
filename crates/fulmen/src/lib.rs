//! Fulmen: a Lightning Network implementation made of small crates, in one dependency.
//!
//! Each module is one crate, and each can be used alone. From bytes to a node:
//!
//! | module | what it is |
//! |---|---|
//! | [`types`], [`wire`], [`noise`], [`onion`], [`invoice`], [`offers`] | codecs, without state |
//! | [`tx`], [`signer`], [`channel`], [`enforce`], [`gossip`], [`router`], [`payments`] | deterministic state machines |
//! | [`node`] | all of them as one: an input in, effects out |
//! | [`connect`] | when to connect and with whom: a policy without IO |
//! | [`persister`], [`block_sync`], [`net_tokio`], [`dns`], [`wallet`], [`background_processor`] | adapters to disk, chain, network, coins and time |
//!
//! [`Builder`] puts a running node together: SQLite, Bitcoin Core, TCP and an on-chain wallet unless you
//! say otherwise, and each of them can be replaced.
//!
//! ```no_run
//! use bitcoin::Network;
//! use fulmen::{Builder, node::Command};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Builder::new(Network::Regtest)
//!     .data_dir("/srv/node")
//!     .seed([7; 32]) // Yours: random, kept secret, backed up.
//!     .listen("127.0.0.1:9735".parse()?)
//!     .start()
//!     .await?;
//! println!("{} at {:?}", node.node_id(), node.listening());
//! let invoice = node
//!     .command(Command::CreateInvoice {
//!         amount: Some(fulmen::types::Msat::from_sat(2_500)),
//!         description: "two coffees".into(),
//!         expiry_secs: 3_600,
//!     })
//!     .await?;
//! println!("{invoice:?}");
//! node.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! (`crates/fulmen/examples/two_nodes.rs` is a whole program: two nodes on an embedded chain, a channel, a
//! payment.)
//!
//! The smallest useful piece needs nothing but its own crate:
//!
//! ```
//! use fulmen::invoice::Invoice;
//!
//! // The first example of BOLT 11.
//! let text = "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql";
//! let invoice: Invoice = text.parse()?;
//! assert_eq!(invoice.details().amount, None);
//! # Ok::<(), fulmen::invoice::ParseError>(())
//! ```
//!
//! And a whole node, without IO: it is told the time, the chain and what peers say, and answers with what
//! must be durable and what may be done then.
//!
//! ```
//! use bitcoin::{Network, constants::genesis_block};
//! use fulmen::{
//!     node::{BlockId, Boot, Input, Node, NodeConfig},
//!     signer::{KeysManager, Signer},
//!     types::{BlockHeight, Timestamp},
//! };
//!
//! let signer = KeysManager::new([7; 32], Network::Regtest);
//! let tip = BlockId {
//!     height: BlockHeight::new(0),
//!     hash: genesis_block(Network::Regtest).block_hash(),
//! };
//! let (mut node, effects) = Node::create(
//!     NodeConfig::new(Network::Regtest),
//!     signer.node_id(),
//!     &Boot { entropy: [1; 32] },
//!     Timestamp::from_secs(1_700_000_000),
//!     tip,
//! );
//! assert!(!effects.batch.is_empty(), "a new node has something to remember");
//! let effects = node.handle(Timestamp::from_secs(1_700_000_001), Input::BestTip(tip));
//! assert!(effects.next_wake.is_some());
//! ```

mod birth;
mod builder;
mod connections;
mod error;
mod fees;
mod graph_file;
mod liquidity_file;
mod private_file;
mod running;
mod snapshots;

pub use birth::network_name;
pub use builder::{Builder, ChainPorts, EDGE_STORE, NODE_STORE, default_cookie, rpc_port};
pub use connections::default_limits;
pub use error::BuildError;
pub use graph_file::load as load_graph;
pub use private_file::write_private;
pub use running::RunningNode;

pub use fulmen_background_processor as background_processor;
pub use fulmen_block_sync as block_sync;
pub use fulmen_channel as channel;
pub use fulmen_connect as connect;
pub use fulmen_dns as dns;
pub use fulmen_enforce as enforce;
pub use fulmen_gossip as gossip;
pub use fulmen_invoice as invoice;
pub use fulmen_net_tokio as net_tokio;
pub use fulmen_node as node;
pub use fulmen_noise as noise;
pub use fulmen_offers as offers;
pub use fulmen_onion as onion;
pub use fulmen_payments as payments;
pub use fulmen_persister as persister;
pub use fulmen_rapid_gossip_sync as rapid_gossip_sync;
pub use fulmen_router as router;
pub use fulmen_signer as signer;
pub use fulmen_tx as tx;
pub use fulmen_types as types;
pub use fulmen_wallet as wallet;
pub use fulmen_wire as wire;

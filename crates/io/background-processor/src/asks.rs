//! What the node asks of the world, and how the answers come back.

use std::sync::{Arc, mpsc as std_mpsc};

use bitcoin::Transaction;
use fulmen_gossip::NetworkGraph;
use fulmen_node::{Answer, Ask, BroadcastAnswer, Input, RequestId, WalletBalance};
use fulmen_signer::{BroadcastTx, Signer};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    committer::StoreHandle,
    heart::Heart,
    lanes::{SigningJob, SigningResult},
    ports::{Broadcaster, ChainSource, Connector, Router, Wallet},
};

/// How many outputs are looked up at once: gossip asks for thousands.
const LOOKUPS: usize = 8;

/// The ports, and the way back.
pub(crate) struct Outside {
    signer: Arc<dyn Signer>,
    wallet: WalletThread,
    pub(crate) chain: Arc<dyn ChainSource>,
    broadcaster: Arc<dyn Broadcaster>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) router: Arc<dyn Router>,
    store: StoreHandle,
    inputs: mpsc::UnboundedSender<Input>,
    signed: mpsc::UnboundedSender<SigningResult>,
    lookups: Arc<Semaphore>,
}

impl Outside {
    #[expect(clippy::too_many_arguments, reason = "one per port")]
    pub(crate) fn new(
        signer: Arc<dyn Signer>,
        wallet: Arc<dyn Wallet>,
        chain: Arc<dyn ChainSource>,
        broadcaster: Arc<dyn Broadcaster>,
        connector: Arc<dyn Connector>,
        router: Arc<dyn Router>,
        store: StoreHandle,
        inputs: mpsc::UnboundedSender<Input>,
        signed: mpsc::UnboundedSender<SigningResult>,
    ) -> Self {
        Self {
            wallet: WalletThread::start(wallet, inputs.clone()),
            signer,
            chain,
            broadcaster,
            connector,
            router,
            store,
            inputs,
            signed,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    /// Tells the ports where a new heart stands: which coins it holds, and from where it follows the
    /// chain.
    pub(crate) fn begin(&self, heart: &impl Heart) -> mpsc::Receiver<Input> {
        let leases = heart.coin_leases();
        self.wallet.with(move |wallet| wallet.keep_only(&leases));
        self.chain.start(heart.recent_blocks())
    }

    /// The chain has moved: the wallet may hold something else.
    pub(crate) fn chain_moved(&self) {
        self.wallet.look();
    }

    pub(crate) fn sign(&self, job: SigningJob) {
        let (signer, signed) = (Arc::clone(&self.signer), self.signed.clone());
        tokio::task::spawn_blocking(move || {
            // The driver may have gone.
            let _ = signed.send(job.run(&*signer));
        });
    }

    pub(crate) fn broadcast(&self, id: RequestId, package: Vec<BroadcastTx>) {
        let signer = Arc::clone(&self.signer);
        let broadcaster = Arc::clone(&self.broadcaster);
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let complete = tokio::task::spawn_blocking(move || {
                let complete = package.into_iter().map(|tx| tx.complete(&*signer));
                complete.collect::<Result<Vec<Transaction>, _>>()
            });
            let answer = match complete.await {
                Ok(Ok(package)) => broadcaster.broadcast(package).await,
                Ok(Err(error)) => BroadcastAnswer::Unsigned(error.to_string()),
                Err(error) => BroadcastAnswer::Unsigned(error.to_string()),
            };
            if let BroadcastAnswer::Unsigned(why) | BroadcastAnswer::Other(why) = &answer {
                tracing::warn!(why, "a transaction was not broadcast");
            }
            let _ = inputs.send(Input::Answer {
                id,
                answer: Answer::Broadcast(answer),
            });
        });
    }

    pub(crate) fn ask(&self, id: RequestId, ask: Ask, graph: impl FnOnce() -> Arc<NetworkGraph>) {
        let inputs = self.inputs.clone();
        let answer = move |answer: Answer| {
            let _ = inputs.send(Input::Answer { id, answer });
        };
        match ask {
            Ask::Sign(request) => {
                let signer = Arc::clone(&self.signer);
                tokio::task::spawn_blocking(move || {
                    answer(Answer::Signed(signer.answer(&request)));
                });
            }
            Ask::Route(query) => {
                let (router, graph) = (Arc::clone(&self.router), graph());
                tokio::task::spawn_blocking(move || {
                    answer(Answer::Route(router.route(&query, &graph)));
                });
            }
            Ask::Funding(request) => self.wallet.with(move |wallet| {
                answer(Answer::Funding(wallet.fund(&request)));
            }),
            Ask::Coins(request) => self.wallet.with(move |wallet| {
                answer(Answer::Coins(wallet.coins(&request)));
            }),
            Ask::WalletSign { transaction, spent } => self.wallet.with(move |wallet| {
                answer(Answer::WalletSigned(wallet.sign(transaction, &spent)));
            }),
            Ask::ReleaseCoins(purpose) => self.wallet.with(move |wallet| wallet.release(purpose)),
            Ask::WalletScript => self.wallet.with(move |wallet| {
                answer(Answer::WalletScript(wallet.script()));
            }),
            Ask::Record(key) => self.store.get_then(key, move |record| match record {
                Ok(record) => answer(Answer::Record(record)),
                // "There is none" would be a lie that costs money: rather say nothing until the next start.
                Err(error) => tracing::error!(%error, "a record can't be read"),
            }),
            Ask::Utxo(scid) => {
                let (chain, lookups) = (Arc::clone(&self.chain), Arc::clone(&self.lookups));
                tokio::spawn(async move {
                    // It is never closed.
                    let _permit = lookups.acquire().await;
                    answer(Answer::Utxo(chain.utxo(scid).await));
                });
            }
        }
    }
}

type WalletWork = Box<dyn FnOnce(&dyn Wallet) + Send>;

/// The wallet's thread: one call at a time, in order, and the balance after each.
struct WalletThread {
    work: std_mpsc::Sender<WalletWork>,
}

impl WalletThread {
    fn start(wallet: Arc<dyn Wallet>, inputs: mpsc::UnboundedSender<Input>) -> Self {
        let (work, receiver) = std_mpsc::channel::<WalletWork>();
        let run = move || {
            let mut last: Option<WalletBalance> = None;
            while let Ok(first) = receiver.recv() {
                first(&*wallet);
                while let Ok(more) = receiver.try_recv() {
                    more(&*wallet);
                }
                let balance = wallet.balance();
                if last != Some(balance) {
                    last = Some(balance);
                    if inputs.send(Input::WalletBalance(balance)).is_err() {
                        return;
                    }
                }
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("fulmen-wallet".to_owned())
            .spawn(run)
        {
            tracing::error!(%error, "no thread for the wallet");
        }
        Self { work }
    }

    fn with(&self, work: impl FnOnce(&dyn Wallet) + Send + 'static) {
        if self.work.send(Box::new(work)).is_err() {
            tracing::error!("the wallet's thread has ended");
        }
    }

    fn look(&self) {
        self.with(|_| {});
    }
}

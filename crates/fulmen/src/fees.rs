//! Feerates for the user's own transactions: the last ones that the node was told.

use std::sync::Arc;

use fulmen_background_processor::{FeeEstimator, Work};
use fulmen_types::Feerates;
use tokio::sync::watch;

/// Keeps the last estimate.
pub(crate) struct RememberedFees {
    inner: Arc<dyn FeeEstimator>,
    last: watch::Sender<Option<Feerates>>,
}

impl RememberedFees {
    pub(crate) fn new(inner: Arc<dyn FeeEstimator>) -> (Self, watch::Receiver<Option<Feerates>>) {
        let (last, feerates) = watch::channel(None);
        (Self { inner, last }, feerates)
    }
}

impl FeeEstimator for RememberedFees {
    fn feerates(&self) -> Work<Option<Feerates>> {
        let estimate = self.inner.feerates();
        let last = self.last.clone();
        Box::pin(async move {
            let rates = estimate.await;
            if rates.is_some() {
                last.send_replace(rates);
            }
            rates
        })
    }
}

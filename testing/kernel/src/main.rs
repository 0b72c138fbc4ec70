//! Replays the blocks of the embedded chain's corpus on Bitcoin Core's own validation engine and compares
//! verdicts. Transactions and packages are passed over: the kernel has no mempool.
//!
//! ```sh
//! cargo run -p fulmen-devchain -- corpus --json | cargo run --manifest-path testing/kernel/Cargo.toml
//! ```

use std::{
    io::Read,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use bitcoinkernel::{
    Block, BlockValidationStateRef, ChainType, ChainstateManager, ContextBuilder,
    ProcessBlockResult,
    notifications::types::{BlockValidationResult, BlockValidationStateExt, ValidationMode},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    #[serde(default)]
    hex: serde_json::Value,
    #[serde(default)]
    name: String,
    #[serde(default)]
    reject: Option<String>,
}

/// Refusals that hang on the wall clock, which the kernel does not let us set.
const BY_CLOCK: &str = "time-too-new";

struct Kernel {
    manager: ChainstateManager,
    /// What the last block was judged, by the kernel's own callback: `process_block` says "new" for
    /// invalid blocks too.
    checked: Arc<Mutex<Option<(bool, BlockValidationResult)>>>,
}

impl Kernel {
    fn start(folder: &std::path::Path) -> Result<Self, Box<dyn std::error::Error>> {
        let checked = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&checked);
        let context = ContextBuilder::new()
            .chain_type(ChainType::Regtest)
            .with_block_checked_validation(
                move |_block: Block, state: BlockValidationStateRef<'_>| {
                    let valid = state.mode() == ValidationMode::Valid;
                    if let Ok(mut checked) = sink.lock() {
                        *checked = Some((valid, state.result()));
                    }
                },
            )
            .build()?;
        let data = folder.join("data");
        let blocks = folder.join("blocks");
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let manager = ChainstateManager::new(&context, &text(&data), &text(&blocks))?;
        manager.import_blocks()?;
        Ok(Self { manager, checked })
    }

    /// Whether the block is valid, and the kernel's word for why not.
    fn judge(&self, bytes: &[u8]) -> (bool, String) {
        if let Ok(mut checked) = self.checked.lock() {
            *checked = None;
        }
        let Ok(block) = Block::new(bytes) else {
            return (false, "can't be decoded".into());
        };
        let result = self.manager.process_block(&block);
        let checked = self
            .checked
            .lock()
            .ok()
            .and_then(|mut checked| checked.take());
        match (result, checked) {
            (_, Some((valid, why))) => (valid, format!("{why:?}")),
            (ProcessBlockResult::Rejected, None) => {
                (false, "rejected before it was checked".into())
            }
            (ProcessBlockResult::NewBlock, None) => (true, "stored beside the best chain".into()),
            (ProcessBlockResult::Duplicate, None) => (true, "known".into()),
        }
    }
}

fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let cases: Vec<Case> = serde_json::from_str(&input)?;
    let folder = tempfile::tempdir()?;
    let kernel = Kernel::start(folder.path())?;
    let (mut setup, mut equal, mut passed_over, mut different) = (0u32, 0u32, 0u32, 0u32);
    for case in &cases {
        let judged = case.kind == "block";
        if !judged && case.kind != "setup-block" {
            continue;
        }
        if case.reject.as_deref() == Some(BY_CLOCK) {
            passed_over += 1;
            continue;
        }
        let bytes = hex::decode(case.hex.as_str().unwrap_or_default())?;
        let (valid, why) = kernel.judge(&bytes);
        let agrees = valid == case.reject.is_none();
        match (agrees, judged) {
            (true, true) => equal += 1,
            (true, false) => setup += 1,
            (false, _) => {
                different += 1;
                println!(
                    "different: {:?}: recorded {:?}, kernel: {why}",
                    case.name, case.reject
                );
            }
        }
    }
    println!(
        "{setup} blocks of the chain taken, {equal} verdicts equal, {different} different, {passed_over} passed over"
    );
    Ok(different == 0 && equal > 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!(
                "{error}; feed the corpus as JSON: fulmen-devchain corpus --json | fulmen-kernel"
            );
            ExitCode::FAILURE
        }
    }
}

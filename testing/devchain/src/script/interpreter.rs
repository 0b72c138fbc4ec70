//! The script machine: one script on one stack.

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};
use bitcoin::script::Script;
use bitcoin::taproot::TapLeafHash;

use super::error::ScriptError;
use super::signature::{Spend, check_pubkey_encoding, check_signature_encoding};
use super::stack::{Stack, decode_num, is_true};

const MAX_ELEMENT_SIZE: usize = 520;
const MAX_OPS: usize = 201;
const MAX_KEYS: i64 = 20;
const MAX_STACK: usize = 1000;
const MAX_SCRIPT_SIZE: usize = 10_000;
/// What one signature check in tapscript costs of the budget.
const SIGNATURE_COST: i64 = 50;

/// Which kind of script runs.
pub(super) enum Mode {
    Base,
    SegwitV0,
    Tapscript {
        leaf: TapLeafHash,
        annex: Option<Vec<u8>>,
        budget: i64,
    },
}

/// An opcode with the data that it pushes.
enum Step<'a> {
    Push(&'a [u8]),
    Op(u8),
}

/// Splits the next opcode off; none if the script ends within its data.
fn next_step<'a>(script: &'a [u8], pc: &mut usize) -> Option<(u8, Step<'a>)> {
    let opcode = *script.get(*pc)?;
    let length_bytes = match opcode {
        0x4c => 1,
        0x4d => 2,
        0x4e => 4,
        _ => 0,
    };
    *pc += 1;
    if opcode > 0x4e {
        return Some((opcode, Step::Op(opcode)));
    }
    let mut len = if length_bytes == 0 {
        usize::from(opcode)
    } else {
        0
    };
    for (shift, byte) in script.get(*pc..*pc + length_bytes)?.iter().enumerate() {
        len |= usize::from(*byte) << (8 * shift);
    }
    *pc += length_bytes;
    let data = script.get(*pc..pc.checked_add(len)?)?;
    *pc += len;
    Some((opcode, Step::Push(data)))
}

fn is_minimal_push(opcode: u8, data: &[u8]) -> bool {
    match data {
        [] => opcode == 0,
        [1..=16 | 0x81] => false,
        _ if data.len() <= 75 => usize::from(opcode) == data.len(),
        _ if data.len() <= 255 => opcode == 0x4c,
        _ if data.len() <= 65_535 => opcode == 0x4d,
        _ => true,
    }
}

/// Whether a tapscript holds an opcode that makes it succeed at once (BIP 342).
pub(super) fn has_op_success(script: &[u8]) -> Result<bool, ScriptError> {
    let mut pc = 0;
    while pc < script.len() {
        let (opcode, _) = next_step(script, &mut pc).ok_or(ScriptError::BadOpcode)?;
        if matches!(
            opcode,
            80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254
        ) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Machine<'a> {
    spend: &'a Spend<'a>,
    script: &'a [u8],
    mode: Mode,
    stack: Stack,
    alt: Stack,
    branches: Vec<bool>,
    ops: usize,
    pc: usize,
    code_separator: usize,
    step_index: u32,
    separator_step: u32,
}

/// Runs a script and returns the stack that it leaves.
pub(super) fn run(
    spend: &Spend<'_>,
    script: &[u8],
    stack: Stack,
    mode: Mode,
) -> Result<Stack, ScriptError> {
    if !matches!(mode, Mode::Tapscript { .. }) && script.len() > MAX_SCRIPT_SIZE {
        return Err(ScriptError::ScriptSize);
    }
    let mut machine = Machine {
        spend,
        script,
        mode,
        stack,
        alt: Stack::default(),
        branches: Vec::new(),
        ops: 0,
        pc: 0,
        code_separator: 0,
        step_index: 0,
        separator_step: u32::MAX,
    };
    while machine.pc < script.len() {
        machine.step()?;
        machine.step_index += 1;
    }
    if !machine.branches.is_empty() {
        return Err(ScriptError::UnbalancedConditional);
    }
    Ok(machine.stack)
}

impl Machine<'_> {
    fn is_tapscript(&self) -> bool {
        matches!(self.mode, Mode::Tapscript { .. })
    }

    fn step(&mut self) -> Result<(), ScriptError> {
        let script = self.script;
        let policy = self.spend.rules.policy;
        let running = self.branches.iter().all(|taken| *taken);
        let (opcode, step) = next_step(script, &mut self.pc).ok_or(ScriptError::BadOpcode)?;
        match step {
            Step::Push(data) => {
                if data.len() > MAX_ELEMENT_SIZE {
                    return Err(ScriptError::PushSize);
                }
                if running {
                    if policy && !is_minimal_push(opcode, data) {
                        return Err(ScriptError::MinimalData);
                    }
                    self.stack.push(data.to_vec());
                }
            }
            Step::Op(opcode) => {
                if !self.is_tapscript() && opcode > 0x60 {
                    self.ops += 1;
                    if self.ops > MAX_OPS {
                        return Err(ScriptError::OpCount);
                    }
                }
                if matches!(
                    opcode,
                    0x7e..=0x81 | 0x83..=0x86 | 0x8d | 0x8e | 0x95..=0x99
                ) {
                    return Err(ScriptError::DisabledOpcode);
                }
                if opcode == 0xab && policy && matches!(self.mode, Mode::Base) {
                    return Err(ScriptError::OpCodeseparator);
                }
                if running || (0x63..=0x68).contains(&opcode) {
                    self.execute(opcode, running)?;
                }
            }
        }
        if self.stack.len() + self.alt.len() > MAX_STACK {
            return Err(ScriptError::StackSize);
        }
        Ok(())
    }

    fn num(&self, depth: usize) -> Result<i64, ScriptError> {
        decode_num(self.stack.peek(depth)?, 4, self.spend.rules.policy)
    }

    fn execute(&mut self, opcode: u8, running: bool) -> Result<(), ScriptError> {
        let stack = &mut self.stack;
        match opcode {
            0x4f => stack.push_num(-1),
            0x51..=0x60 => stack.push_num(i64::from(opcode - 0x50)),
            0x61 => {}
            0xb0 | 0xb3..=0xb9 => {
                if self.spend.rules.policy {
                    return Err(ScriptError::DiscourageUpgradableNops);
                }
            }
            0xb1 | 0xb2 => self.check_lock(opcode)?,
            0x63..=0x68 => self.branch(opcode, running)?,
            0x69 => {
                stack.need(1)?;
                if !stack.top_is_true() {
                    return Err(ScriptError::Verify);
                }
                stack.pop()?;
            }
            0x6a => return Err(ScriptError::OpReturn),
            0x6b..=0x7d | 0x82 => self.move_items(opcode)?,
            0x87 | 0x88 => {
                stack.need(2)?;
                let equal = stack.pop()? == stack.pop()?;
                if opcode == 0x87 {
                    stack.push_bool(equal);
                } else if !equal {
                    return Err(ScriptError::EqualVerify);
                }
            }
            0x8b | 0x8c | 0x8f..=0x94 | 0x9a..=0xa5 => self.arithmetic(opcode)?,
            0xa6..=0xaa => {
                let item = stack.pop()?;
                stack.push(match opcode {
                    0xa6 => ripemd160::Hash::hash(&item).to_byte_array().to_vec(),
                    0xa7 => sha1::Hash::hash(&item).to_byte_array().to_vec(),
                    0xa8 => sha256::Hash::hash(&item).to_byte_array().to_vec(),
                    0xa9 => hash160::Hash::hash(&item).to_byte_array().to_vec(),
                    _ => sha256d::Hash::hash(&item).to_byte_array().to_vec(),
                });
            }
            0xab => {
                self.code_separator = self.pc;
                self.separator_step = self.step_index;
            }
            0xac | 0xad => {
                self.stack.need(2)?;
                let (sig, key) = (self.stack.peek(1)?.to_vec(), self.stack.peek(0)?.to_vec());
                let valid = self.check_sig(&sig, &key)?;
                self.stack.pop()?;
                self.stack.pop()?;
                if opcode == 0xac {
                    self.stack.push_bool(valid);
                } else if !valid {
                    return Err(ScriptError::CheckSigVerify);
                }
            }
            0xba if self.is_tapscript() => {
                self.stack.need(3)?;
                let (sig, key) = (self.stack.peek(2)?.to_vec(), self.stack.peek(0)?.to_vec());
                let number = self.num(1)?;
                let valid = self.check_sig(&sig, &key)?;
                for _ in 0..3 {
                    self.stack.pop()?;
                }
                self.stack.push_num(number + i64::from(valid));
            }
            0xae | 0xaf => {
                let valid = self.check_multisig()?;
                if opcode == 0xae {
                    self.stack.push_bool(valid);
                } else if !valid {
                    return Err(ScriptError::CheckMultisigVerify);
                }
            }
            _ => return Err(ScriptError::BadOpcode),
        }
        Ok(())
    }

    fn branch(&mut self, opcode: u8, running: bool) -> Result<(), ScriptError> {
        match opcode {
            0x63 | 0x64 => {
                let mut taken = false;
                if running {
                    let item = self
                        .stack
                        .pop()
                        .map_err(|_| ScriptError::UnbalancedConditional)?;
                    let minimal = item.is_empty() || item == [1];
                    match self.mode {
                        Mode::Tapscript { .. } if !minimal => {
                            return Err(ScriptError::TapscriptMinimalif);
                        }
                        Mode::SegwitV0 if !minimal && self.spend.rules.policy => {
                            return Err(ScriptError::MinimalIf);
                        }
                        _ => {}
                    }
                    taken = is_true(&item) == (opcode == 0x63);
                }
                self.branches.push(taken);
            }
            0x67 => {
                let last = self
                    .branches
                    .last_mut()
                    .ok_or(ScriptError::UnbalancedConditional)?;
                *last = !*last;
            }
            0x68 => {
                self.branches
                    .pop()
                    .ok_or(ScriptError::UnbalancedConditional)?;
            }
            // OP_VERIF and OP_VERNOTIF fail even where nothing runs.
            _ => return Err(ScriptError::BadOpcode),
        }
        Ok(())
    }

    fn move_items(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let stack = &mut self.stack;
        match opcode {
            0x6b => {
                let item = stack.pop()?;
                self.alt.push(item);
            }
            0x6c => {
                let item = self
                    .alt
                    .pop()
                    .map_err(|_| ScriptError::InvalidAltstackOperation)?;
                stack.push(item);
            }
            0x6d => {
                stack.need(2)?;
                stack.pop()?;
                stack.pop()?;
            }
            0x6e => (0..2).try_for_each(|_| stack.pick(1))?,
            0x6f => (0..3).try_for_each(|_| stack.pick(2))?,
            0x70 => (0..2).try_for_each(|_| stack.pick(3))?,
            0x71 => (0..2).try_for_each(|_| stack.roll(5))?,
            0x72 => (0..2).try_for_each(|_| stack.roll(3))?,
            0x73 => {
                stack.need(1)?;
                if stack.top_is_true() {
                    stack.pick(0)?;
                }
            }
            0x74 => stack.push_num(i64::try_from(stack.len()).unwrap_or(i64::MAX)),
            0x75 => {
                stack.pop()?;
            }
            0x76 => stack.pick(0)?,
            0x77 => {
                stack.take(1)?;
            }
            0x78 => stack.pick(1)?,
            0x79 | 0x7a => {
                stack.need(2)?;
                let depth = decode_num(&stack.pop()?, 4, self.spend.rules.policy)?;
                let depth =
                    usize::try_from(depth).map_err(|_| ScriptError::InvalidStackOperation)?;
                if depth >= stack.len() {
                    return Err(ScriptError::InvalidStackOperation);
                }
                if opcode == 0x79 {
                    stack.pick(depth)?;
                } else {
                    stack.roll(depth)?;
                }
            }
            0x7b => stack.roll(2)?,
            0x7c => stack.roll(1)?,
            0x7d => {
                stack.need(2)?;
                let top = stack.pop()?;
                let below = stack.pop()?;
                stack.push(top.clone());
                stack.push(below);
                stack.push(top);
            }
            _ => {
                let len = stack.peek(0)?.len();
                stack.push_num(i64::try_from(len).unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }

    fn arithmetic(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let arguments = match opcode {
            0x8b..=0x92 => 1,
            0xa5 => 3,
            _ => 2,
        };
        self.stack.need(arguments)?;
        let mut numbers = [0i64; 3];
        for (i, number) in numbers.iter_mut().take(arguments).enumerate() {
            *number = self.num(arguments - 1 - i)?;
        }
        for _ in 0..arguments {
            self.stack.pop()?;
        }
        let [a, b, c] = numbers;
        let result = match opcode {
            0x8b => a + 1,
            0x8c => a - 1,
            0x8f => -a,
            0x90 => a.abs(),
            0x91 => i64::from(a == 0),
            0x92 => i64::from(a != 0),
            0x93 => a + b,
            0x94 => a - b,
            0x9a => i64::from(a != 0 && b != 0),
            0x9b => i64::from(a != 0 || b != 0),
            0x9c => i64::from(a == b),
            0x9d => {
                return if a == b {
                    Ok(())
                } else {
                    Err(ScriptError::NumEqualVerify)
                };
            }
            0x9e => i64::from(a != b),
            0x9f => i64::from(a < b),
            0xa0 => i64::from(a > b),
            0xa1 => i64::from(a <= b),
            0xa2 => i64::from(a >= b),
            0xa3 => a.min(b),
            0xa4 => a.max(b),
            _ => i64::from(b <= a && a < c),
        };
        self.stack.push_num(result);
        Ok(())
    }

    fn check_lock(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let wanted = decode_num(self.stack.peek(0)?, 5, self.spend.rules.policy)?;
        if wanted < 0 {
            return Err(ScriptError::NegativeLocktime);
        }
        let reached = if opcode == 0xb1 {
            self.spend.lock_time_reached(wanted)
        } else {
            // The disable bit leaves room for later meanings.
            wanted & (1 << 31) != 0 || self.spend.sequence_reached(wanted)
        };
        if reached {
            Ok(())
        } else {
            Err(ScriptError::UnsatisfiedLocktime)
        }
    }

    /// One signature against one key; an error ends the script, false may be what it wants.
    fn check_sig(&mut self, sig: &[u8], key: &[u8]) -> Result<bool, ScriptError> {
        let rules = self.spend.rules;
        let separator_step = self.separator_step;
        if let Mode::Tapscript {
            leaf,
            annex,
            budget,
        } = &mut self.mode
        {
            let present = !sig.is_empty();
            if present {
                *budget -= SIGNATURE_COST;
                if *budget < 0 {
                    return Err(ScriptError::TapscriptValidationWeight);
                }
            }
            match key.len() {
                0 => return Err(ScriptError::TapscriptEmptyPubkey),
                32 if present => {
                    let leaf = Some((*leaf, separator_step));
                    self.spend.check_schnorr(sig, key, annex.as_deref(), leaf)?;
                }
                32 => {}
                _ if rules.policy => return Err(ScriptError::DiscourageUpgradablePubkeytype),
                _ => {}
            }
            return Ok(present);
        }
        self.refuse_signature_in_script(sig)?;
        let valid = self.check_one(sig, key)?;
        if !valid && rules.policy && !sig.is_empty() {
            return Err(ScriptError::SigNullfail);
        }
        Ok(valid)
    }

    /// Encodings and the signature itself, for scripts before tapscript.
    fn check_one(&self, sig: &[u8], key: &[u8]) -> Result<bool, ScriptError> {
        let segwit = matches!(self.mode, Mode::SegwitV0);
        check_signature_encoding(sig, self.spend.rules)?;
        check_pubkey_encoding(key, segwit, self.spend.rules)?;
        let script_code = Script::from_bytes(&self.script[self.code_separator..]);
        Ok(self.spend.check_ecdsa(sig, key, script_code, segwit))
    }

    /// A legacy signature that the signed script itself holds would be cut out of it before
    /// hashing; the policy refuses such scripts altogether.
    fn refuse_signature_in_script(&self, sig: &[u8]) -> Result<(), ScriptError> {
        if !matches!(self.mode, Mode::Base) || !self.spend.rules.policy || sig.is_empty() {
            return Ok(());
        }
        let mut pc = self.code_separator;
        while pc < self.script.len() {
            match next_step(self.script, &mut pc) {
                Some((_, Step::Push(data))) if data == sig => {
                    return Err(ScriptError::SigFindanddelete);
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    fn check_multisig(&mut self) -> Result<bool, ScriptError> {
        if self.is_tapscript() {
            return Err(ScriptError::TapscriptCheckmultisig);
        }
        let policy = self.spend.rules.policy;
        let key_count = self.num(0)?;
        if !(0..=MAX_KEYS).contains(&key_count) {
            return Err(ScriptError::PubkeyCount);
        }
        let keys = usize::try_from(key_count).map_err(|_| ScriptError::PubkeyCount)?;
        self.ops += keys;
        if self.ops > MAX_OPS {
            return Err(ScriptError::OpCount);
        }
        self.stack.need(keys + 2)?;
        let sig_count = self.num(keys + 1)?;
        if !(0..=key_count).contains(&sig_count) {
            return Err(ScriptError::SigCount);
        }
        let sigs = usize::try_from(sig_count).map_err(|_| ScriptError::SigCount)?;
        self.stack.need(keys + sigs + 2)?;
        let all_sigs: Vec<Vec<u8>> = (0..sigs)
            .map(|i| self.stack.peek(keys + 2 + i).map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        for sig in &all_sigs {
            self.refuse_signature_in_script(sig)?;
        }
        let mut next_sig = 0;
        let mut next_key = 0;
        let mut valid = true;
        while valid && next_sig < sigs {
            let key = self.stack.peek(1 + next_key)?.to_vec();
            if self.check_one(&all_sigs[next_sig], &key)? {
                next_sig += 1;
            }
            next_key += 1;
            // Fewer keys than signatures are left.
            valid = sigs - next_sig <= keys - next_key;
        }
        if !valid && policy && all_sigs.iter().any(|sig| !sig.is_empty()) {
            return Err(ScriptError::SigNullfail);
        }
        for _ in 0..keys + sigs + 2 {
            self.stack.pop()?;
        }
        let dummy = self.stack.pop()?;
        if !dummy.is_empty() {
            return Err(ScriptError::SigNulldummy);
        }
        Ok(valid)
    }
}

//! The file `seed`: lines of text, so that its owner can see what it is.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use chacha20_poly1305::{ChaCha20Poly1305, Key, Nonce};
use hex_conservative::{DisplayHex, FromHex};

use crate::{Seed, SeedError};

/// The file's name in the data directory.
pub const SEED_FILE: &str = "seed";
const MAGIC: &str = "fulmen-seed";
const VERSION: &str = "1";
/// What the passphrase's hash costs: 32 MB and about 0.1 s.
const SCRYPT_LOG_N: u8 = 15;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
/// What a file may ask for at most, so that a wrong one can't take all memory.
const MAX_LOG_N: u8 = 20;
const MAX_FILE: u64 = 4_096;

/// From when on the wallet may have coins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birthday {
    /// From the first start on: the seed is new.
    Now,
    /// From this block on.
    Height(u32),
}

enum Content {
    Words(String),
    Encrypted {
        log_n: u8,
        r: u32,
        p: u32,
        salt: [u8; 16],
        nonce: [u8; 12],
        sealed: Vec<u8>,
    },
}

/// The seed file of a data directory, read but not unlocked.
pub struct SeedFile {
    path: PathBuf,
    birthday: Birthday,
    content: Content,
}

impl std::fmt::Debug for SeedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SeedFile {
    /// Writes the seed to a data directory, which is made if needed. It never replaces one.
    pub fn create(
        data_dir: &Path,
        seed: &Seed,
        birthday: Birthday,
        passphrase: Option<&str>,
    ) -> Result<Self, SeedError> {
        let path = data_dir.join(SEED_FILE);
        let content = match passphrase {
            None => Content::Words(seed.words()),
            Some(passphrase) => seal(seed, passphrase)?,
        };
        let file = Self {
            path,
            birthday,
            content,
        };
        make_private_dir(data_dir).map_err(|error| SeedError::Io {
            path: data_dir.to_path_buf(),
            error,
        })?;
        match write_new(&file.path, file.to_text().as_bytes()) {
            Ok(()) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(SeedError::Exists(file.path)),
            Err(error) => Err(SeedError::Io {
                path: file.path,
                error,
            }),
        }
    }

    /// Reads the seed file of a data directory.
    pub fn open(data_dir: &Path) -> Result<Self, SeedError> {
        let path = data_dir.join(SEED_FILE);
        let io = |error| SeedError::Io {
            path: path.clone(),
            error,
        };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(SeedError::Missing(path)),
            Err(e) => return Err(io(e)),
        };
        if is_open_to_others(&metadata) {
            return Err(SeedError::Permissions(path));
        }
        if metadata.len() > MAX_FILE {
            return Err(SeedError::Corrupt(path));
        }
        let bytes = fs::read(&path).map_err(io)?;
        let text = String::from_utf8(bytes).map_err(|_| SeedError::Corrupt(path.clone()))?;
        Self::parse(path, &text)
    }

    /// Whether a data directory has a seed.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join(SEED_FILE).exists()
    }

    /// Whether a passphrase is needed.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.content, Content::Encrypted { .. })
    }

    /// From when on the wallet may have coins.
    pub const fn birthday(&self) -> Birthday {
        self.birthday
    }

    /// The seed.
    pub fn unlock(&self, passphrase: Option<&str>) -> Result<Seed, SeedError> {
        match &self.content {
            Content::Words(words) => {
                Seed::from_words(words).map_err(|_| SeedError::Corrupt(self.path.clone()))
            }
            Content::Encrypted {
                log_n,
                r,
                p,
                salt,
                nonce,
                sealed,
            } => {
                let passphrase = passphrase.ok_or(SeedError::PassphraseNeeded)?;
                let key = stretch(passphrase, salt, *log_n, *r, *p)
                    .ok_or_else(|| SeedError::Corrupt(self.path.clone()))?;
                let mut entropy = sealed.clone();
                let tag = entropy
                    .split_off(entropy.len().saturating_sub(16))
                    .try_into()
                    .map_err(|_| SeedError::Corrupt(self.path.clone()))?;
                ChaCha20Poly1305::new(Key::new(key), Nonce::new(*nonce))
                    .decrypt(&mut entropy, tag, Some(MAGIC.as_bytes()))
                    .map_err(|_| SeedError::WrongPassphrase)?;
                Seed::from_entropy(&entropy).map_err(|_| SeedError::Corrupt(self.path.clone()))
            }
        }
    }

    fn to_text(&self) -> String {
        let birthday = match self.birthday {
            Birthday::Now => "now".to_owned(),
            Birthday::Height(height) => height.to_string(),
        };
        let content = match &self.content {
            Content::Words(words) => format!("words {words}"),
            Content::Encrypted {
                log_n,
                r,
                p,
                salt,
                nonce,
                sealed,
            } => format!(
                "scrypt-chacha20poly1305 {log_n} {r} {p} {} {} {}",
                salt.as_hex(),
                nonce.as_hex(),
                sealed.as_hex()
            ),
        };
        format!("{MAGIC} {VERSION}\nbirthday {birthday}\n{content}\n")
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, SeedError> {
        let corrupt = || SeedError::Corrupt(path.clone());
        let mut lines = text.lines();
        match lines.next().and_then(|line| line.split_once(' ')) {
            Some((MAGIC, VERSION)) => {}
            Some((MAGIC, version)) if version.parse::<u32>().is_ok_and(|v| v > 1) => {
                return Err(SeedError::NewerVersion(path));
            }
            _ => return Err(corrupt()),
        }
        let birthday = match lines.next().and_then(|line| line.strip_prefix("birthday ")) {
            Some("now") => Birthday::Now,
            Some(height) => Birthday::Height(height.parse().map_err(|_| corrupt())?),
            None => return Err(corrupt()),
        };
        let content = match lines.next().and_then(|line| line.split_once(' ')) {
            Some(("words", words)) => Content::Words(words.to_owned()),
            Some(("scrypt-chacha20poly1305", fields)) => {
                parse_sealed(fields).ok_or_else(corrupt)?
            }
            _ => return Err(corrupt()),
        };
        if lines.next().is_some() {
            return Err(corrupt());
        }
        Ok(Self {
            path,
            birthday,
            content,
        })
    }
}

fn parse_sealed(fields: &str) -> Option<Content> {
    let fields: Vec<&str> = fields.split(' ').collect();
    let [log_n, r, p, salt, nonce, sealed] = fields.as_slice() else {
        return None;
    };
    let log_n = log_n.parse().ok().filter(|n| (1..=MAX_LOG_N).contains(n))?;
    let sealed = Vec::from_hex(sealed)
        .ok()
        .filter(|sealed| sealed.len() == 48)?;
    Some(Content::Encrypted {
        log_n,
        r: r.parse().ok().filter(|r| (1..=32).contains(r))?,
        p: p.parse().ok().filter(|p| (1..=16).contains(p))?,
        salt: <[u8; 16]>::from_hex(salt).ok()?,
        nonce: <[u8; 12]>::from_hex(nonce).ok()?,
        sealed,
    })
}

fn seal(seed: &Seed, passphrase: &str) -> Result<Content, SeedError> {
    let mut salt = [0u8; 16];
    let mut nonce = [0u8; 12];
    for bytes in [salt.as_mut_slice(), nonce.as_mut_slice()] {
        getrandom::fill(bytes).map_err(|e| SeedError::Randomness(e.to_string()))?;
    }
    let key = stretch(passphrase, &salt, SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)
        .expect("the parameters are constants in scrypt's range");
    let mut sealed = seed.entropy();
    let tag = ChaCha20Poly1305::new(Key::new(key), Nonce::new(nonce))
        .encrypt(&mut sealed, Some(MAGIC.as_bytes()));
    sealed.extend_from_slice(&tag);
    Ok(Content::Encrypted {
        log_n: SCRYPT_LOG_N,
        r: SCRYPT_R,
        p: SCRYPT_P,
        salt,
        nonce,
        sealed,
    })
}

fn stretch(passphrase: &str, salt: &[u8], log_n: u8, r: u32, p: u32) -> Option<[u8; 32]> {
    let params = scrypt::Params::new(log_n, r, p, 32).ok()?;
    let mut key = [0u8; 32];
    scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut key).ok()?;
    Some(key)
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(dir)
}

/// Writes a file that must not exist yet, readable by its owner only, and makes it durable.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // The name must survive a loss of power too.
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
const fn is_open_to_others(_metadata: &fs::Metadata) -> bool {
    false
}

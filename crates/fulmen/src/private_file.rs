//! Files that are nobody else's business.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Writes a file that only its owner can read, whole or not at all: under another name first, synced,
/// then renamed.
///
/// # Errors
/// The system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // Left over by a crash; its mode may be anything.
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Reads a file that may be lost: `None` when there is none, and, with a warning that says `consequence`, when it
/// can't be read.
pub(crate) fn read_cache(path: &Path, consequence: &str) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file can't be read; {consequence}");
            None
        }
    }
}

//! The bearer token: who can read the file may command the node.

use std::{fs, io, path::Path};

use fulmen::write_private;
use fulmen_api::TOKEN_FILE;
use hex_conservative::DisplayHex;

/// A token.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// The token of a data directory, made when there is none.
    pub(crate) fn load_or_create(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(TOKEN_FILE);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 32 => return Ok(Self(text.trim().to_owned())),
            // One that was cut off by a crash protects nothing.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        let token = bytes.to_lower_hex_string();
        write_private(&path, token.as_bytes())?;
        Ok(Self(token))
    }

    /// Whether `given` is the token, in a time that does not tell where the two differ.
    pub(crate) fn is(&self, given: &str) -> bool {
        let (ours, given) = (self.0.as_bytes(), given.as_bytes());
        let differing = ours
            .iter()
            .zip(given)
            .fold(0u8, |acc, (a, b)| acc | (a ^ b));
        ours.len() == given.len() && differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_and_only_it_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let token = Token::load_or_create(dir.path()).expect("ours");
        let text = fs::read_to_string(dir.path().join(TOKEN_FILE)).expect("written");
        assert!(Token::load_or_create(dir.path()).expect("there").is(&text));
        assert!(token.is(&text));
        assert!(!token.is(&text[..63]));
        assert!(!token.is(&format!("{text}0")));
        assert!(!token.is(""));
        let last = if text.ends_with('0') { "1" } else { "0" };
        assert!(!token.is(&format!("{}{last}", &text[..63])));
    }
}

//! What the seed file keeps and what it refuses.

use std::fs;

use bitcoin::{Network, hex::DisplayHex};
use fulmen_seed::{Birthday, SEED_FILE, Seed, SeedError, SeedFile};

/// BIP 39's vector of 32 zero bytes.
const ZERO_WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

#[test]
fn words_make_the_keys_that_other_wallets_make() {
    let seed = Seed::from_words(&ZERO_WORDS.to_uppercase()).expect("a vector of BIP 39");
    let master = seed
        .wallet_master(Network::Bitcoin)
        .expect("a vector of BIP 39");
    // Computed from the words by BIP 39's and BIP 32's definitions in another language.
    assert_eq!(
        master.private_key.display_secret().to_string(),
        "235b34cd7c9f6d7e4595ffe9ae4b1cb5606df8aca2b527d20a07c8f56b2342f4"
    );
    // These never change: the keys of every node hang on them.
    assert_eq!(
        seed.node_seed().to_lower_hex_string(),
        "c462e4d08f1d685a02f4fa6f82fe89aea5d5fa1a88b19e6de5baaf745602d516"
    );
    assert_ne!(
        seed.node_seed(),
        Seed::generate().expect("randomness").node_seed()
    );
}

#[test]
fn words_that_are_no_seed_are_refused_without_repeating_them() {
    let mut words: Vec<&str> = ZERO_WORDS.split_whitespace().collect();
    assert!(matches!(
        Seed::from_words(&words[..23].join(" ")),
        Err(SeedError::WordCount(23))
    ));
    words[4] = "notaword";
    let error = Seed::from_words(&words.join(" ")).expect_err("not in the list");
    assert!(matches!(error, SeedError::UnknownWord { position: 5 }));
    assert!(!error.to_string().contains("notaword"));
    words[4] = "zoo";
    assert!(matches!(
        Seed::from_words(&words.join(" ")),
        Err(SeedError::Checksum)
    ));
}

#[test]
fn a_file_is_private_and_never_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().join("new");
    let seed = Seed::from_words(ZERO_WORDS).expect("a vector");
    SeedFile::create(&data_dir, &seed, Birthday::Height(7), None).expect("nothing is there yet");
    let path = data_dir.join(SEED_FILE);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |p: &std::path::Path| fs::metadata(p).expect("it is there").permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(mode(&data_dir) & 0o777, 0o700);
    }
    let other = Seed::generate().expect("randomness");
    let again = SeedFile::create(&data_dir, &other, Birthday::Now, None);
    assert!(matches!(again, Err(SeedError::Exists(_))));
    let file = SeedFile::open(&data_dir).expect("the first one");
    assert_eq!(file.birthday(), Birthday::Height(7));
    assert_eq!(
        file.unlock(None).expect("not encrypted").words(),
        seed.words()
    );

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        assert!(matches!(
            SeedFile::open(&data_dir),
            Err(SeedError::Permissions(_))
        ));
    }
}

#[test]
fn a_passphrase_hides_the_words_and_is_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = Seed::generate().expect("randomness");
    SeedFile::create(dir.path(), &seed, Birthday::Now, Some("correct horse")).expect("new");
    let path = dir.path().join(SEED_FILE);
    let text = fs::read_to_string(&path).expect("text");
    assert!(
        seed.words()
            .split(' ')
            .all(|word| !text.lines().skip(1).any(|l| l.contains(word)))
    );

    let file = SeedFile::open(dir.path()).expect("it is there");
    assert!(file.is_encrypted());
    assert!(matches!(
        file.unlock(None),
        Err(SeedError::PassphraseNeeded)
    ));
    assert!(matches!(
        file.unlock(Some("wrong")),
        Err(SeedError::WrongPassphrase)
    ));
    assert_eq!(
        file.unlock(Some("correct horse")).expect("right").words(),
        seed.words()
    );

    // Any change of the sealed bytes is seen.
    let last = text.trim_end().len() - 1;
    let digit = if text.as_bytes()[last] == b'0' {
        "1"
    } else {
        "0"
    };
    fs::write(&path, format!("{}{digit}\n", &text[..last])).expect("ours");
    let changed = SeedFile::open(dir.path()).expect("readable");
    assert!(matches!(
        changed.unlock(Some("correct horse")),
        Err(SeedError::WrongPassphrase)
    ));
}

#[test]
fn files_of_others_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(matches!(
        SeedFile::open(dir.path()),
        Err(SeedError::Missing(_))
    ));
    let seed = Seed::from_words(ZERO_WORDS).expect("a vector");
    SeedFile::create(dir.path(), &seed, Birthday::Now, None).expect("new");
    let path = dir.path().join(SEED_FILE);
    let text = fs::read_to_string(&path).expect("text");
    for (bad, newer) in [
        (text.replace("fulmen-seed 1", "fulmen-seed 2"), true),
        (text.replace("fulmen-seed", "other"), false),
        (text.replace("birthday now", "birthday soon"), false),
        (text.replace("art", "zoo"), true),
        (String::new(), false),
    ] {
        fs::write(&path, &bad).expect("ours");
        match SeedFile::open(dir.path()) {
            Err(SeedError::NewerVersion(_)) => assert!(newer),
            Err(SeedError::Corrupt(_)) => assert!(!newer),
            Ok(file) => assert!(matches!(file.unlock(None), Err(SeedError::Corrupt(_)))),
            Err(other) => panic!("{other}"),
        }
    }
}

//! Every deliberate bug still applies to the sources, says what it is, and there are enough of them.

use std::{fs, path::Path, process::Command};

#[test]
fn every_mutation_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = fs::read_to_string(root.join("testing/sim/mutations/seeds.tsv")).unwrap();
    let mut attacks = 0;
    let mut count = 0;
    for file in fs::read_dir(root.join("testing/sim/mutations")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tsv") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for head in ["What: ", "Attack: "] {
            assert!(text.contains(head), "{}: no {head}", path.display());
        }
        let name = path.file_name().unwrap().to_string_lossy();
        let number = name.split('-').next().unwrap();
        let is_placed = |line: &str| line.split('\t').next() == Some(number);
        assert!(places.lines().any(is_placed), "{name} is not in seeds.tsv");
        attacks += usize::from(!text.contains("Attack: -"));
        count += 1;
        let out = Command::new("git")
            .args(["apply", "--check"])
            .arg(&path)
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{} does not apply any more: make it anew\n{}",
            path.display(),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    assert!(count >= 20, "{count} mutations");
    assert!(attacks >= 10, "{attacks} after known attacks");
}

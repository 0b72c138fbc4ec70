//! Every target over its corpus, without a fuzzing engine.

use std::path::Path;

#[test]
fn every_target_takes_its_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in fulmen_fuzz::TARGETS.iter().map(|target| target.name) {
        let mut count = 0;
        for entry in std::fs::read_dir(folder.join(target)).expect("each target has a corpus") {
            let path = entry.expect("the folder can be read").path();
            fulmen_fuzz::run(
                target,
                &std::fs::read(&path).expect("the input can be read"),
            );
            count += 1;
        }
        assert!(count > 0, "{target} has no corpus");
        println!("{target:<16} {count:>4} inputs");
    }
}

/// A name that is not in the table would run nothing.
#[test]
fn every_binary_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .map(|path| {
            path.file_stem()
                .expect("a file")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let mut known: Vec<&str> = fulmen_fuzz::TARGETS
        .iter()
        .map(|target| target.name)
        .collect();
    known.sort_unstable();
    assert_eq!(names, known);
}

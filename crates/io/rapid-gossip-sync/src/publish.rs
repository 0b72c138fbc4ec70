//! Snapshots in a folder, as any web server can offer them.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use fulmen_gossip::{NetworkGraph, SignedTimes};
use fulmen_types::Timestamp;

use crate::{
    encode::{Since, Version, encode},
    format::STALE_SECS,
};

/// For how many earlier snapshots the changes since are kept at most.
const MAX_PAST: usize = 64;

/// Writes snapshots of `graph` into a folder: `snapshot/0` and `v2/snapshot/0` with everything, and beside
/// them, under the time of each snapshot of the last two weeks that was made into the same folder, the
/// changes since. This is how readers ask for them: offer the folder with any web server and make it anew
/// once a day. Each file is replaced whole. Gives the files.
///
/// With `signed` only what the network has signed is told; see [`encode`].
///
/// # Errors
/// The system's.
pub fn publish(
    dir: &Path,
    graph: &NetworkGraph,
    signed: Option<&SignedTimes>,
    now: Timestamp,
) -> io::Result<Vec<PathBuf>> {
    let now_secs = u32::try_from(now.to_secs_floor()).unwrap_or(u32::MAX);
    let mut written = Vec::new();
    for (folder, version) in [("snapshot", Version::V1), ("v2/snapshot", Version::V2)] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder)?;
        let known = times(&folder)?;
        let is_alive = |time: &&u32| **time > now_secs.saturating_sub(STALE_SECS);
        // The time at hand among them: its file, of next to nothing, is how the next run knows of it.
        let kept: BTreeSet<u32> = known
            .iter()
            .filter(is_alive)
            .copied()
            .rev()
            .take(MAX_PAST)
            .collect();
        let wanted = kept.iter().copied().chain([now_secs]);
        for since in [0].into_iter().chain(wanted.collect::<BTreeSet<u32>>()) {
            let from = match since {
                0 => Since::Beginning,
                seen => Since::Seen(seen),
            };
            let path = folder.join(since.to_string());
            replace(&path, &encode(graph, signed, version, from, now))?;
            written.push(path);
        }
        for time in known
            .difference(&kept)
            .filter(|time| **time != 0 && **time != now_secs)
        {
            fs::remove_file(folder.join(time.to_string()))?;
        }
    }
    Ok(written)
}

/// The times that there are files of.
fn times(folder: &Path) -> io::Result<BTreeSet<u32>> {
    let mut times = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        times.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(times)
}

/// Readers see the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

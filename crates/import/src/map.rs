//! Model files as memory maps: constants are read from the page cache, and their memory can be had back once the engine has packed them.

use std::{fs::File, path::Path, sync::Arc};

use assay_graph::{Bytes, Holder};
use memmap2::{Mmap, UncheckedAdvice};

struct Map(Mmap);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Holder for Map {
    fn release(&self) {
        // SAFETY: the map is read-only and backed by a file, so that dropped pages are read from the file again, with the same bytes.
        // A refusal by the system costs memory only.
        let _ = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

/// Maps a file that is complete and will not change: model folders are written aside and renamed, and replaced as a whole.
///
/// # Errors
/// Those of opening and mapping it.
pub(crate) fn map(path: &Path) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    // SAFETY: nobody writes to a file of a model folder after its rename into place; whoever does so from outside could as well change the program.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::new(Arc::new(Map(map))))
}

//! Small files that are replaced as a whole.

use std::io::{self, Write};
use std::path::Path;

/// Replaces the file at `path`, or makes it, for the user alone. Whoever reads
/// it meanwhile has the old content or the new, never a part.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

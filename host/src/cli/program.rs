//! Other programs that commands begin.

use std::path::PathBuf;

/// Where a program is, of those on the `PATH`; one with a directory in its name is where that says.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| file.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|place| place.join(name)).find(|file| file.is_file())
}

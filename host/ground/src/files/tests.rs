use super::*;

fn directory(name: &str) -> tempfile::TempDir {
    Builder::new().prefix(name).tempdir().unwrap()
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let directory = directory("postern-files");
    let file = directory.path().join("state.json");
    std::fs::write(&file, "old").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    write_private(&file, b"new").unwrap();
    assert_eq!((std::fs::read_to_string(&file).unwrap(), mode(&file)), ("new".into(), 0o600));
    write(&file, b"newer").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "newer");
    assert_eq!(mode(&file) & 0o600, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    let error = write_private(&directory.path().join("none/x"), b"").unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");
}

#[test]
fn a_secret_is_made_once_and_is_nobody_elses() {
    let directory = directory("postern-secret");
    let file = directory.path().join("key");
    let key = secret(&file).unwrap();
    assert_eq!((secret(&file).unwrap(), mode(&file)), (key, 0o600));
    std::fs::write(&file, "short").unwrap();
    assert!(secret(&file).unwrap_err().to_string().contains("not 32 bytes long"));
}

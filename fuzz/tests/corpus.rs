//! What was found once holds for ever: every stored input through its target, without libFuzzer.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[test]
fn what_is_stored_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for name in fuzz::names() {
        let target = fuzz::target(name).unwrap();
        let file = corpus.join(name).with_extension("txt");
        let inputs = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        inputs.lines().for_each(|line| target(&STANDARD.decode(line).unwrap()));
        assert!(inputs.lines().count() > 5, "{name} has a corpus");
        println!("{name}: {} inputs", inputs.lines().count());
    }
}

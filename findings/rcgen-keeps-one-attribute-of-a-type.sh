#!/bin/sh
# rcgen 0.14.10: DistinguishedName::push keeps one attribute of each type. A second organizationName does not stand beside the first, as X.501 allows and
# as Kubernetes client certificates need (each organizationName is one group of the user): it takes its place, and nothing says so. A certificate made
# for the groups "dev" and "ops" is one for "ops". Seen 2026-11, with openssl as the reader.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init --quiet --name finding .
printf 'rcgen = "=0.14.10"\n' >> Cargo.toml
cat > src/main.rs <<'RUST'
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

fn main() {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "ann");
    name.push(DnType::OrganizationName, "dev");
    name.push(DnType::OrganizationName, "ops");
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name = name;
    print!("{}", params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
}
RUST
CARGO_TARGET_DIR="$dir/target" cargo run --quiet > certificate.pem
openssl x509 -in certificate.pem -noout -subject > out
cat out
[ "$(tr -d ' ' < out)" = "subject=CN=ann,O=ops" ] || { echo "it changed"; exit 1; }

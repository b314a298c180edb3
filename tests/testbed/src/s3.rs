//! A real S3 server: versitygw, with buckets that are directories.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;
use crate::certificates::Ca;
use crate::process::{Process, free_port};

/// A running S3 server, over TLS. Dropping it ends it.
pub struct S3 {
    /// Its directory.
    pub directory: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// The credential it takes.
const CREDENTIAL: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "testbed-secret-access-key")];

impl S3 {
    /// Starts a server with a bucket `recordings`.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("buckets/recordings"))?;
        let directory = directory.canonicalize()?;
        Ca::new("s3-ca", &directory)?.issue("s3", "s3", &[])?;
        let mut this = Self { directory, port: free_port()?, process: None };
        this.resume()?;
        Ok(this)
    }

    /// Starts it again after [`Self::stop`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let file = |name: &str| self.directory.join(name);
        let mut command = Command::new(binary("versitygw"));
        command.args(["--port", &format!("127.0.0.1:{}", self.port), "--access", CREDENTIAL[0].1, "--secret", CREDENTIAL[1].1]);
        command.arg("--cert").arg(file("s3.crt")).arg("--key").arg(file("s3.key"));
        // Where the file system keeps no extended attributes, what belongs to an object lies beside it.
        command.args(["posix", "--sidecar"]).arg(file("sidecar")).arg(file("buckets"));
        std::fs::create_dir_all(file("sidecar"))?;
        let log = file("s3.log");
        self.process = Some(Process::start("versitygw", command, &log)?.listening(self.port, &log)?);
        Ok(())
    }

    /// Ends it; what it stores stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Where the objects of the bucket lie.
    pub fn bucket(&self) -> PathBuf {
        self.directory.join("buckets/recordings")
    }

    /// What stands in `sessions.objectStore` of a gateway that records here.
    pub fn config(&self) -> String {
        format!(
            "url: 's3://recordings/of/testbed', endpoint: 'https://127.0.0.1:{}', caFile: '{}'",
            self.port,
            self.directory.join("s3-ca.crt").display()
        )
    }

    /// The credential, for the environment of a gateway.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        CREDENTIAL.to_vec()
    }
}

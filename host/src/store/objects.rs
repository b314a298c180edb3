//! An S3 bucket that finished recordings are kept in: a recording is written there once, and never again.

use std::path::Path as File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config;

/// A recording larger than this is sent in parts of this size: S3 takes no less in one part.
const PART: u64 = 8 << 20;
/// S3 takes no more parts than this of one object.
const MOST_PARTS: u64 = 10_000;

/// The bucket.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Objects {
    /// Gets ready to use the bucket. Nothing is asked of it yet.
    pub fn open(config: &config::ObjectStore) -> anyhow::Result<Self> {
        let (bucket, prefix) = config.place()?;
        let mut client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            // For a silence: a large recording takes as long as it takes.
            .with_timeout_disabled()
            .with_read_timeout(Duration::from_secs(60))
            .with_allow_http(config.allow_http);
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).with_context(|| format!("{} holds no certificate", file.display()))?;
            client = certificates.into_iter().fold(client.with_no_system_certificates(true), ClientOptions::with_root_certificate);
        }
        // The spool tries again and again; here only what passes in a moment is tried anew.
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(20) };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_checksum_algorithm(Checksum::SHA256);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        let store = builder.build().context("sessions.objectStore")?;
        Ok(Self { store: Arc::new(store), prefix: prefix.to_owned() })
    }

    fn path(&self, session: &str, name: &str) -> Path {
        self.prefix.split('/').chain([session, name]).filter(|part| !part.is_empty()).collect()
    }

    /// Stores a file. What is there already is never written over: the same file is as good as stored, with another one the answer is false.
    pub async fn put(&self, session: &str, name: &str, file: &File) -> anyhow::Result<bool> {
        let path = self.path(session, name);
        let mut reader = tokio::fs::File::open(file).await?;
        let length = reader.metadata().await?.len();
        let stored = if length <= PART {
            let mut bytes = Vec::with_capacity(length as usize);
            reader.read_to_end(&mut bytes).await?;
            self.store.put_opts(&path, PutPayload::from(bytes), PutOptions::from(PutMode::Create)).await.map(drop)
        } else {
            match self.store.head(&path).await {
                Ok(_) => Err(Error::AlreadyExists { path: path.to_string(), source: "it is there".into() }),
                Err(Error::NotFound { .. }) => return self.put_in_parts(&path, &mut reader, length).await.map(|()| true),
                Err(error) => Err(error),
            }
        };
        match stored {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. }) => self.is_stored(&path, file).await,
            Err(error) => Err(plain(error)),
        }
    }

    async fn put_in_parts(&self, path: &Path, reader: &mut (impl AsyncRead + Unpin), length: u64) -> anyhow::Result<()> {
        let mut upload = self.store.put_multipart(path).await.map_err(plain)?;
        let done = send_parts(upload.as_mut(), reader, PART.max(length.div_ceil(MOST_PARTS))).await;
        if done.is_err() {
            // Parts that nobody completes would be paid for.
            let _ = upload.abort().await;
        }
        done
    }

    /// Whether what is stored is what the file holds.
    async fn is_stored(&self, path: &Path, file: &File) -> anyhow::Result<bool> {
        let mut stored = self.store.get(path).await.map_err(plain)?.into_stream();
        let mut reader = tokio::fs::File::open(file).await?;
        let mut here = Vec::new();
        while let Some(chunk) = stored.try_next().await.map_err(plain)? {
            here.resize(chunk.len(), 0);
            if reader.read_exact(&mut here).await.is_err() || here != chunk {
                return Ok(false);
            }
        }
        Ok(reader.read(&mut [0]).await? == 0)
    }

    /// The names of what is stored of a session.
    pub async fn list(&self, session: &str) -> anyhow::Result<Vec<String>> {
        let found = self.store.list(Some(&self.path(session, "")));
        found.map_ok(|object| object.location.filename().unwrap_or_default().to_owned()).try_collect().await.map_err(plain)
    }

    /// What is stored; none where nothing is.
    pub async fn get(&self, session: &str, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.store.get(&self.path(session, name)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(plain)?.into())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(plain(error)),
        }
    }
}

async fn send_parts(upload: &mut dyn MultipartUpload, reader: &mut (impl AsyncRead + Unpin), size: u64) -> anyhow::Result<()> {
    loop {
        let mut part = Vec::new();
        reader.take(size).read_to_end(&mut part).await?;
        if part.is_empty() {
            upload.complete().await.map_err(plain)?;
            return Ok(());
        }
        upload.put_part(PutPayload::from(part)).await.map_err(plain)?;
    }
}

/// An error without the store's own text, of which only its code is kept: the text may repeat the request with its headers, and a session
/// token among them.
fn plain(error: Error) -> anyhow::Error {
    let text = without_answer(&error.to_string());
    let cause = without_answer(&anyhow::Error::from(error).root_cause().to_string());
    if text.contains(&cause) { anyhow::anyhow!(text) } else { anyhow::anyhow!("{text}: {cause}") }
}

fn without_answer(text: &str) -> String {
    let Some((before, answer)) = text.split_once('<') else { return text.to_owned() };
    let code = answer.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let code = code.filter(|code| code.len() < 100 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    format!("{}{}", before, code.unwrap_or("(the store's text is left out)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_store_s_answer_only_the_code_is_kept() {
        let answer = "403 Forbidden: <?xml version=\"1.0\"?>\n<Error><CanonicalRequest>x-amz-security-token:the-token</CanonicalRequest><Code>SignatureDoesNotMatch</Code></Error>";
        assert_eq!(without_answer(answer), "403 Forbidden: SignatureDoesNotMatch");
        assert_eq!(without_answer("500: <html>the-token"), "500: (the store's text is left out)");
        assert_eq!(without_answer("500: <Error><Code>the token</Code>"), "500: (the store's text is left out)");
        assert_eq!(without_answer("connection refused"), "connection refused");
    }
}

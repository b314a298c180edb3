//! The gateway's own token, as it goes into a request: one in a file is read again now and then, and never on the thread that serves.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::OwnToken;
use super::credential::bearer;
use crate::status::Refusal;

/// How long what was read of a file is good for. The kubelet renews a token long before it ends.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// The gateway's own token.
pub(super) enum OwnTokenHeader {
    /// It has none.
    None,
    /// Always the same.
    Fixed(Zeroizing<String>),
    /// In a file that is renewed by others.
    File(Followed),
}

/// A file that is read again now and then.
pub(super) struct Followed {
    file: PathBuf,
    read: ArcSwapOption<(Instant, HeaderValue)>,
    reading: Mutex<()>,
}

impl OwnTokenHeader {
    pub(super) fn new(token: &OwnToken) -> Self {
        match token {
            OwnToken::None => Self::None,
            OwnToken::Fixed(token) => Self::Fixed(token.clone()),
            OwnToken::File(file) => Self::File(Followed { file: file.clone(), read: ArcSwapOption::empty(), reading: Mutex::default() }),
        }
    }

    /// Puts it into the headers of a request.
    pub(super) async fn put_into(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let value = match self {
            Self::None => return Ok(()),
            Self::Fixed(token) => bearer(token)?,
            Self::File(followed) => match followed.known() {
                Some(known) => known,
                None => Box::pin(followed.read()).await?,
            },
        };
        headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    /// What was read is not taken any more: the file is read anew for the next request.
    pub(super) fn forget(&self) {
        if let Self::File(followed) = self {
            followed.read.store(None);
        }
    }
}

impl Followed {
    fn known(&self) -> Option<HeaderValue> {
        self.read.load().as_ref().filter(|read| read.0.elapsed() < GOOD_FOR).map(|read| read.1.clone())
    }

    async fn read(&self) -> Result<HeaderValue, Refusal> {
        let _one_at_a_time = self.reading.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let text = tokio::fs::read_to_string(&self.file).await.map(Zeroizing::new);
        let text = text.map_err(|_| Refusal::unavailable("the gateway's own token cannot be read"))?;
        let value = bearer(text.trim())?;
        self.read.store(Some((Instant::now(), value.clone()).into()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_once_in_a_while_and_anew_when_its_token_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let token = OwnTokenHeader::new(&OwnToken::File(file.clone()));
        let sent = async || {
            let mut headers = HeaderMap::new();
            token.put_into(&mut headers).await.map(|()| headers.remove(header::AUTHORIZATION).unwrap())
        };
        assert_eq!(sent().await.unwrap_err().code, 503);
        std::fs::write(&file, "one\n").unwrap();
        let one = sent().await.unwrap();
        assert!(one == "Bearer one" && one.is_sensitive());
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(sent().await.unwrap(), "Bearer one");
        token.forget();
        assert_eq!(sent().await.unwrap(), "Bearer two");
    }
}

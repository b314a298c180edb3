//! What ends a long exchange before it is over: its caller's credential, or the caller's right to it.

use std::pin::Pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::time_left;
use crate::status::Refusal;
use crate::words::Ending;

/// Ready when an exchange must end.
pub type Ends = Pin<Box<dyn Future<Output = End>>>;

/// Why an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The caller's credential has expired.
    CredentialExpired,
    /// The API server would not let the caller begin it any more.
    RightWithdrawn,
    /// The cluster was taken out of the gateway's configuration, or is configured in another way.
    ClusterChanged,
}

impl End {
    /// What the audit log calls it.
    pub fn how(self) -> Ending {
        match self {
            Self::CredentialExpired => Ending::CredentialExpired,
            Self::RightWithdrawn => Ending::RightWithdrawn,
            Self::ClusterChanged => Ending::ClusterChanged,
        }
    }

    /// What the caller is told, as the API server would answer a new request.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::CredentialExpired => Refusal::unauthorized("the credential has expired; get a new one and begin anew"),
            Self::RightWithdrawn => Refusal::forbidden("you may do this no longer; the cluster's access rules have changed"),
            Self::ClusterChanged => Refusal::unavailable("the gateway reaches this cluster in another way now, or no more; begin anew"),
        }
    }
}

/// Waits for the first of them: `expires`, in Unix seconds, what is cancelled when the cluster is no more what it was, and what is ready when the right was taken
/// away.
pub fn ends(expires: u64, changed: CancellationToken, withdrawn: impl Future<Output = ()> + 'static) -> Ends {
    Box::pin(async move {
        tokio::select! {
            () = expired(expires) => End::CredentialExpired,
            () = changed.cancelled() => End::ClusterChanged,
            () = withdrawn => End::RightWithdrawn,
        }
    })
}

/// Looks again and again, for the clock may have been set.
async fn expired(expires: u64) {
    loop {
        let left = time_left(expires);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
    }
}

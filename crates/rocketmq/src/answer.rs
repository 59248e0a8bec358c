//! What all answers of one message have in common: a status.

use crate::errors::Refusal;
use crate::proto::{self, Code, Status};

/// An answer with a status of its own.
pub(crate) trait Answer: Default + Send + 'static {
    fn status(&self) -> Option<&Status>;

    fn set_status(&mut self, status: Status);

    /// The answer to a call that was refused as a whole.
    fn refused(refusal: &Refusal) -> Self {
        let mut answer = Self::default();
        answer.set_status(refusal.status());
        answer
    }

    /// Its code, also for statuses that are missing or newer than this version.
    fn code(&self) -> Code {
        self.status().and_then(|status| Code::try_from(status.code).ok()).unwrap_or(Code::Unspecified)
    }
}

macro_rules! answers {
    ($($name:ident),* $(,)?) => {$(
        impl Answer for proto::$name {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }

            fn set_status(&mut self, status: Status) {
                self.status = Some(status);
            }
        }
    )*};
}

answers! {
    QueryRouteResponse,
    HeartbeatResponse,
    SendMessageResponse,
    QueryAssignmentResponse,
    AckMessageResponse,
    ForwardMessageToDeadLetterQueueResponse,
    UpdateOffsetResponse,
    GetOffsetResponse,
    QueryOffsetResponse,
    EndTransactionResponse,
    NotifyClientTerminationResponse,
    ChangeInvisibleDurationResponse,
    RecallMessageResponse,
    SyncLiteSubscriptionResponse,
}

//! What a command of the API is refused with.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use fulmen_api::{ErrorBody, ErrorCode, ErrorDetail};
use fulmen_node::CommandError;
use fulmen_persister::StoreError;
use fulmen_wallet::WalletFault;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct ApiError(pub(crate) ErrorDetail);

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorDetail {
            code,
            message: message.into(),
        })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self.0 })).into_response()
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::PeerNotConnected(_) => ErrorCode::PeerNotConnected,
            CommandError::UnknownChannel(_) => ErrorCode::UnknownChannel,
            CommandError::Invalid(_) => ErrorCode::Invalid,
            CommandError::Refused(_) => ErrorCode::Refused,
            CommandError::InsufficientFunds(_) => ErrorCode::InsufficientFunds,
            CommandError::PeerRefused(_) => ErrorCode::PeerRefused,
            CommandError::Failed(_) => ErrorCode::Failed,
            CommandError::Unavailable(_) => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WalletFault> for ApiError {
    fn from(fault: WalletFault) -> Self {
        let code = match &fault {
            WalletFault::InsufficientFunds { .. } => ErrorCode::InsufficientFunds,
            WalletFault::Refused(_) => ErrorCode::Refused,
            WalletFault::Store(StoreError::Full { .. }) => ErrorCode::Unavailable,
            WalletFault::Store(_) | WalletFault::OtherWallet(_) | WalletFault::Corrupt(_) => {
                ErrorCode::Internal
            }
        };
        Self::new(code, fault.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Full { .. } => ErrorCode::Unavailable,
            _ => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

//! A build context that the client streams from its standard input.

use futures::StreamExt as _;
use proto::upload::BytesMessage;
use proto::upload::upload_client::UploadClient;
use tonic::Request;

use crate::call::{ORIGIN, append};
use crate::{ByteStream, Session, SessionError};

const PULL: &str = "/moby.upload.v1.Upload/Pull";

/// The host part of `http://buildkit-session/<id>`, which names an upload.
const HOST: &str = "buildkit-session";

impl Session {
    /// Returns the bytes of the upload `id`; a client gives each upload away once only.
    ///
    /// # Errors
    /// Returns an error if the client refuses; failures after that come out of the stream.
    pub async fn upload(&self, id: &str) -> Result<ByteStream, SessionError> {
        // Our side says nothing, but stays open until the client is done.
        let mut request = Request::new(futures::stream::pending::<BytesMessage>());
        let path = format!("/{}", id.trim_start_matches('/'));
        append(request.metadata_mut(), PULL, "urlpath", &path)?;
        append(request.metadata_mut(), PULL, "urlhost", HOST)?;
        let mut client = UploadClient::with_origin(self.channel(), ORIGIN.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE_SIZE);
        let answer = client.pull(request).await.map_err(|status| self.failure(PULL, status))?;
        let session = self.clone();
        Ok(ByteStream::new(answer.into_inner().map(move |message| {
            message.map(|message| message.data).map_err(|status| session.failure(PULL, status))
        })))
    }
}

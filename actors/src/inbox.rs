//! What the coordinator wants this site to hold or do: taken in, stored, acknowledged.

use hansa_model::push::PushContent;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::error::Unavailable;

/// Everything the inbox can be asked.
#[derive(Debug)]
pub(crate) enum InboxMessage {
    /// A push arrived, over the link or over HTTP. Answers once it is on disk; a repeat has no effect.
    Receive { content: Box<PushContent>, reply: RpcReplyPort<Result<(), Unavailable>> },
    /// Fails on purpose, to show that only this actor restarts.
    #[cfg(feature = "testing")]
    DangerPanic,
}

pub(crate) struct InboxActor {}

impl Actor for InboxActor {
    type Msg = InboxMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<InboxMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<InboxMessage>,
        message: InboxMessage,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            InboxMessage::Receive { content: _, reply } => {
                // A caller that gave up has nothing to be told.
                let _ = reply.send(Err(Unavailable::Busy { part: "inbox" }));
            }
            #[cfg(feature = "testing")]
            InboxMessage::DangerPanic => panic!("asked to fail"),
        }
        Ok(())
    }
}

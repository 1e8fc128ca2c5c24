//! What those who listen on a bus have in common.

use std::{future::poll_fn, pin::Pin, task::Poll};

use futures_core::Stream;
use zbus::{Connection, Message, MessageStream};

use crate::sys::process::effective_user;

/// The next message of any of them; `None` once the bus has ended.
pub(super) async fn next(streams: &mut [MessageStream]) -> Option<zbus::Result<Message>> {
    poll_fn(|context| {
        let mut polled = streams.iter_mut().map(|stream| Pin::new(stream).poll_next(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Who has a name on this run of the bus.
pub(super) async fn owner_of(bus: &Connection, name: &str) -> zbus::Result<String> {
    let reply = bus.call_method(Some(BUS), "/", Some(BUS), "GetNameOwner", &name).await?;
    reply.body().deserialize()
}

/// Refuses a bus that somebody else runs.
pub(super) async fn check_owner(bus: &Connection) -> zbus::Result<()> {
    if bus.peer_creds().await?.unix_user_id() == Some(effective_user()) {
        return Ok(());
    }
    Err(zbus::Error::Failure("the bus is somebody else's".to_owned()))
}

/// The bus itself, as one of those who have a name there.
pub(super) const BUS: &str = "org.freedesktop.DBus";

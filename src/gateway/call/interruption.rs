//! Ends a call whose caller has gone or that was cancelled, before a byte of its response was sent.

use crate::gateway::call::Call;
use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::call::drain::{self, Drain, SentRequest, UnreadResponse};
use crate::gateway::call::end::EndReason;
use crate::gateway::call::relay_body;
use crate::gateway::call::reservation::Reservation;
use std::sync::Arc;

impl Call<'_> {
    /// Settles the call. Where only the rest of the response says what the call costs, its upstream is read on
    /// first, in a task of its own.
    pub(crate) async fn interrupt(
        &self,
        reservation: Reservation,
        end: EndReason,
        upstream: Arc<str>,
        unread: Option<UnreadResponse>,
    ) {
        let sent_request = SentRequest::of(self.request, &reservation.caller.plan_limits.policy);
        match unread {
            Some(unread) if sent_request.is_read_on(&reservation.model, unread.upstream(), end) => {
                let (status, limits) = (end.status(), self.drain_limits());
                Drain { sent_request, status, upstream, limits }.spawn(reservation, unread);
            }
            unread => {
                let sent = unread.is_some().then_some(self.request);
                // The upstream is cancelled before the charge is waited for.
                drop(unread);
                relay_body::settle_stopped(reservation, sent, upstream, end).await;
            }
        }
    }

    /// A permit for body memory, with nothing in it yet.
    pub(crate) fn empty_permit(&self, reservation: &Reservation) -> BodyPermit {
        self.gateway
            .body_memory
            .empty_permit(Some(reservation.caller.user), self.writer.head.address)
    }

    /// The permit for a part of a response, without the request's.
    pub(crate) fn permit_for(&mut self, body: &[u8], reservation: &Reservation) -> BodyPermit {
        let mut room = self.empty_permit(reservation);
        match room.grow(body.len()) {
            Ok(()) => room,
            Err(_) => std::mem::replace(&mut self.body_permit, room),
        }
    }

    pub(crate) fn drain_limits(&self) -> drain::DrainLimits {
        let limits = &self.current.limits;
        drain::DrainLimits {
            time: limits.drain,
            hard_stop: self.gateway.hard_stop.clone(),
            event_bytes: limits.event_bytes,
            reply_bytes: limits.reply_bytes,
            slice_tokens: limits.slice_tokens,
            body_memory: self.gateway.body_memory.clone(),
            address: self.writer.head.address,
        }
    }
}

//! Messages that lapin cannot read: a text that is no UTF-8, a header that nests without end. They
//! would close the connection of every consumer of their queue, for ever; so they are taken off
//! before a session reads, refused, and kept for people.

use broker::{Delivery, Outcome, Publisher, dead_letter, topology};
use futures_util::future::join_all;
use protocol::{Code, Refusal, Rejected, Submissions};

use crate::courier::Courier;
use crate::line::{job_ids, rejection};
use crate::links::Links;
use crate::{Error, Role};

/// Takes what cannot be read off the queues that clients fill.
pub(crate) async fn salvage(links: &Links, amqp: &broker::Settings) -> Result<(), Error> {
    let publisher = links.publisher().await?;
    let courier =
        Courier::new(&links.publish, &links.direct, links.settings.deliver_timeout()).await?;
    let of = async |queue: &str| {
        let turn_away = |delivery| {
            turn_away(links, &publisher, &courier, queue == topology::INTAKE_QUEUE, delivery)
        };
        broker::salvage(amqp, queue, turn_away).await
    };
    let queues = links.settings.roles.iter().flat_map(|role| match role {
        Role::Registrar => &[topology::INTAKE_QUEUE, topology::DROPPED_QUEUE][..],
        Role::Inquiry => &[topology::INQUIRY_QUEUE],
        Role::Notifier | Role::Scheduler => &[],
    });
    let mut taken = 0;
    for of_one in join_all(queues.map(|queue| of(queue))).await {
        taken += of_one?;
    }
    if taken > 0 {
        tracing::warn!(taken, "messages that cannot be read are kept in the dead-letter queue");
    }
    Ok(())
}

/// Whether a message may be acknowledged: it is kept, and recorded and answered where it can be.
async fn turn_away(
    links: &Links,
    publisher: &Publisher,
    courier: &Courier,
    is_submission: bool,
    delivery: Delivery,
) -> bool {
    let message = "a property, the routing key or a header's name is not UTF-8, or nests too deep";
    let mut rejected = Rejected::from(&delivery.properties);
    rejected.refusal = Refusal::new(Code::BadHeader, message);
    if let Some(client) = rejected.client.clone().filter(|_| is_submission) {
        let job_ids = job_ids(&delivery);
        if !Submissions::are(&delivery.properties) {
            rejected.job_id = job_ids.first().cloned();
        }
        if let Err(error) = links.refuse_all(&client, job_ids, &rejected.refusal).await {
            tracing::warn!(%error, "a message that cannot be read stays where it is");
            return false;
        }
    }
    let reason = format!("{}: {message}", rejected.refusal.code);
    let kept = publisher.publish(vec![dead_letter(&delivery, &reason)]).await;
    if !matches!(kept[..], [Outcome::Confirmed]) {
        return false;
    }
    let answer = rejection(&rejected).map(|answer| answer.message());
    let delivered = courier.deliver(answer.into_iter().collect()).await;
    tracing::debug!(?delivered, "the refusal of a message that cannot be read");
    true
}

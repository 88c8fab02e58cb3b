//! What is sent, as messages: small submissions that wait together go in one.

use broker::{Publication, topology};
use job::Origin;
use protocol::batch::{Entry, FROM_CLIENT};
use protocol::{Properties, Submissions, VERSION};
use serde_json::Value;

use crate::submission::{Options, properties};

/// So many submissions go in one message.
const TOGETHER_MAX: usize = 100;
/// A longer body goes alone, in bytes.
const SMALL_BYTES_MAX: usize = 16 * 1024;
/// The bodies and headers of one message, in bytes. In JSON a text may become six times as long:
/// that still is less than a list may be.
const TOGETHER_BYTES_MAX: usize = 128 * 1024;

/// A submission without a receipt.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) job_id: String,
    /// The same at every sending.
    pub(crate) journaled_at_ms: i64,
    pub(crate) job_type: String,
    pub(crate) body: Vec<u8>,
    pub(crate) options: Options,
}

/// A message, and the submissions that it carries.
pub(crate) struct Parcel {
    pub(crate) message: Publication,
    pub(crate) job_ids: Vec<String>,
}

/// Who sends, and where answers go.
pub(crate) struct Sender<'a> {
    pub(crate) client: &'a str,
    pub(crate) origin: &'a Origin,
    /// The reply queue's name.
    pub(crate) queue: &'a str,
}

impl Sender<'_> {
    /// Submissions as messages, in their order; each in one of its own if it is to be `alone`.
    pub(crate) fn submissions(&self, outgoing: &[Outgoing], alone: bool) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        let mut rest = outgoing;
        while !rest.is_empty() {
            let count = if alone { 1 } else { together(rest) };
            let (these, others) = rest.split_at(count);
            rest = others;
            let message = match these {
                [only] => self.one(only),
                several => self.several(several),
            };
            let job_ids = these.iter().map(|outgoing| outgoing.job_id.clone()).collect();
            parcels.push(Parcel { message, job_ids });
        }
        parcels
    }

    fn one(&self, outgoing: &Outgoing) -> Publication {
        let own = properties(&outgoing.options, self.client, self.queue, self.origin);
        let properties = Properties {
            message_id: Some(outgoing.job_id.clone()),
            timestamp: timestamp(outgoing),
            ..own
        };
        publication(outgoing.job_type.clone(), properties, outgoing.body.clone())
    }

    fn several(&self, outgoing: &[Outgoing]) -> Publication {
        let common = properties(&Options::default(), self.client, self.queue, self.origin);
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            kind: Some(FROM_CLIENT.to_owned()),
            ..common
        };
        let job_type = outgoing.first().map(|first| first.job_type.clone()).unwrap_or_default();
        let submissions = outgoing.iter().map(|one| Entry {
            r#type: Some(one.job_type.clone()).filter(|of| *of != job_type),
            // Of a body that has none of its own, nothing is said: not what the batch is.
            content_type: one.options.content_type.clone(),
            timestamp: timestamp(one),
            headers: one
                .options
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), Value::String(value.clone())))
                .collect(),
            ..Entry::new(one.job_id.clone(), one.body.clone())
        });
        let body = Submissions { v: VERSION, submissions: submissions.collect() }.to_json();
        publication(job_type, properties, body)
    }

    /// A question.
    pub(crate) fn question(&self, id: &str, verb: &str, body: Vec<u8>) -> Parcel {
        let message = Publication {
            exchange: topology::REQUEST,
            routing_key: verb.to_owned(),
            mandatory: true,
            properties: Properties {
                persistent: true,
                content_type: Some("application/json".to_owned()),
                user_id: Some(self.client.to_owned()),
                reply_to: Some(self.queue.to_owned()),
                correlation_id: Some(id.to_owned()),
                ..Properties::default()
            },
            body,
        };
        Parcel { message, job_ids: Vec::new() }
    }
}

/// How many of the first submissions go in one message: those whose answers all come here.
fn together(outgoing: &[Outgoing]) -> usize {
    let mut bytes = 0;
    let fit = outgoing.iter().take(TOGETHER_MAX).take_while(|one| {
        bytes += one.body.len() + one.options.header_bytes();
        one.options.is_for_this_client()
            && one.body.len() <= SMALL_BYTES_MAX
            && bytes <= TOGETHER_BYTES_MAX
    });
    fit.count().max(1)
}

/// So that the server can refuse what is older than it remembers.
fn timestamp(outgoing: &Outgoing) -> Option<u64> {
    u64::try_from(outgoing.journaled_at_ms / 1000).ok()
}

fn publication(job_type: String, properties: Properties, body: Vec<u8>) -> Publication {
    Publication {
        exchange: topology::SUBMIT,
        routing_key: job_type,
        mandatory: true,
        properties,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(id: &str, body: &[u8]) -> Outgoing {
        let options = Options {
            headers: vec![("job-notify".to_owned(), "terminal".to_owned())],
            ..Options::default()
        };
        let (job_id, job_type) = (id.to_owned(), "a.b".to_owned());
        Outgoing {
            job_id,
            journaled_at_ms: 1_700_000_000_123,
            job_type,
            body: body.to_vec(),
            options,
        }
    }

    /// The server takes the message apart, and finds what it would have found in three.
    #[test]
    fn submissions_in_one_message_are_what_they_are_alone() {
        let origin: Origin = Origin::label("till-1").unwrap();
        let sender = Sender { client: "shop", origin: &origin, queue: "reply.shop.a" };
        let mut all = vec![outgoing("1", b"text"), outgoing("2", &[0xff, 0]), outgoing("3", b"")];
        all[1].job_type = "c".to_owned();
        all[2].options.content_type = Some("text/plain".to_owned());
        let one = sender.submissions(&all, false);
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].job_ids, ["1", "2", "3"]);
        let Publication { routing_key, properties, body, .. } = &one[0].message;
        let apart = Submissions::apart(routing_key, properties, body).unwrap();
        let limits = protocol::Limits { payload_bytes_max: 1000 };
        for (apart, alone) in apart.into_iter().zip(sender.submissions(&all, true)) {
            let read = |key: &str, properties: &Properties, body: Vec<u8>| {
                let read = protocol::Submission::read(key, properties, body, limits).unwrap();
                (read.job_id, read.job_type, read.spec, read.digest, read.body)
            };
            let alone = alone.message;
            assert_eq!(
                read(&apart.routing_key, &apart.properties, apart.body),
                read(&alone.routing_key, &alone.properties, alone.body)
            );
        }
    }

    /// Whoever reads another queue may know no batches.
    #[test]
    fn what_is_pushed_to_another_queue_is_not_pushed_in_batches() {
        let origin: Origin = Origin::label("till-1").unwrap();
        let sender = Sender { client: "shop", origin: &origin, queue: "reply.shop.a" };
        let mut all = ["1", "2", "3"].map(|id| outgoing(id, b"text"));
        let to = ("job-notify-to".to_owned(), "reply.shop.events".to_owned());
        all[1].options.headers.push(to);
        let sent = sender.submissions(&all, false);
        let batch = |parcel: &Parcel| {
            parcel.message.properties.headers.get(protocol::headers::BATCH).is_some()
        };
        let seen: Vec<(usize, bool)> =
            sent.iter().map(|it| (it.job_ids.len(), batch(it))).collect();
        assert_eq!(seen, [(1, true), (1, false), (1, true)]);
    }

    #[test]
    fn what_is_large_goes_alone() {
        let large = vec![b'x'; SMALL_BYTES_MAX + 1];
        let most = vec![b'x'; SMALL_BYTES_MAX];
        let all = [b"1".as_slice(), b"2", &large, b"3"].map(|body| outgoing("a", body));
        assert_eq!((together(&all), together(&all[2..]), together(&all[3..])), (2, 1, 1));
        // Headers count: eight bodies alone would fit.
        assert_eq!(together(&vec![outgoing("a", &most); 20]), 7);
        assert_eq!(together(&vec![outgoing("a", b""); 300]), TOGETHER_MAX);
    }
}

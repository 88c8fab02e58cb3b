//! A chunk of the line in parts, each of which is decided, dispatched and acknowledged as one.

use broker::Delivery;
use protocol::{HeaderValue, Submissions, headers};

/// A delivery that came back so often is decided apart from all others.
const RETURNS_SUSPECT: i64 = 3;
/// Lists of submissions in one part are no longer than this together, in bytes, unless it is one
/// list. A chunk of them was a hundred thousand jobs: a gigabyte, and the first receipt after the
/// last job.
const LISTS_BYTES_MAX: usize = 256 * 1024;

/// A delivery that came back again and again stands alone, so that if it is what kills the process
/// it does so without company.
pub(crate) fn apart(chunk: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let mut parts: Vec<Vec<Delivery>> = Vec::new();
    let mut last_was_suspect = true;
    let mut lists = 0;
    for delivery in chunk {
        let suspect = is_suspect(&delivery);
        let list = if Submissions::are(&delivery.properties) { delivery.body.len() } else { 0 };
        let is_full = list > 0 && lists > 0 && lists + list > LISTS_BYTES_MAX;
        match parts.last_mut() {
            Some(part) if !suspect && !last_was_suspect && !is_full => {
                part.push(delivery);
                lists += list;
            }
            _ => {
                parts.push(vec![delivery]);
                lists = list;
            }
        }
        last_was_suspect = suspect;
    }
    parts
}

/// Whether it may be what kills the process.
pub(crate) fn is_suspect(delivery: &Delivery) -> bool {
    matches!(
        delivery.properties.headers.get(headers::DELIVERY_COUNT),
        Some(HeaderValue::Int(returns)) if *returns >= RETURNS_SUSPECT
    )
}

#[cfg(test)]
mod tests {
    use broker::topology;
    use protocol::batch::FROM_CLIENT;

    use super::*;

    fn delivery(tag: u64, returns: i64) -> Delivery {
        let mut properties = protocol::Properties::default();
        properties.headers.push(headers::DELIVERY_COUNT, HeaderValue::Int(returns));
        let (exchange, routing_key) = (topology::SUBMIT.to_owned(), String::new());
        Delivery { tag, exchange, routing_key, redelivered: true, properties, body: Vec::new() }
    }

    fn tags(chunk: Vec<Delivery>) -> Vec<Vec<u64>> {
        apart(chunk).iter().map(|part| part.iter().map(|it| it.tag).collect()).collect()
    }

    /// If it is what kills the process, it does so without company, and nothing passes it (H28).
    #[test]
    fn h28_what_came_back_three_times_is_decided_alone_and_in_its_place() {
        let returns = [0, 2, 3, 0, 1, 3, 4, 0];
        let chunk = (1..).zip(returns).map(|(tag, returns)| delivery(tag, returns)).collect();
        assert_eq!(tags(chunk), [vec![1, 2], vec![3], vec![4, 5], vec![6], vec![7], vec![8]]);
    }

    #[test]
    fn long_lists_are_decided_a_few_at_a_time() {
        let list = |tag, bytes| {
            let mut list = delivery(tag, 0);
            list.properties.kind = Some(FROM_CLIENT.to_owned());
            list.body = vec![b' '; bytes];
            list
        };
        let half = LISTS_BYTES_MAX / 2;
        let chunk = vec![
            list(1, half),
            delivery(2, 0),
            list(3, half),
            delivery(4, 0),
            list(5, 1),
            list(6, 4 * half),
            delivery(7, 0),
            list(8, 1),
        ];
        assert_eq!(tags(chunk), [vec![1, 2, 3, 4], vec![5], vec![6, 7], vec![8]]);
    }
}

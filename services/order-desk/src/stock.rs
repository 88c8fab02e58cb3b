//! What is left, and what is reserved for whom.
//!
//! A handler runs at least once, so a reservation is made under the job's ticket, and making it
//! again changes nothing. This desk keeps its stock in memory, as a first form; one that must
//! survive keeps it in a database, under the same key.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::catalogue::Catalogue;
use crate::order::{Line, Rejection};

#[derive(Debug)]
pub(crate) struct Stock(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    left: BTreeMap<String, u32>,
    reserved: HashMap<String, u32>,
}

impl Stock {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        let articles = catalogue.0.iter();
        let left = articles.map(|(sku, article)| (sku.clone(), article.in_stock)).collect();
        Self(Mutex::new(Inner { left, reserved: HashMap::new() }))
    }

    /// Reserves all lines or none; returns how many articles.
    pub(crate) fn reserve(&self, ticket: &str, lines: &[Line]) -> Result<u32, Rejection> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inner.reserved.get(ticket) {
            return Ok(*count);
        }
        let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
        for line in lines {
            *wanted.entry(&line.sku).or_default() += line.qty;
        }
        for (sku, qty) in &wanted {
            let left = inner.left.get(*sku).copied().unwrap_or(0);
            if left < *qty {
                let sku = (*sku).to_owned();
                return Err(Rejection::OutOfStock { sku, wanted: *qty, left });
            }
        }
        for (sku, qty) in &wanted {
            if let Some(left) = inner.left.get_mut(*sku) {
                *left -= qty;
            }
        }
        let count = wanted.values().sum();
        inner.reserved.insert(ticket.to_owned(), count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, qty: u32) -> Line {
        Line { sku: sku.to_owned(), qty }
    }

    #[test]
    fn a_reservation_is_made_once_for_a_ticket_and_for_all_lines_or_none() {
        let catalogue: Catalogue = serde_json::from_str(
            r#"{"A":{"price_cents":1,"in_stock":3},"B":{"price_cents":1,"in_stock":1}}"#,
        )
        .unwrap();
        let stock = Stock::new(&catalogue);
        assert_eq!(stock.reserve("t1", &[line("A", 2)]), Ok(2));
        assert_eq!(stock.reserve("t1", &[line("A", 2)]), Ok(2));
        let refused = stock.reserve("t2", &[line("B", 1), line("A", 1), line("A", 1)]);
        assert!(matches!(refused, Err(Rejection::OutOfStock { left: 1, .. })), "{refused:?}");
        assert_eq!(stock.reserve("t3", &[line("A", 1), line("B", 1)]), Ok(2));
    }
}

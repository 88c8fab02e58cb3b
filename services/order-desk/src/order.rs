//! What a shop sends and what it gets.

use serde::{Deserialize, Serialize};

/// An order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The shop's own number.
    pub(crate) order: String,
    /// Who ordered.
    pub(crate) customer: String,
    /// What.
    pub(crate) lines: Vec<Line>,
}

/// One article of an order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The article.
    pub(crate) sku: String,
    /// How many.
    pub(crate) qty: u32,
}

/// A confirmed order.
#[derive(Debug, Serialize)]
pub(crate) struct Confirmation {
    /// The shop's own number.
    pub(crate) order: String,
    /// The sum, in cents.
    pub(crate) total_cents: u64,
    /// How many articles are reserved.
    pub(crate) reserved: u32,
}

/// Why an order is not taken. Another attempt would not help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("the order has no number")]
    NoNumber,
    #[error("the order names no customer")]
    NoCustomer,
    #[error("the order has no lines")]
    Empty,
    #[error("{sku}: the quantity is {qty}; allowed is 1 to {QUANTITY_MAX}")]
    Quantity { sku: String, qty: u32 },
    #[error("{0}: no such article")]
    UnknownArticle(String),
    #[error("{sku}: {wanted} wanted, {left} left")]
    OutOfStock { sku: String, wanted: u32, left: u32 },
}

/// The most of one article that an order may hold.
pub(crate) const QUANTITY_MAX: u32 = 100;

impl Order {
    /// Checks what can be seen from the order alone.
    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        if self.order.trim().is_empty() {
            return Err(Rejection::NoNumber);
        }
        if self.customer.trim().is_empty() {
            return Err(Rejection::NoCustomer);
        }
        if self.lines.is_empty() {
            return Err(Rejection::Empty);
        }
        match self.lines.iter().find(|line| !(1..=QUANTITY_MAX).contains(&line.qty)) {
            Some(line) => Err(Rejection::Quantity { sku: line.sku.clone(), qty: line.qty }),
            None => Ok(()),
        }
    }
}

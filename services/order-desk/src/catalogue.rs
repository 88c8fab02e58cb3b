//! Articles, their prices and what is in stock at the start.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::order::{Line, Rejection};

/// One article.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Article {
    pub(crate) price_cents: u64,
    pub(crate) in_stock: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalogue(pub(crate) BTreeMap<String, Article>);

impl Catalogue {
    /// The catalogue that comes with the program.
    pub(crate) fn load() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("../catalogue.json"))
    }

    /// The sum of some lines, in cents.
    pub(crate) fn price(&self, lines: &[Line]) -> Result<u64, Rejection> {
        lines.iter().try_fold(0, |sum, line| {
            let article = self.0.get(&line.sku);
            let article = article.ok_or_else(|| Rejection::UnknownArticle(line.sku.clone()))?;
            Ok(sum + article.price_cents * u64::from(line.qty))
        })
    }
}

//! The way of an order: validated, priced, stock reserved, confirmed.

use std::time::Duration;

use worker::{Context, Failure};

use crate::catalogue::Catalogue;
use crate::order::{Confirmation, Order, Rejection};
use crate::stock::Stock;

#[derive(Debug)]
pub(crate) struct Desk {
    catalogue: Catalogue,
    stock: Stock,
    pace: Duration,
}

impl Desk {
    pub(crate) fn new(catalogue: Catalogue, pace: Duration) -> Self {
        Self { stock: Stock::new(&catalogue), catalogue, pace }
    }

    pub(crate) async fn place(&self, order: Order, job: &Context) -> Result<Confirmation, Failure> {
        order.validate().map_err(rejected)?;
        self.reach("validated", job).await?;
        let total_cents = self.catalogue.price(&order.lines).map_err(rejected)?;
        self.reach("priced", job).await?;
        let reserved = self.stock.reserve(job.ticket(), &order.lines).map_err(rejected)?;
        self.reach("stock-reserved", job).await?;
        self.reach("confirmed", job).await?;
        Ok(Confirmation { order: order.order, total_cents, reserved })
    }

    async fn reach(&self, stage: &str, job: &Context) -> Result<(), Failure> {
        job.stage(stage).await?;
        tokio::select! {
            () = tokio::time::sleep(self.pace) => Ok(()),
            () = job.cancelled() => Err(Failure::Cancelled),
        }
    }
}

/// An order that is wrong today is wrong tomorrow.
fn rejected(rejection: Rejection) -> Failure {
    Failure::fail(rejection.to_string())
}

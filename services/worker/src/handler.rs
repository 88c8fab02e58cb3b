//! A handler is an async function of up to three arguments that can be made from a job, and returns
//! a result that can be written as JSON.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::extract::FromJob;
use crate::{Context, Failure};

/// What a handler returned, or why it did not succeed.
pub type Outcome = Result<Returned, Failure>;

/// What a handler returned.
#[derive(Debug)]
pub enum Returned {
    /// The job is done; its result as JSON text.
    Result(String),
    /// The outside world goes on with it.
    HandedOver(HandOver),
}

/// Returned by a handler that leaves its job to the outside world, which finishes it by a `report`
/// with the token that [`Context::report_token`] gave.
///
/// The job is then `handed_over`: it has no worker, no lease and no time limit but its deadline and
/// the one that is said here.
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "a handler hands over by returning this"]
pub struct HandOver {
    pub(crate) within: Option<Duration>,
}

impl HandOver {
    /// Without a time limit of its own.
    pub const fn new() -> Self {
        Self { within: None }
    }

    /// The job expires if nobody has reported an outcome within this time.
    pub const fn within(limit: Duration) -> Self {
        Self { within: Some(limit) }
    }
}

/// What a handler may return in `Ok`: anything that has a JSON form, or [`HandOver`].
pub trait IntoReturned {
    /// The result, or the hand-over.
    ///
    /// # Errors
    /// The result has no JSON form, or is too large.
    fn into_returned(self) -> Outcome;
}

impl IntoReturned for HandOver {
    fn into_returned(self) -> Outcome {
        Ok(Returned::HandedOver(self))
    }
}

impl<T: Serialize> IntoReturned for T {
    fn into_returned(self) -> Outcome {
        let json = serde_json::to_string(&self)
            .map_err(|error| Failure::fail(format!("the result has no JSON form: {error}")))?;
        if json.len() > RESULT_BYTES_MAX {
            return Err(Failure::fail(format!(
                "the result has {} bytes; the limit is {RESULT_BYTES_MAX}",
                json.len()
            )));
        }
        Ok(Returned::Result(json))
    }
}

/// The largest result that is recorded, in bytes: a record is to be read often and quickly.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;

/// What runs a job. Implemented for async functions; `Arguments` tells their forms apart.
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// Runs the job.
    fn call(&self, job: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

macro_rules! handlers {
    ($(($($argument:ident),*))*) => {
        $(
            impl<F, Running, T, $($argument),*> Handler<($($argument,)*)> for F
            where
                F: Fn($($argument),*) -> Running + Send + Sync + 'static,
                Running: Future<Output = Result<T, Failure>> + Send + 'static,
                T: IntoReturned,
                $($argument: FromJob,)*
            {
                #[allow(non_snake_case, unused_variables, reason = "types name their values")]
                fn call(&self, job: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
                    $(
                        let $argument = match $argument::from_job(&job) {
                            Ok(argument) => argument,
                            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
                        };
                    )*
                    let running = self($($argument),*);
                    Box::pin(async move { running.await?.into_returned() })
                }
            }
        )*
    };
}

handlers! {
    ()
    (A)
    (A, B)
    (A, B, C)
}

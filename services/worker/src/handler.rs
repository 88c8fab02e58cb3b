//! A handler is an async function of up to three arguments that can be made from a job, and returns
//! a result that can be written as JSON.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use crate::extract::FromJob;
use crate::{Context, Failure};

/// A result as JSON text, or why there is none.
pub type Outcome = Result<String, Failure>;

/// The largest result that is recorded, in bytes: a record is to be read often and quickly.
pub const RESULT_BYTES_MAX: usize = 256 * 1024;

/// What runs a job. Implemented for async functions; `Arguments` tells their forms apart.
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// Runs the job.
    fn call(&self, job: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

fn outcome<T: Serialize>(returned: Result<T, Failure>) -> Outcome {
    let json = serde_json::to_string(&returned?)
        .map_err(|error| Failure::fail(format!("the result has no JSON form: {error}")))?;
    if json.len() > RESULT_BYTES_MAX {
        return Err(Failure::fail(format!(
            "the result has {} bytes; the limit is {RESULT_BYTES_MAX}",
            json.len()
        )));
    }
    Ok(json)
}

macro_rules! handlers {
    ($(($($argument:ident),*))*) => {
        $(
            impl<F, Returned, T, $($argument),*> Handler<($($argument,)*)> for F
            where
                F: Fn($($argument),*) -> Returned + Send + Sync + 'static,
                Returned: Future<Output = Result<T, Failure>> + Send + 'static,
                T: Serialize,
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
                    Box::pin(async move { outcome(running.await) })
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

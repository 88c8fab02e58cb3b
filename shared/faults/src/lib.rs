//! Places where a test build crashes on demand, and mistakes that it makes on demand.
//!
//! Both exist only in builds with debug assertions, and do nothing there unless the environment
//! asks for it. A release holds neither: [`crash_point`] is empty and [`is_seeded`] is `false`, so
//! the compiler drops what depends on them.
//!
//! | variable | means |
//! |---|---|
//! | `FAULTS_CRASH_AT` | `<point>` or `<point>:<n>`: it ends when it passes there, the n-th time |
//! | `FAULTS_CRASH_LOG` | a file; each passing of a point adds its name as a line |
//! | `FAULTS_SEEDED_BUG` | the name of a mistake |

mod bugs;
mod points;

#[cfg(debug_assertions)]
mod switched_on;

pub use bugs::Bug;
pub use points::Point;

/// A place before or after a durable step. The process ends here, at once and without a word to
/// anybody, if it was asked to.
#[inline(always)]
pub fn crash_point(point: Point) {
    #[cfg(debug_assertions)]
    switched_on::pass(point);
    #[cfg(not(debug_assertions))]
    let _: Point = point;
}

/// Whether a mistake is to be made.
#[inline(always)]
pub fn is_seeded(bug: Bug) -> bool {
    #[cfg(debug_assertions)]
    return switched_on::is_seeded(bug);
    #[cfg(not(debug_assertions))]
    return {
        let _: Bug = bug;
        false
    };
}

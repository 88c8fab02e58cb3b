//! The crash campaign. A fleet of real processes works while faults are made by the thousand; what
//! clients saw and what is in the stores at the end is then held against what was promised.

pub mod proxy;

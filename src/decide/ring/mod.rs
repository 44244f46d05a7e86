//! The data ring: from a key to its place. Placement, plans and migration build on it.

pub mod hash;

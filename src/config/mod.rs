//! Configuration: raw, then environment substitution, then checked.

//! The simulator held against itself.

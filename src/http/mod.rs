//! Health, peers, status.

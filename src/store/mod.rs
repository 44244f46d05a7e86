//! The store trait; its verbs are Consul's.

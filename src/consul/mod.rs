//! The store on real Consul.

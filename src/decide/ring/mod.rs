//! The data ring: hashing now; placement, plans and migration later.

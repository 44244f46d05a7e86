//! A node's life: role, states, order of hooks.

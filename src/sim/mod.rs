//! The simulator: the core that ships, driven through virtual minutes of seeded trouble.
//!
//! ```text
//!   swarm   seed -> plan: nodes, settings, faults as data
//!   world   one queue of events in virtual time; a step, then its effects
//!     net      requests and answers, watches, peers; delayed and lost by halves
//!     act      effects -> acts, as the driver's;  pace  what time they take
//!     hooks    what hooks do to the application
//!     app      rows, replicas, acknowledgements
//!     node     clock, volume, guard, sidecar;  queue  what is to happen
//!     strike   faults happen and end
//!   check   an all-seeing observer and `decide::invariants`
//!   trace   what happened, and its hash;  shrink  fewer faults, the same end;  report  the sum
//! ```
//!
//! Consul is `store::memory`, the core is `decide::life::Node`; neither knows that it is simulated.
//! Must not: decide for a node, read a clock, or draw a number that does not come from the seed.

mod act;
mod app;
mod check;
pub mod fault;
mod hooks;
mod life;
mod net;
mod node;
mod pace;
mod queue;
pub mod report;
pub mod rng;
pub mod shrink;
mod strike;
pub mod swarm;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use check::Check;
pub use trace::Trace;

use swarm::Plan;

/// What came of a plan.
#[derive(Debug)]
pub struct Outcome {
    pub check: Check,
    pub trace: Trace,
}

/// Runs a plan from its begin to its end, or to the first thing that must not be.
pub fn run(plan: &Plan, keep_trace: bool) -> Outcome {
    let mut world = world::World::new(plan, Trace::new(keep_trace));
    world.run();
    Outcome { check: world.check, trace: world.trace }
}

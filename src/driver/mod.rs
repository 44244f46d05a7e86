//! One task, one biased select: inputs, step, effects. Owns the only clock.

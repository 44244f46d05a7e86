//! What the guard decides: one comparison, here so that the guard's process and the simulator ask
//! the same.

use super::mutant::{self, Mutant};
use super::time::At;

/// Whether it kills now what was armed with this time.
pub fn is_due(kill_at: At, now: At) -> bool {
    now >= kill_at && !mutant::on(Mutant::M62)
}

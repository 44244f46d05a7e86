//! What time effects take after their step, and pauses in between.

use super::fault::Place;
use super::world::{Event, World};
use crate::decide::io::Effect;

impl World<'_> {
    /// Whether the first effect that waits may act now: it has taken its time, or takes none.
    pub(super) fn carried(&mut self, node: Place, id: u64) -> bool {
        let (t, (most, heavy)) = (self.t, self.plan.effects);
        if most == 0 || t >= self.plan.faulty {
            return true;
        }
        let Some(process) = self.nodes[node].process.as_mut().filter(|it| it.id == id) else {
            return true;
        };
        if let Some(until) = process.busy {
            if until <= t {
                process.busy = None;
            }
            return until <= t;
        }
        let ms = match process.late.front() {
            Some(effect) => self.pace.within(0, if is_heavy(effect) { heavy } else { most }),
            None => 0,
        };
        if ms > 0 {
            process.busy = Some(t + ms);
            self.after(ms, Event::Carried { node, process: id });
        }
        ms == 0
    }

    /// The moment of a pause that hurts most: something was decided and not done.
    pub(super) fn pause_in_between(&mut self, node: Place) {
        let weighty = |effect: &Effect| match effect {
            Effect::RunHook(call) => call.valid_until.is_some(),
            Effect::Call { valid_until, .. } => valid_until.is_some(),
            Effect::Arm { .. } | Effect::Extend { .. } | Effect::KillTree => true,
            Effect::CancelHook { .. }
            | Effect::StartApp
            | Effect::TermApp
            | Effect::Disarm
            | Effect::PersistFloor(_)
            | Effect::PersistFollows(_)
            | Effect::PersistClusterId(_)
            | Effect::PersistConfig(_)
            | Effect::WriteMarker
            | Effect::RemoveMarker
            | Effect::Wipe
            | Effect::Backup { .. }
            | Effect::PeerCall { .. }
            | Effect::PeerAnswer { .. }
            | Effect::ActionReply { .. }
            | Effect::Decided(_)
            | Effect::Exit { .. } => false,
        };
        let t = self.t;
        let it = &mut self.nodes[node];
        let weighs = it.process.as_ref().is_some_and(|process| process.late.iter().any(weighty));
        if weighs && let Some(ms) = it.trouble.pause_mid.take() {
            it.trouble.sidecar_paused = it.trouble.sidecar_paused.max(t + ms);
            self.trace.line(t, node, "pause-between", || format!("for {ms} ms"));
            self.after(ms, Event::Resume { node });
        }
    }
}

/// What starts, ends or arms a process.
fn is_heavy(effect: &Effect) -> bool {
    match effect {
        Effect::RunHook(_)
        | Effect::StartApp
        | Effect::TermApp
        | Effect::KillTree
        | Effect::Arm { .. }
        | Effect::Extend { .. } => true,
        Effect::Call { .. }
        | Effect::CancelHook { .. }
        | Effect::Disarm
        | Effect::PersistFloor(_)
        | Effect::PersistFollows(_)
        | Effect::PersistClusterId(_)
        | Effect::PersistConfig(_)
        | Effect::WriteMarker
        | Effect::RemoveMarker
        | Effect::Wipe
        | Effect::Backup { .. }
        | Effect::PeerCall { .. }
        | Effect::PeerAnswer { .. }
        | Effect::ActionReply { .. }
        | Effect::Decided(_)
        | Effect::Exit { .. } => false,
    }
}

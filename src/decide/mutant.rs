//! Planted faults. With the feature `mutants` one of them can be switched on; each must then be
//! caught by the model or the simulator.
//!
//! Without the feature [`on`] is `false` at compile time and costs nothing. Numbers are those of
//! `docs/lease.md` and, from 60 on, of `docs/safety.md`.

/// One rule off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum Mutant {
    /// The deadline counts from the answer, not from the sending.
    M01 = 1,
    /// The take-over does not check the index of `leader`.
    M02 = 2,
    /// No wait when the key is free but not clean.
    M03 = 3,
    /// Released before the demotion is finished.
    M04 = 4,
    /// A promise does not bind its giver.
    M05 = 5,
    /// A giver promises while an acquisition of its own is open.
    M06 = 6,
    /// A giver takes its own acquisition for over when its answer is late.
    M07 = 7,
    /// The epoch comes from the lock key alone.
    M08 = 8,
    /// Takes again without a new epoch.
    M09 = 9,
    /// The list of the eligible is not asked.
    M10 = 10,
    /// The wait covers one clock's error, not two.
    M12 = 12,
    /// A promise counts from its receipt.
    M13 = 13,
    /// A restarted node does not wait again.
    M14 = 14,
    /// The last confirmed list alone is asked.
    M15 = 15,
    /// The lease is shortened, the old deadline kept.
    M16 = 16,
    /// An absent key is taken at once.
    M17 = 17,
    /// An emptied store: promoted at once.
    M18 = 18,
    /// Renewal by a plain lock, the timer runs on `n`.
    M19 = 19,
    /// `n` grows per success, not per attempt.
    M20 = 20,
    /// Renewal by a plain lock, not bound to an index.
    M21 = 21,
    /// M21, and whose term it is follows from the lock's value.
    M22 = 22,
    /// M21, and a late success opens the term again.
    M23 = 23,
    /// Release bound to the session alone, which serves the next term too.
    M24 = 24,
    /// The term goes on under an unanswered release.
    M25 = 25,
    /// Identity is the node alone, not its run.
    M28 = 28,
    /// The index of `state/sync` is not checked.
    M29 = 29,
    /// The acquisition leaves `state/sync` as it was.
    M30 = 30,
    /// Stops requiring an acknowledgement before the smaller set is confirmed.
    M31 = 31,
    /// A clean value of another epoch, or on a locked key, is believed.
    M32 = 32,
    /// M34 and M06.
    M33 = 33,
    /// Promises open a term again that was over.
    M34 = 34,
    /// A promise counts by the longest lease, while a shorter one may stand in `leader`.
    M35 = 35,
    /// Every change of the sync set is hooked first and written then, whatever the number of
    /// acknowledgements.
    M36 = 36,
    /// A start that cut the application's tail is not counted by the set it was cut under.
    M37 = 37,
    /// A take-over that cannot be applied any more stays open.
    M39 = 39,
    /// That the cluster is not made yet is judged but not checked.
    M38 = 38,
    /// The node of the term needs nobody's answer, though its application was started again.
    M40 = 40,
    /// Sync switched off: nothing is required any more before the set is gone.
    M47 = 47,
    /// An operator's order to take waits for no lease.
    M50 = 50,
    /// A write whose outcome is unknown counts as done.
    M60 = 60,
    /// The epoch floor is kept in memory alone.
    M61 = 61,
    /// The guard lets its time pass.
    M62 = 62,
    /// Fence and guard count from behind the deadline.
    M63 = 63,
    /// A position is told for a term that this node did not follow.
    M64 = 64,
    /// A frozen position is told again though receiving has begun since.
    M65 = 65,
    /// A `promote` begins after its time.
    M66 = 66,
    /// Calls and hooks go out after their time.
    M67 = 67,
    /// What had no answer is not looked up.
    M68 = 68,
    /// The journal is written without the lock.
    M69 = 69,
    /// The fence leaves a `promote` under way alone.
    M71 = 71,
    /// The sync set grows and shrinks without a barrier.
    M73 = 73,
    /// A shorter deadline is not told to the guard.
    M74 = 74,
    /// The final position is asked for without an end of receiving.
    M75 = 75,
    /// An operator's request is answered without the lock and over any answer.
    M76 = 76,
    /// A wiped node still counts as a follower.
    M77 = 77,
    /// A `demote` that failed counts as done.
    M81 = 81,
    /// A planned handover does not wait until its successor has everything.
    M83 = 83,
    /// Nobody's silence counts.
    M84 = 84,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 58] = [
        Mutant::M01,
        Mutant::M02,
        Mutant::M03,
        Mutant::M04,
        Mutant::M05,
        Mutant::M06,
        Mutant::M07,
        Mutant::M08,
        Mutant::M09,
        Mutant::M10,
        Mutant::M12,
        Mutant::M13,
        Mutant::M14,
        Mutant::M15,
        Mutant::M16,
        Mutant::M17,
        Mutant::M18,
        Mutant::M19,
        Mutant::M20,
        Mutant::M21,
        Mutant::M22,
        Mutant::M23,
        Mutant::M24,
        Mutant::M25,
        Mutant::M28,
        Mutant::M29,
        Mutant::M30,
        Mutant::M31,
        Mutant::M32,
        Mutant::M33,
        Mutant::M34,
        Mutant::M35,
        Mutant::M36,
        Mutant::M37,
        Mutant::M39,
        Mutant::M38,
        Mutant::M40,
        Mutant::M47,
        Mutant::M50,
        Mutant::M60,
        Mutant::M61,
        Mutant::M62,
        Mutant::M63,
        Mutant::M64,
        Mutant::M65,
        Mutant::M66,
        Mutant::M67,
        Mutant::M68,
        Mutant::M69,
        Mutant::M71,
        Mutant::M73,
        Mutant::M74,
        Mutant::M75,
        Mutant::M76,
        Mutant::M77,
        Mutant::M81,
        Mutant::M83,
        Mutant::M84,
    ];

    /// By its number.
    pub fn of(number: u32) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| *mutant as u32 == number)
    }
}

/// Whether this fault is switched on.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<u32> = const { Cell::new(0) };
    }

    /// Whether this fault is switched on.
    #[inline]
    pub fn on(mutant: Mutant) -> bool {
        ACTIVE.get() == mutant as u32
    }

    /// Switches one fault on for this thread, or all off.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant.map_or(0, |m| m as u32));
    }
}

#[cfg(feature = "mutants")]
pub use switch::{on, set};

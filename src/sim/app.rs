//! The application: rows acknowledged to clients, copies that lag, acknowledgements of replicas.
//!
//! Rows are numbered by one counter of the whole world, so that every log is in ascending order and
//! two logs are compared by their ends. A log is what the volume holds; everything else dies with
//! the process.

use super::fault::Place;
use std::collections::BTreeMap;

/// Rows that a start after a crash as primary may cut off, those that others acknowledged too
/// (MariaDB's `init-rpl-role=SLAVE` removes what the engine had not committed).
pub const CUT_MOST: u64 = 2;

/// The data directory.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub rows: Vec<u64>,
    /// So many were acknowledged to somebody: a crash keeps them.
    pub safe: usize,
    /// It ended as a primary whose commits waited for others, without being asked to: so many rows
    /// were there when they began to.
    pub unclean: Option<usize>,
    /// The epoch under which it was last a primary, until it follows another one.
    pub led: Option<u64>,
    /// The next start may cut: another one leads a later epoch (as `pre-start` of MariaDB decides).
    pub cuts: bool,
}

impl Data {
    /// Whether these rows continue the own ones.
    pub fn is_begin_of(&self, other: &Data) -> bool {
        let len = self.rows.len();
        other.rows.len() >= len && (len == 0 || other.rows[len - 1] == self.rows[len - 1])
    }

    /// What both have, counted from the begin.
    pub fn common(&self, other: &Data) -> usize {
        let pairs = self.rows.iter().zip(&other.rows);
        pairs.take_while(|(own, theirs)| own == theirs).count()
    }

    pub fn cut(&mut self, len: usize) {
        self.rows.truncate(len);
        self.safe = self.safe.min(len);
    }

    pub fn has(&self, row: u64) -> bool {
        self.rows.binary_search(&row).is_ok()
    }
}

/// What commits wait for, as the application was last told.
#[derive(Clone, Debug, Default)]
pub struct Need {
    pub acks: usize,
    pub of: Vec<Place>,
}

/// The running process.
#[derive(Clone, Debug)]
pub struct App {
    pub pid: u32,
    /// From when on it serves.
    pub up: u64,
    pub writable: bool,
    /// Commits happen: the chain of writes runs.
    pub writes: bool,
    pub receives: Option<Place>,
    /// It tells the primary what it has.
    pub acks: bool,
    pub need: Need,
    /// The rows that were there when commits began to wait for others.
    pub before_need: usize,
    /// What each replica has told.
    pub got: BTreeMap<Place, usize>,
    /// So many rows were acknowledged to clients.
    pub acked: usize,
    /// It is being killed, and is gone soon.
    pub dying: bool,
}

impl App {
    pub fn new(pid: u32, up: u64, rows: usize) -> App {
        App {
            pid,
            up,
            writable: false,
            writes: false,
            receives: None,
            acks: false,
            need: Need::default(),
            before_need: rows,
            got: BTreeMap::new(),
            acked: rows,
            dying: false,
        }
    }

    /// Where a cut stops that a start after this moment's death may make.
    pub fn cut_from(&self) -> Option<usize> {
        (self.writable && self.need.acks > 0).then_some(self.before_need)
    }

    /// Whether commits wait, and not for this one.
    pub fn leaves_out(&self, place: Place) -> bool {
        self.need.acks > 0 && !self.need.of.contains(&place)
    }

    /// How many of `rows` are acknowledged by enough of those that count.
    pub fn acknowledged(&self, rows: usize) -> usize {
        if self.need.acks == 0 {
            return rows;
        }
        let counts = |place: &Place| self.need.of.contains(place);
        let told = self.got.iter().filter(|(place, _)| counts(place));
        let mut lens: Vec<usize> = told.map(|(_, len)| *len).collect();
        lens.sort_unstable_by(|a, b| b.cmp(a));
        lens.get(self.need.acks - 1).copied().unwrap_or(0).min(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_acknowledged_by_enough_of_those_that_count() {
        let mut app = App::new(1, 0, 0);
        assert_eq!(app.acknowledged(9), 9);
        app.need = Need { acks: 2, of: vec![1, 2] };
        app.got = BTreeMap::from([(1, 5), (2, 3), (3, 8)]);
        assert_eq!(app.acknowledged(9), 3);
        assert!(app.leaves_out(3) && !app.leaves_out(1));
        app.got.remove(&2);
        assert_eq!(app.acknowledged(9), 0);
    }
}

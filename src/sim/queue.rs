//! What is to happen, earliest first; of one moment, in the order in which it was said.
//!
//! The heap moves numbers, the events stay where they are: they are large, and there are many.

use super::world::Event;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Default)]
pub struct Queue {
    /// Time, order, place in `events`.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    seq: u64,
}

impl Queue {
    pub fn push(&mut self, t: u64, event: Event) {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        self.events[place] = Some(event);
        self.seq += 1;
        self.heap.push(Reverse((t, self.seq, place)));
    }

    pub fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((t, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (t, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_keeps_its_order_and_places_are_used_again() {
        let mut queue = Queue::default();
        for t in [5, 3, 5, 1] {
            queue.push(t, Event::Start { node: queue.events.len() });
        }
        let node = |event| {
            let Event::Start { node } = event else { panic!("another event") };
            node
        };
        let (t, event) = queue.pop().expect("four are in");
        assert_eq!((t, node(event)), (1, 3));
        queue.push(4, Event::Start { node: 9 });
        let rest: Vec<_> =
            std::iter::from_fn(|| queue.pop()).map(|(t, event)| (t, node(event))).collect();
        assert_eq!(rest, [(3, 1), (4, 9), (5, 0), (5, 2)]);
        assert_eq!(queue.events.len(), 4);
    }
}

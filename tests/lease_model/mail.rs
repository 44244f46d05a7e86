//! Requests for promises and their answers, on their way between nodes.

use crate::decide::lead::{LeadIn, Request};
use crate::decide::types::{Member, OpId};
use crate::world::{Fate, Ground, World};

/// A request on its way, or its answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mail {
    pub from: usize,
    pub id: OpId,
    pub of: Member,
    request: Request,
    /// The receiver's answer; it is on its way back.
    pub told: Option<bool>,
    /// The sender has no answer yet.
    pub waiting: bool,
}

impl Mail {
    pub fn new(from: usize, id: OpId, of: Member, request: Request) -> Mail {
        Mail { from, id, of, request, told: None, waiting: true }
    }
}

impl World {
    pub fn ask(&mut self, ground: &Ground, mail: Mail, fate: &mut Fate) {
        if *fate == Fate::LateAsk {
            *fate = Fate::Fine;
            self.mail.push(mail);
            return;
        }
        if *fate == Fate::EchoedAsk {
            *fate = Fate::Fine;
            self.mail.push(Mail { waiting: false, ..mail.clone() });
        }
        let told = self.asked(ground, &mail);
        self.told(ground, &mail, told, fate);
    }

    /// It arrives: whoever has the name and the disk answers, whatever its run. lictor asks one run
    /// alone; this is no less.
    fn asked(&mut self, ground: &Ground, mail: &Mail) -> bool {
        let named = |i: &usize| self.identity(*i).member() == mail.of && *i != mail.from;
        let Some(giver) = (0..self.nodes.len()).find(named) else { return false };
        let input = LeadIn::PromiseAsked { id: OpId(0), request: mail.request.clone() };
        self.feed(ground, giver, input, &mut Fate::Fine);
        // A node that is down answers nothing.
        self.promise.take().unwrap_or(false)
    }

    fn told(&mut self, ground: &Ground, mail: &Mail, promised: bool, fate: &mut Fate) {
        let result = if promised { Ok(()) } else { Err(String::new()) };
        self.feed(ground, mail.from, LeadIn::Promised { id: mail.id, result }, fate);
    }

    /// A request arrives late, or an answer does.
    pub fn delivered(&mut self, ground: &Ground, m: usize) -> bool {
        let mail = self.mail.remove(m);
        match mail.told {
            None => {
                let told = Some(self.asked(ground, &mail));
                if mail.waiting {
                    self.mail.push(Mail { told, ..mail });
                }
            }
            Some(promised) => {
                self.told(ground, &mail, promised, &mut Fate::Fine);
                self.live(mail.from);
            }
        }
        true
    }

    /// The sender waits no longer. A request that has not arrived may yet.
    pub fn unanswered(&mut self, ground: &Ground, m: usize) -> bool {
        let mail = self.mail.remove(m);
        if mail.told.is_none() {
            self.mail.push(Mail { waiting: false, ..mail.clone() });
        }
        self.told(ground, &mail, false, &mut Fate::Fine);
        self.live(mail.from);
        true
    }
}

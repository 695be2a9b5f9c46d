//! What shares anything is one group: a union-find over members, which are joined by the things that they hold.

use std::collections::HashMap;
use std::hash::Hash;

/// Members, numbered from 0, and who holds what.
#[derive(Debug)]
pub(super) struct Shared<Thing> {
    above: Vec<u32>,
    holders: HashMap<Thing, u32>,
}

impl<Thing: Eq + Hash> Shared<Thing> {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self { above: Vec::new(), holders: HashMap::new() }
    }

    /// One member more: its number.
    pub(super) fn add(&mut self) -> u32 {
        let member = self.above.len() as u32;
        self.above.push(member);
        member
    }

    /// The member that stands for the group of `member`: the first of them.
    pub(super) fn root(&mut self, mut member: u32) -> u32 {
        while let Some(&above) = self.above.get(member as usize)
            && above != member
        {
            let over = self.above.get(above as usize).copied().unwrap_or(above);
            if let Some(own) = self.above.get_mut(member as usize) {
                *own = over;
            }
            member = over;
        }
        member
    }

    /// Says that a member holds a thing: it is of one group with all others that do.
    pub(super) fn join(&mut self, member: u32, thing: Thing) {
        let other = *self.holders.entry(thing).or_insert(member);
        let (a, b) = (self.root(member), self.root(other));
        let (low, high) = (a.min(b), a.max(b));
        if let Some(above) = self.above.get_mut(high as usize) {
            *above = low;
        }
    }
}

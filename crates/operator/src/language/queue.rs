//! Answers that wait for a place, fairly by requester.

use std::collections::VecDeque;

use alloy_primitives::Address;

use super::Talk;

/// One line for each requester that waits; they take turns, each in its own order.
#[derive(Default)]
pub(super) struct Queue(VecDeque<(Address, VecDeque<Talk>)>);

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, talk: Talk) {
        let known = self.0.iter_mut().find(|line| line.0 == talk.requester);
        match known {
            Some((_, line)) => line.push_back(talk),
            None => self.0.push_back((talk.requester, VecDeque::from([talk]))),
        }
    }

    /// Lets go of those whose listener left.
    pub(super) fn tidy(&mut self) {
        self.0.retain_mut(|(_, line)| {
            line.retain(|talk| !talk.events.is_closed());
            !line.is_empty()
        });
    }

    /// The next one to get a place, where `held` tells how many places a requester has. Who has `most` or more stands
    /// back while another waits with less; a place never stays free for that.
    pub(super) fn pop(&mut self, most: usize, held: impl Fn(&Address) -> usize) -> Option<Talk> {
        let turn = self.0.iter().position(|(who, _)| held(who) < most);
        let (requester, mut line) = self.0.remove(turn.unwrap_or(0))?;
        let talk = line.pop_front();
        if !line.is_empty() {
            self.0.push_back((requester, line));
        }
        talk
    }
}

use assay_engine::FullRun;
use assay_graph::Sampling;
use assay_graph::trace::Tree;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::Answered;
use super::*;

/// Computes nothing; writes down by how many positions each prompt (its first token is its name) or answer advanced.
#[derive(Default)]
struct Paper(Mutex<Vec<Vec<(u32, usize)>>>);

struct Line {
    name: u32,
    pending: usize,
    said: u32,
}

impl Speaker for Paper {
    type Speech = Line;

    fn start(&self, prompt: &Prompt) -> Result<Line, String> {
        let (name, pending) = (prompt.tokens[0], prompt.tokens.len());
        let said = 0;
        Ok(Line {
            name,
            pending,
            said,
        })
    }

    fn step(&self, batch: &mut [&mut Line], chunk: usize) -> Result<(), String> {
        let mut pass = Vec::new();
        for line in batch {
            let rows = line.pending.min(chunk);
            line.pending -= rows;
            pass.push((line.name, rows));
        }
        self.0.lock().push(pass);
        Ok(())
    }

    fn pending(&self, line: &Line) -> usize {
        line.pending
    }

    fn logits<'s>(&self, _: &'s Line) -> &'s [i16] {
        &[]
    }

    fn sample(&self, line: &mut Line, _: Option<&[u8]>) -> Result<u32, String> {
        line.pending = 1;
        line.said += 1;
        Ok(7)
    }

    fn finish(&self, line: Line, prompt: &Prompt, _: &[Vec<u8>]) -> Result<Execution, String> {
        Ok(Execution {
            output: Vec::new(),
            trace_root: Default::default(),
            n_leaves: 0,
            n_in: prompt.tokens.len() as u32,
            n_out: line.said,
            mask_root: Default::default(),
        })
    }

    fn committed(&self, _: &Answered<'_>) -> Result<Tree, String> {
        Err("never".into())
    }

    fn segment(&self, _: &Answered<'_>, _: u32) -> Result<FullRun, String> {
        Err("never".into())
    }
}

fn desk(batch: usize) -> Desk<Paper> {
    Desk {
        speaker: Arc::default(),
        pace: Pace {
            batch,
            ..Pace::default()
        },
        waiting: Queue::default(),
        active: Vec::new(),
    }
}

impl Desk<Paper> {
    /// `requester` asks `name` for `out` tokens after a prompt of `length`.
    fn ask(
        &mut self,
        requester: u8,
        name: u32,
        length: usize,
        out: u32,
    ) -> UnboundedReceiver<TalkEvent> {
        let (events, receiver) = unbounded_channel();
        self.waiting.push(Talk {
            requester: Address::repeat_byte(requester),
            prompt: Prompt {
                tokens: vec![name; length],
                sampling: Sampling {
                    max_out: out,
                    ..Sampling::default()
                },
                salt: [0; 32],
            },
            masks: None,
            logprobs: None,
            stop: Arc::default(),
            events,
        });
        receiver
    }

    fn round(&mut self) {
        self.admit();
        self.pass();
        self.choose();
    }

    /// Who holds the places, in the order in which they got them.
    fn places(&self) -> Vec<u8> {
        let active = self.active.iter();
        active.map(|one| one.talk.requester[0]).collect()
    }
}

#[test]
fn prompts_share_one_budget_and_answers_always_go_along() {
    let mut desk = desk(8);
    let _speaks = desk.ask(1, 0, 300, 1000);
    desk.round();
    desk.round();
    let _prompts: Vec<_> = (1..8).map(|i| desk.ask(1, i, 150, 1000)).collect();
    while desk.active.iter().any(|one| one.said.is_empty()) || desk.active.len() < 8 {
        desk.round();
    }
    let passes = std::mem::take(&mut *desk.speaker.0.lock());
    // Alone a prompt has 256 positions; an answer beside it leaves it 64, and the young ones wait for the old.
    assert_eq!(passes[..2], [[(0, 256)], [(0, 44)]]);
    assert_eq!(passes[2], [(0, 1), (1, 64)]);
    assert_eq!(passes[3], [(0, 1), (1, 64)]);
    assert_eq!(passes[4], [(0, 1), (1, 22)]);
    assert_eq!(passes[5], [(0, 1), (1, 1), (2, 64)]);
    for pass in &passes[2..] {
        let rows: usize = pass.iter().map(|(_, rows)| rows).sum();
        assert!(pass[0] == (0, 1) && rows <= 64 + 7, "{pass:?}");
    }
    assert_eq!(passes.len(), 2 + 7 * 3);
}

#[test]
fn short_prompts_fill_the_budget() {
    let pace = Pace::default();
    let plan = |unread: &[usize]| pace.plan(unread);
    assert_eq!(plan(&[9, 9, 300]), (vec![true, true, false], 256));
    assert_eq!(plan(&[300, 9, 9]), (vec![true, false, false], 256));
    assert_eq!(
        plan(&[0, 40, 30, 24, 0]),
        (vec![true, true, false, true, true], 64)
    );
    assert_eq!(plan(&[0, 0]), (vec![true, true], 64));
    let none = Pace {
        chunk_shared: 0,
        ..pace
    };
    assert_eq!(none.plan(&[0, 5, 5]), (vec![true, true, false], 1));
}

#[test]
fn free_places_go_to_another_requester_up_to_a_half() {
    let mut desk = desk(8);
    // Alone a requester has all places.
    let first: Vec<_> = (0..20).map(|i| desk.ask(1, i, 9, 1000)).collect();
    desk.round();
    assert_eq!(desk.places(), [1; 8]);
    // Another comes: it gets what comes free, up to a half, before the first gets any.
    let second: Vec<_> = (0..20).map(|i| desk.ask(2, i, 9, 1000)).collect();
    let mut first = first.into_iter();
    for freed in 1..=6 {
        drop(first.next());
        desk.round();
        let second = desk.places().iter().filter(|who| **who == 2).count();
        assert_eq!(second, freed.min(4));
    }
    // Once all that the second asked for is gone, the first has all places again.
    drop(second);
    desk.round();
    assert_eq!(desk.places(), [1; 8]);
}

#[test]
fn requesters_take_turns() {
    let mut wide = desk(8);
    let _many: Vec<_> = (0..20).map(|i| wide.ask(1, i, 9, 1000)).collect();
    let _few: Vec<_> = (0..2).map(|i| wide.ask(2, i, 9, 1000)).collect();
    let _more: Vec<_> = (0..20).map(|i| wide.ask(3, i, 9, 1000)).collect();
    wide.round();
    assert_eq!(wide.places(), [1, 2, 3, 1, 2, 3, 1, 3]);
    // One place is for one after the other, and odd places are not left free.
    let mut narrow = desk(1);
    let _many: Vec<_> = (0..5).map(|i| narrow.ask(1, i, 9, 1)).collect();
    let _few: Vec<_> = (0..2).map(|i| narrow.ask(2, i, 9, 1)).collect();
    let served = |desk: &mut Desk<Paper>| {
        desk.admit();
        let place = desk.places();
        desk.round();
        place
    };
    let turns: Vec<u8> = (0..7).flat_map(|_| served(&mut narrow)).collect();
    assert_eq!(turns, [1, 2, 1, 2, 1, 1, 1]);
    let mut odd = desk(3);
    let _many: Vec<_> = (0..10)
        .map(|i| odd.ask(1 + (i % 2) as u8, i, 9, 9))
        .collect();
    odd.round();
    assert_eq!(odd.places(), [1, 2, 1]);
}

/// Allows everything until it is worn out.
struct Worn {
    masks: usize,
    accepts: usize,
}

fn wear(left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or("too costly")?;
    Ok(())
}

impl MaskSource for Worn {
    fn mask(&mut self) -> Result<Vec<u8>, String> {
        wear(&mut self.masks).map(|()| vec![0xff])
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        wear(&mut self.accepts)
    }
}

#[test]
fn a_grammar_that_can_not_go_on_is_not_the_models_fault() {
    for (masks, accepts, said) in [(2, 9, 2), (9, 2, 2)] {
        let mut desk = desk(8);
        let mut other = desk.ask(2, 0, 9, 5);
        let mut events = desk.ask(1, 1, 9, 5);
        let mut talk = desk.waiting.pop(1, |who| usize::from(who[0] == 2)).unwrap();
        talk.masks = Some(Box::new(Worn { masks, accepts }));
        desk.waiting.push(talk);
        (0..6).for_each(|_| desk.round());
        for _ in 0..said {
            assert!(matches!(events.try_recv(), Ok(TalkEvent::Token { .. })));
        }
        let last = events.try_recv();
        assert!(
            matches!(&last, Ok(TalkEvent::Grammar(reason)) if reason == "too costly"),
            "{last:?}"
        );
        // Its neighbour goes on.
        for _ in 0..5 {
            assert!(matches!(other.try_recv(), Ok(TalkEvent::Token { .. })));
        }
        assert!(matches!(other.try_recv(), Ok(TalkEvent::Done { .. })));
    }
}

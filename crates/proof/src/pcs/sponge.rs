//! The random oracle inside an opening: a chain of Blake3 digests, and the search for its proofs of work.
//!
//! A state is the bytes absorbed since the last digest. The first byte drawn hashes them; the digest is both the output and the start of the next state. An absorbed byte discards
//! what was left of the output, so everything drawn depends on everything said before.

use p3_challenger::{ByteGrindingChallenger, CanObserve, CanSample, SerializingChallenger32};

use crate::{
    field::{EF, F, encode},
    transcript::Transcript,
};

/// What the commitment scheme draws its challenges from.
pub(crate) type OpeningChallenger = SerializingChallenger32<F, Sponge>;

/// Bytes in, digests out.
#[derive(Clone, Debug)]
pub(crate) struct Sponge {
    state: Vec<u8>,
    output: [u8; 32],
    used: usize,
}

impl Sponge {
    fn new(state: Vec<u8>) -> Self {
        Self {
            state,
            output: [0; 32],
            used: 32,
        }
    }
}

impl CanObserve<u8> for Sponge {
    fn observe(&mut self, value: u8) {
        self.used = 32;
        self.state.push(value);
    }

    fn observe_slice(&mut self, values: &[u8]) {
        if !values.is_empty() {
            self.used = 32;
            self.state.extend_from_slice(values);
        }
    }
}

impl CanSample<u8> for Sponge {
    fn sample(&mut self) -> u8 {
        if self.used == 32 {
            self.output = *blake3::hash(&self.state).as_bytes();
            self.used = 0;
            self.state.clear();
            self.state.extend_from_slice(&self.output);
        }
        self.used += 1;
        self.output[self.used - 1]
    }
}

impl ByteGrindingChallenger for Sponge {
    /// The smallest candidate that passes, so that a proof is a function of its input.
    fn find_witness<const W: usize, const S: usize>(
        &self,
        candidates: u64,
        encode: impl Fn(u64) -> [u8; W] + Sync,
        accepts: impl Fn([u8; S]) -> bool + Sync,
    ) -> Option<u64> {
        if let (Ok(state), 4, true) = (<[u8; 32]>::try_from(&self.state[..]), W, S <= 4) {
            // an answer in the last batch may lie past the end: no candidate then
            return (0..candidates)
                .step_by(LANES)
                .find_map(|first| {
                    let word = |i| {
                        encode(first + i as u64)
                            .first_chunk()
                            .map_or(0, |b| u32::from_le_bytes(*b))
                    };
                    let outputs = hash_words(&state, &std::array::from_fn(word));
                    let pass =
                        |out: &u32| out.to_le_bytes().first_chunk().is_some_and(|b| accepts(*b));
                    outputs.iter().position(pass).map(|i| first + i as u64)
                })
                .filter(|found| *found < candidates);
        }
        (0..candidates).find(|candidate| {
            let mut copy = self.clone();
            copy.observe_slice(&encode(*candidate));
            accepts(copy.sample_array())
        })
    }
}

/// Starts the random oracle of an opening from the transcript.
pub(crate) fn fork(transcript: &mut Transcript) -> OpeningChallenger {
    let mut state = b"assay proof opening v1".to_vec();
    for challenge in transcript.challenges(2) {
        encode(&challenge, &mut state);
    }
    OpeningChallenger::new(Sponge::new(state))
}

/// Binds the transcript to all that was said in an opening.
pub(crate) fn join(mut challenger: OpeningChallenger, transcript: &mut Transcript) {
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let drawn: EF = challenger.sample();
        encode(&drawn, &mut bytes);
    }
    transcript.absorb("opening", &bytes);
}

/// Candidates hashed side by side; the compiler makes vectors of them.
const LANES: usize = 16;
type Lanes = [u32; LANES];

const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// First and last block of the only chunk: its output is the digest.
const FLAGS: u32 = 1 | 2 | 8;

/// First word of `blake3(state ‖ word)` for each word.
fn hash_words(state: &[u8; 32], words: &Lanes) -> Lanes {
    let mut m = [0; 16];
    for (m, bytes) in m.iter_mut().zip(state.as_chunks::<4>().0) {
        *m = u32::from_le_bytes(*bytes);
    }
    let mut out = [0; LANES];
    for l in 0..LANES {
        out[l] = hash_word(&m, words[l]);
    }
    out
}

/// The compression of one block of 36 bytes. Straight-line code, so that the loop around it becomes vector instructions.
// the last round's values that no output needs
#[allow(unused_assignments)]
#[inline(always)]
fn hash_word(m: &[u32; 16], word: u32) -> u32 {
    let [
        mut a0,
        mut a1,
        mut a2,
        mut a3,
        mut b0,
        mut b1,
        mut b2,
        mut b3,
    ] = IV;
    let [mut c0, mut c1, mut c2, mut c3, ..] = IV;
    let [mut d0, mut d1, mut d2, mut d3] = [0, 0, 36, FLAGS];
    let m = |i: usize| if i == 8 { word } else { m[i] };
    macro_rules! mix {
        ($a:ident $b:ident $c:ident $d:ident $x:literal $y:literal) => {
            $a = $a.wrapping_add($b).wrapping_add(m($x));
            $d = ($d ^ $a).rotate_right(16);
            $c = $c.wrapping_add($d);
            $b = ($b ^ $c).rotate_right(12);
            $a = $a.wrapping_add($b).wrapping_add(m($y));
            $d = ($d ^ $a).rotate_right(8);
            $c = $c.wrapping_add($d);
            $b = ($b ^ $c).rotate_right(7);
        };
    }
    // columns, then diagonals
    macro_rules! round {
        ($($i:literal)*) => { round!(@ $($i)*) };
        (@ $m0:literal $m1:literal $m2:literal $m3:literal $m4:literal $m5:literal $m6:literal $m7:literal
           $m8:literal $m9:literal $ma:literal $mb:literal $mc:literal $md:literal $me:literal $mf:literal) => {
            mix!(a0 b0 c0 d0 $m0 $m1);
            mix!(a1 b1 c1 d1 $m2 $m3);
            mix!(a2 b2 c2 d2 $m4 $m5);
            mix!(a3 b3 c3 d3 $m6 $m7);
            mix!(a0 b1 c2 d3 $m8 $m9);
            mix!(a1 b2 c3 d0 $ma $mb);
            mix!(a2 b3 c0 d1 $mc $md);
            mix!(a3 b0 c1 d2 $me $mf);
        };
    }
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8);
    round!(3 4 10 12 13 2 7 14 6 5 9 0 11 15 8 1);
    round!(10 7 12 9 14 3 13 15 4 0 11 2 5 8 1 6);
    round!(12 13 9 11 15 10 14 8 7 2 5 3 0 1 6 4);
    round!(9 14 11 5 8 12 15 1 13 3 0 10 2 6 4 7);
    round!(11 15 5 0 1 9 8 6 14 10 2 12 3 4 7 13);
    a0 ^ c0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "a measurement"]
    fn speed_of_work() {
        let mut words = [0; LANES];
        let start = std::time::Instant::now();
        for i in 0..100_000 {
            words[0] = i;
            words = hash_words(&[1; 32], &words);
        }
        let ns = start.elapsed().as_secs_f64() * 1e9 / (1e5 * LANES as f64);
        println!("{ns:.1} ns per candidate ({})", words[3]);
    }

    #[test]
    fn words_are_hashed_as_blake3_does() {
        let state: [u8; 32] = std::array::from_fn(|i| (i * 7) as u8);
        let words: Lanes = std::array::from_fn(|i| (i as u32).wrapping_mul(0x9e37_79b9));
        for (word, out) in words.into_iter().zip(hash_words(&state, &words)) {
            let mut message = state.to_vec();
            message.extend_from_slice(&word.to_le_bytes());
            assert_eq!(blake3::hash(&message).as_bytes()[..4], out.to_le_bytes());
        }
    }
}

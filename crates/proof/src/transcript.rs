//! The transcript: what was said so far decides the challenges (Fiat–Shamir over Blake3).
//!
//! Both sides run the same schedule, which follows from the plan. The prover *sends*: a message is absorbed and appended to the proof. The verifier *receives*: the same bytes are
//! taken from the proof and absorbed. A challenge can be drawn only through this type, so everything said before binds it. Lengths come from the plan, never from the proof.

use p3_blake3::Blake3;
use p3_challenger::{CanObserve, CanSample, HashChallenger, SerializingChallenger32};
use p3_field::PrimeCharacteristicRing;

use crate::{
    error::VerifyError,
    field::{EF, EF_BYTES, F, decode, encode},
};

/// The challenger of Plonky3 that the commitment scheme shares with us.
pub(crate) type Challenger = SerializingChallenger32<F, HashChallenger<u8, Blake3, 32>>;

/// State shared by both sides.
#[derive(Clone)]
pub(crate) struct Transcript {
    challenger: Challenger,
}

impl Transcript {
    /// A transcript that has absorbed a domain tag.
    pub(crate) fn new(domain: &[u8]) -> Self {
        Self {
            challenger: Challenger::from_hasher(domain.to_vec(), Blake3),
        }
    }

    /// Absorbs bytes that both sides know: their hash, so that no length is ambiguous.
    pub(crate) fn absorb(&mut self, label: &'static str, bytes: &[u8]) {
        let mut hasher = blake3::Hasher::new_derive_key("assay proof transcript v1");
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
        hasher.update(bytes);
        for word in hasher.finalize().as_bytes().as_chunks::<2>().0 {
            self.challenger
                .observe(F::from_u16(u16::from_le_bytes(*word)));
        }
    }

    fn absorb_elements(&mut self, label: &'static str, values: &[EF]) {
        let mut bytes = Vec::with_capacity(values.len() * EF_BYTES);
        for v in values {
            encode(v, &mut bytes);
        }
        self.absorb(label, &bytes);
    }

    /// A challenge, uniform in the extension field.
    pub(crate) fn challenge(&mut self) -> EF {
        self.challenger.sample()
    }

    /// `n` challenges.
    #[must_use]
    pub(crate) fn challenges(&mut self, n: usize) -> Vec<EF> {
        (0..n).map(|_| self.challenge()).collect()
    }
}

/// What the prover and the verifier do alike in a protocol step: exchange elements, draw challenges.
pub(crate) trait Channel {
    /// The shared state.
    fn transcript(&mut self) -> &mut Transcript;
}

/// Changes a message before it is sent.
pub(crate) type Lie<'a> = &'a mut dyn FnMut(&'static str, &mut Vec<EF>);

/// The prover's end.
pub(crate) struct Sender<'a> {
    pub(crate) transcript: Transcript,
    pub(crate) bytes: Vec<u8>,
    /// Tests lie here: called with the label and the message before it is absorbed.
    pub(crate) tamper: Option<Lie<'a>>,
    /// In hiding mode what is added to messages.
    veil: Option<Veil>,
}

/// One-time pads: committed random numbers, of which each hides one number.
struct Veil {
    pads: Vec<EF>,
    /// What was said, without the pads.
    said: Vec<EF>,
}

impl Veil {
    fn say(&mut self, v: EF) -> EF {
        let pad = self.pads.get(self.said.len());
        self.said.push(v);
        // without a pad nothing is said; plans have enough
        pad.map_or(EF::ZERO, |pad| v + *pad)
    }
}

impl<'a> Sender<'a> {
    pub(crate) fn new(transcript: Transcript, tamper: Option<Lie<'a>>) -> Self {
        Self {
            transcript,
            bytes: Vec::new(),
            tamper,
            veil: None,
        }
    }

    /// Hides what is said from now on.
    pub(crate) fn hide(&mut self, pads: Vec<EF>) {
        self.veil = Some(Veil {
            pads,
            said: Vec::new(),
        });
    }

    /// The hidden numbers so far.
    pub(crate) fn numbers(&self) -> &[EF] {
        self.veil.as_ref().map_or(&[], |veil| &veil.said)
    }

    /// A hidden number that nothing is said about: minus its pad.
    pub(crate) fn fresh(&mut self) -> EF {
        let Some(veil) = &mut self.veil else {
            return EF::ZERO;
        };
        let pad = veil.pads.get(veil.said.len());
        let number = pad.map_or(EF::ZERO, |pad| -*pad);
        veil.said.push(number);
        number
    }

    /// Sends field elements, hidden in hiding mode.
    pub(crate) fn send(&mut self, label: &'static str, values: &[EF]) {
        self.send_where(label, values, |_| false);
    }

    /// Sends field elements that are said openly in either mode.
    pub(crate) fn send_open(&mut self, label: &'static str, values: &[EF]) {
        self.send_where(label, values, |_| true);
    }

    /// Sends field elements; those at which `open` holds are said openly in either mode.
    pub(crate) fn send_where(
        &mut self,
        label: &'static str,
        values: &[EF],
        open: impl Fn(usize) -> bool,
    ) {
        let mut values = values.to_vec();
        if let Some(tamper) = &mut self.tamper {
            tamper(label, &mut values);
        }
        if let Some(veil) = &mut self.veil {
            let hidden = values.iter_mut().enumerate().filter(|(i, _)| !open(*i));
            hidden.for_each(|(_, v)| *v = veil.say(*v));
        }
        self.transcript.absorb_elements(label, &values);
        for v in &values {
            encode(v, &mut self.bytes);
        }
    }

    /// Sends a section of bytes whose length the plan does not fix: length `u32`, then the bytes.
    pub(crate) fn send_section(&mut self, bytes: &[u8]) {
        self.bytes
            .extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }
}

impl Channel for Sender<'_> {
    fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }
}

/// The verifier's end.
pub(crate) struct Receiver<'a> {
    pub(crate) transcript: Transcript,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(transcript: Transcript, bytes: &'a [u8]) -> Self {
        Self {
            transcript,
            bytes,
            offset: 0,
        }
    }

    /// The next `n` bytes, not absorbed.
    ///
    /// # Errors
    /// [`VerifyError::Decode`] when there are fewer.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], VerifyError> {
        let end = self.offset.checked_add(n);
        let part = end.and_then(|end| self.bytes.get(self.offset..end));
        let part = part.ok_or(VerifyError::Decode {
            offset: self.offset,
            why: "the proof ends too early",
        })?;
        self.offset += n;
        Ok(part)
    }

    /// `n` field elements, absorbed.
    ///
    /// # Errors
    /// [`VerifyError::Decode`] for missing bytes or coefficients not below the modulus.
    pub(crate) fn receive(
        &mut self,
        label: &'static str,
        n: usize,
    ) -> Result<Vec<EF>, VerifyError> {
        let offset = self.offset;
        let len = n.checked_mul(EF_BYTES).ok_or(VerifyError::Decode {
            offset,
            why: "a length",
        })?;
        let bytes = self.take(len)?;
        let values = bytes
            .chunks_exact(EF_BYTES)
            .map(decode)
            .collect::<Option<Vec<_>>>();
        let values = values.ok_or(VerifyError::Decode {
            offset,
            why: "a field element is not canonical",
        })?;
        self.transcript.absorb_elements(label, &values);
        Ok(values)
    }

    /// A section of at most `cap` bytes, not absorbed.
    ///
    /// # Errors
    /// [`VerifyError::Decode`].
    pub(crate) fn section(&mut self, cap: usize) -> Result<&'a [u8], VerifyError> {
        let offset = self.offset;
        let len = self.take(4)?;
        let len = <[u8; 4]>::try_from(len).map_or(usize::MAX, |b| u32::from_le_bytes(b) as usize);
        if len > cap {
            return Err(VerifyError::Decode {
                offset,
                why: "a section is too long",
            });
        }
        self.take(len)
    }

    /// The same place in bytes that have grown.
    pub(crate) fn resume(transcript: Transcript, bytes: &'a [u8], offset: usize) -> Self {
        Self {
            transcript,
            bytes,
            offset,
        }
    }

    /// How many bytes were read.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes that were not read.
    pub(crate) fn rest(&self) -> usize {
        self.bytes.len() - self.offset
    }
}

impl Channel for Receiver<'_> {
    fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }
}

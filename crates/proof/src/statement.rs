//! What a proof says: these runs of this model gave these outputs.

use assay_graph::{Data, Structure, TensorType};

use crate::{error::VerifyError, params::PARAM_SET, sampling::check_sampling};

/// Version of the statement and of the proof that follows it.
pub const VERSION: u16 = 1;
/// Most bytes of a context.
pub const MAX_CONTEXT: usize = 256;
/// Most runs in a proof.
pub const MAX_RUNS: usize = 4096;

/// How a verifier knows the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// By the key's commitment; the proof opens it.
    Committed = 0,
    /// It holds them; nothing is opened, and a chain does not accept the proof.
    Direct = 1,
    /// As in [`Mode::Committed`]; it does not know the inputs and learns nothing about the runs but the outputs.
    Hiding = 2,
}

/// One run: the canonical bytes of its input and output tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Of a generative model: prompt and answer. Empty in hiding mode.
    pub input: Vec<u8>,
    /// The output tensor.
    pub output: Vec<u8>,
    /// The encoded sampling statement of a generative model, else empty.
    pub sampling: Vec<u8>,
}

/// What is proven. All runs have the same numbers of positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// How the verifier knows the weights.
    pub mode: Mode,
    /// The model.
    pub model_id: [u8; 32],
    /// The key, see [`crate::Key::id`]; zero in direct mode.
    pub key_id: [u8; 32],
    /// Positions of each run.
    pub seq: u32,
    /// Positions that answer.
    pub out: u32,
    /// Nodes, ascending, in which a clamp acts or a carry is long: those of other nodes need fewer cells. A matter of the proof's form, not of what it says.
    pub restless: Vec<u32>,
    /// Most cells of a stage of the proof, 0 for a proof in one stage. A matter of the proof's form, too.
    pub stage: u32,
    /// At least one.
    pub runs: Vec<Run>,
    /// Bound to the proof, not interpreted: chain, claim, request; at most [`MAX_CONTEXT`] bytes.
    pub context: Vec<u8>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], VerifyError> {
        let end = self.offset.checked_add(n);
        let part = end.and_then(|end| self.bytes.get(self.offset..end));
        let part = part.ok_or(VerifyError::Decode {
            offset: self.offset,
            why: "the statement ends too early",
        })?;
        self.offset += n;
        Ok(part)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], VerifyError> {
        let offset = self.offset;
        self.take(N)?.try_into().map_err(|_| VerifyError::Decode {
            offset,
            why: "a number",
        })
    }

    fn u32(&mut self) -> Result<u32, VerifyError> {
        self.number().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, VerifyError> {
        self.number().map(u16::from_le_bytes)
    }

    fn section(&mut self) -> Result<Vec<u8>, VerifyError> {
        let n = self.u32()? as usize;
        self.take(n).map(<[u8]>::to_vec)
    }
}

impl Statement {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&PARAM_SET.to_le_bytes());
        out.push(self.mode as u8);
        out.extend_from_slice(&self.model_id);
        out.extend_from_slice(&self.key_id);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.out.to_le_bytes());
        out.extend_from_slice(&(self.restless.len() as u32).to_le_bytes());
        for node in &self.restless {
            out.extend_from_slice(&node.to_le_bytes());
        }
        out.extend_from_slice(&self.stage.to_le_bytes());
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            for part in [&run.input, &run.output, &run.sampling] {
                out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&(self.context.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.context);
        out
    }

    /// Reads a statement at the start of `bytes`. Returns it and how many bytes it has.
    ///
    /// # Errors
    /// [`VerifyError::Decode`], [`VerifyError::Unknown`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), VerifyError> {
        let mut r = Reader { bytes, offset: 0 };
        let known = |what, have: u32, want: u32| {
            if have == want {
                Ok(())
            } else {
                Err(VerifyError::Unknown { what, have })
            }
        };
        known("version", r.u16()?.into(), VERSION.into())?;
        known("parameter set", r.u16()?.into(), PARAM_SET.into())?;
        let mode = match r.number::<1>()? {
            [0] => Mode::Committed,
            [1] => Mode::Direct,
            [2] => Mode::Hiding,
            [other] => {
                return Err(VerifyError::Unknown {
                    what: "mode",
                    have: other.into(),
                });
            }
        };
        let (model_id, key_id) = (r.number()?, r.number()?);
        let (seq, out) = (r.u32()?, r.u32()?);
        let mut restless: Vec<u32> = Vec::new();
        for _ in 0..r.u32()? {
            let offset = r.offset;
            let node = r.u32()?;
            if restless.last().is_some_and(|last| *last >= node) {
                return Err(VerifyError::Decode {
                    offset,
                    why: "nodes in ascending order",
                });
            }
            restless.push(node);
        }
        let stage = r.u32()?;
        let n = r.u32()? as usize;
        if n == 0 || n > MAX_RUNS {
            return Err(VerifyError::StatementShape {
                field: "runs",
                why: format!("{n} runs, 1 to {MAX_RUNS} are possible"),
            });
        }
        let mut runs = Vec::new();
        for _ in 0..n {
            runs.push(Run {
                input: r.section()?,
                output: r.section()?,
                sampling: r.section()?,
            });
        }
        let n = usize::from(r.u16()?);
        if n > MAX_CONTEXT {
            return Err(VerifyError::StatementShape {
                field: "context",
                why: format!("{n} bytes, at most {MAX_CONTEXT} are possible"),
            });
        }
        let context = r.take(n)?.to_vec();
        let statement = Self {
            mode,
            model_id,
            key_id,
            seq,
            out,
            restless,
            stage,
            runs,
            context,
        };
        statement.check_mode()?;
        Ok((statement, r.offset))
    }

    /// In hiding mode nothing is said about the runs but their outputs; in the others the inputs are.
    fn check_mode(&self) -> Result<(), VerifyError> {
        let hiding = self.mode == Mode::Hiding;
        let fits =
            |run: &Run| run.input.is_empty() == hiding && (run.sampling.is_empty() || !hiding);
        if !self.runs.iter().all(fits) {
            return Err(VerifyError::StatementShape {
                field: "input",
                why: "runs have one in all modes but the hiding one".into(),
            });
        }
        if hiding && !(self.restless.is_empty() && self.stage == 0) {
            return Err(VerifyError::StatementShape {
                field: "nodes",
                why: "in hiding mode none is named, and there is one stage".into(),
            });
        }
        Ok(())
    }

    /// Integers of all inputs and of all outputs, checked against the graph's shapes. In hiding mode there are no inputs.
    pub(crate) fn tensors(
        &self,
        structure: &Structure,
    ) -> Result<(Vec<i32>, Vec<i32>), VerifyError> {
        self.check_mode()?;
        let wrong = |field, why: String| VerifyError::StatementShape { field, why };
        let hiding = self.mode == Mode::Hiding;
        if hiding && structure.is_generative() {
            return Err(wrong("mode", "tokens can't be hidden".into()));
        }
        let extent = assay_graph::Extent {
            seq: self.seq,
            out: self.out,
        };
        if self.seq == 0
            || self.seq > structure.header.max_seq
            || self.out == 0
            || self.out > self.seq
        {
            return Err(wrong(
                "positions",
                format!(
                    "{} of {}, the model takes {}",
                    self.out, self.seq, structure.header.max_seq
                ),
            ));
        }
        let most = structure.nodes.len();
        let order = self.restless.windows(2).all(|w| w[0] < w[1]);
        if !order || self.restless.last().is_some_and(|n| *n as usize >= most) {
            return Err(wrong("nodes", "there are no such nodes".into()));
        }
        let (Some(first), Some(last)) = (structure.types.first(), structure.types.last()) else {
            return Err(wrong("model", "the graph is empty".into()));
        };
        let read = |field, ty: &TensorType, part: fn(&Run) -> &Vec<u8>| {
            let mut all = Vec::new();
            for run in &self.runs {
                let bytes = part(run);
                let want = ty.len(extent) * ty.dtype.size();
                if bytes.len() != want {
                    return Err(wrong(
                        field,
                        format!("{} bytes instead of {want}", bytes.len()),
                    ));
                }
                let data =
                    Data::from_bytes(ty.dtype, bytes).map_err(|e| wrong(field, e.to_string()))?;
                all.extend(data.to_i32());
            }
            Ok(all)
        };
        let inputs = if hiding {
            Vec::new()
        } else {
            read("input", first, |r| &r.input)?
        };
        let outputs = read("output", last, |r| &r.output)?;
        let tokens = inputs.chunks(first.len(extent).max(1));
        let answers = outputs.chunks(last.len(extent).max(1));
        for (run, (tokens, answer)) in self.runs.iter().zip(tokens.zip(answers)) {
            check_sampling(structure, &run.sampling, tokens, answer)
                .map_err(|why| wrong("sampling", why.into()))?;
        }
        Ok((inputs, outputs))
    }
}

//! The file that carries a proof: key and proof beside each other, so that it can be checked alone (docs/proof.md, "Files").

use thiserror::Error;

/// First bytes of the file.
pub const PROOF_FILE_MAGIC: [u8; 8] = *b"assayprf";
/// Version of the container.
const VERSION: u16 = 1;
/// Largest key and largest proof that are read, bytes.
const MAX_KEY: usize = 64 << 20;
const MAX_PROOF: usize = 64 << 20;
/// Largest file, bytes.
pub const MAX_PROOF_FILE: usize = PROOF_FILE_MAGIC.len() + 2 + 4 + MAX_KEY + 4 + MAX_PROOF;

/// Why bytes are no proof file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofFileError {
    /// It begins differently.
    #[error("it does not begin like a proof file")]
    Magic,
    /// Written by another version.
    #[error("it is of version {0}, version 1 is known")]
    Version(u16),
    /// It ends inside a part.
    #[error("it ends inside the {0}")]
    Short(&'static str),
    /// A part is larger than is read.
    #[error("the {part} has {have} bytes, at most {limit} are read")]
    Large {
        /// `key` or `proof`.
        part: &'static str,
        /// Its length.
        have: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes behind the last part.
    #[error("{0} bytes after its end")]
    Trailing(usize),
}

/// The parts of a proof file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// The encoded verifying key; empty for proofs to verifiers that hold the weights.
    pub key: Vec<u8>,
    /// The encoded proof, with its statement.
    pub proof: Vec<u8>,
}

impl ProofFile {
    /// Whether bytes begin like a proof file.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(&PROOF_FILE_MAGIC)
    }

    /// The one form of these parts.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = PROOF_FILE_MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        for part in [&self.key, &self.proof] {
            // parts above 4 GiB are refused by every reader
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    /// Splits a file; the parts are looked at by whoever verifies them.
    ///
    /// # Errors
    /// [`ProofFileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofFileError> {
        let rest = bytes
            .strip_prefix(&PROOF_FILE_MAGIC)
            .ok_or(ProofFileError::Magic)?;
        let (version, mut rest) = rest
            .split_first_chunk::<2>()
            .ok_or(ProofFileError::Short("version"))?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            other => return Err(ProofFileError::Version(other)),
        }
        let mut take = |part, limit| {
            let (len, after) = rest
                .split_first_chunk::<4>()
                .ok_or(ProofFileError::Short(part))?;
            let have = u32::from_le_bytes(*len) as usize;
            if have > limit {
                return Err(ProofFileError::Large { part, have, limit });
            }
            let (bytes, after) = after
                .split_at_checked(have)
                .ok_or(ProofFileError::Short(part))?;
            rest = after;
            Ok(bytes.to_vec())
        };
        let file = Self {
            key: take("key", MAX_KEY)?,
            proof: take("proof", MAX_PROOF)?,
        };
        match rest.len() {
            0 => Ok(file),
            n => Err(ProofFileError::Trailing(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_form() {
        let file = ProofFile {
            key: vec![1, 2, 3],
            proof: vec![9; 5],
        };
        let bytes = file.encode();
        assert_eq!(
            bytes,
            b"assayprf\x01\x00\x03\x00\x00\x00\x01\x02\x03\x05\x00\x00\x00\x09\x09\x09\x09\x09"
        );
        assert_eq!(ProofFile::decode(&bytes), Ok(file));
        for end in 0..bytes.len() {
            assert!(ProofFile::decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(ProofFile::decode(&long), Err(ProofFileError::Trailing(1)));
        let mut other = bytes.clone();
        other[8] = 2;
        assert_eq!(ProofFile::decode(&other), Err(ProofFileError::Version(2)));
        let mut large = bytes;
        large[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            ProofFile::decode(&large),
            Err(ProofFileError::Large { part: "key", .. })
        ));
    }
}

//! Which instruction set the kernels of an engine use, decided at run time.

use std::fmt;

use crate::EngineError;

/// Instruction set of the kernels. All tiers give the same bits; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Portable Rust, no target features beyond the build's own.
    Scalar,
    /// 256-bit integer SIMD (`vpmaddwd`).
    Avx2,
    /// 512-bit integer SIMD with dot products (`vpdpbusd`, `vpdpwssd`).
    Avx512Vnni,
}

impl Tier {
    /// Every tier, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512Vnni];

    /// Name as used by `ASSAY_KERNEL`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// The tier called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Whether this machine can run the tier.
    pub fn is_available(self) -> bool {
        Isa::new(self).is_some()
    }

    /// The tiers of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|t| t.is_available()).collect()
    }

    /// The fastest tier of this machine.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }

    /// `ASSAY_KERNEL` if set, else the fastest tier.
    ///
    /// # Errors
    /// [`EngineError::UnknownTier`] and [`EngineError::TierUnavailable`] for a value that this machine can't honour.
    pub fn from_env() -> Result<Self, EngineError> {
        match std::env::var("ASSAY_KERNEL") {
            Ok(name) if !name.is_empty() => {
                let tier = Self::from_name(&name).ok_or(EngineError::UnknownTier { name })?;
                if tier.is_available() {
                    Ok(tier)
                } else {
                    Err(EngineError::TierUnavailable { tier })
                }
            }
            _ => Ok(Self::detect()),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Proof that this machine runs `tier`: it can only be made by asking the CPU, so kernels that take one may use its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    tier: Tier,
    paired: bool,
    permutes_bytes: bool,
}

impl Isa {
    /// Asks the CPU.
    pub fn new(tier: Tier) -> Option<Self> {
        let wide = tier == Tier::Avx512Vnni;
        supported(tier).then(|| Self {
            tier,
            paired: wide && adds_beside_dots(),
            permutes_bytes: wide && permutes_bytes(),
        })
    }

    /// The tier.
    pub const fn tier(self) -> Tier {
        self.tier
    }

    /// Whether 512-bit additions run on pipes that dot products do not need, so that the paired kernel
    /// (half the dot products, two additions each; see [`super::gemm`]) is the faster one.
    pub const fn prefers_paired(self) -> bool {
        self.paired
    }

    /// Whether the 512-bit tier may also use VBMI: bytes permuted across two registers.
    pub const fn permutes_bytes(self) -> bool {
        self.permutes_bytes
    }
}

#[cfg(target_arch = "x86_64")]
fn supported(tier: Tier) -> bool {
    match tier {
        Tier::Scalar => true,
        Tier::Avx2 => is_x86_feature_detected!("avx2"),
        Tier::Avx512Vnni => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx2")
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn supported(tier: Tier) -> bool {
    tier == Tier::Scalar
}

#[cfg(target_arch = "x86_64")]
fn permutes_bytes() -> bool {
    is_x86_feature_detected!("avx512vbmi")
}

#[cfg(not(target_arch = "x86_64"))]
fn permutes_bytes() -> bool {
    false
}

/// AMD cores have four vector pipes of which two multiply; Intel's two 512-bit ports do both.
#[cfg(target_arch = "x86_64")]
fn adds_beside_dots() -> bool {
    let id = std::arch::x86_64::__cpuid(0);
    [id.ebx, id.edx, id.ecx]
        == [
            u32::from_le_bytes(*b"Auth"),
            u32::from_le_bytes(*b"enti"),
            u32::from_le_bytes(*b"cAMD"),
        ]
}

#[cfg(not(target_arch = "x86_64"))]
fn adds_beside_dots() -> bool {
    false
}

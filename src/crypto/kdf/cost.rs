//! What a key derivation costs, and how much of it an untrusted header may ask for.

use crate::crypto::hash::HashKind;

/// The costs of one Argon2id call (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Which derivation, at which cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KdfCost {
    /// Argon2id, version 0x13.
    Argon2id(Argon2Cost),
    /// Argon2i, version 0x13.
    Argon2i(Argon2Cost),
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// The hash under HMAC.
        hash: HashKind,
        /// How often it runs.
        iterations: u32,
    },
}

impl From<Argon2Cost> for KdfCost {
    fn from(cost: Argon2Cost) -> Self {
        Self::Argon2id(cost)
    }
}

/// A key derivation without its costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KdfKind {
    /// Argon2id.
    Argon2id,
    /// Argon2i.
    Argon2i,
    /// PBKDF2 with HMAC.
    Pbkdf2,
}

impl KdfKind {
    /// The name in headers and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::Argon2i => "argon2i",
            Self::Pbkdf2 => "pbkdf2",
        }
    }
}

/// The most that an untrusted header may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfLimits {
    /// Memory in KiB (4 GiB).
    pub memory_kib: u64,
    /// Passes (64).
    pub passes: u32,
    /// Lanes (16).
    pub lanes: u32,
    /// Iterations of PBKDF2 (2^28), which only foreign formats have.
    pub iterations: u32,
    /// Memory in KiB that the machine has to give; a derivation that needs more is not begun.
    pub available_kib: u64,
    /// How long Argon2 may take in a format that does not limit its passes.
    pub work: WorkLimit,
}

/// A limit on time, in what Argon2 fills: memory times passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkLimit {
    /// KiB that may be filled in all.
    pub kib: u64,
    /// KiB that this machine fills in a second: for messages.
    pub kib_per_second: u64,
}

impl WorkLimit {
    /// What a cost fills.
    pub const fn of(cost: &Argon2Cost) -> u64 {
        u64_of(cost.memory_kib).saturating_mul(u64_of(cost.passes))
    }

    /// How long so much takes, in seconds; at least one.
    pub const fn seconds(self, kib: u64) -> u64 {
        match kib.checked_div(self.kib_per_second) {
            Some(seconds) if seconds > 0 => seconds,
            _ => 1,
        }
    }
}

const fn u64_of(value: u32) -> u64 {
    let [a, b, c, d] = value.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// `90 s`, `12 min`, `5 h`, `3 days`: rounded down.
pub fn show_seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What a key derivation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Memory, in KiB.
    Memory,
    /// Passes.
    Passes,
    /// Lanes.
    Lanes,
    /// Iterations.
    Iterations,
}

/// A cost that is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// More than the limit.
    #[error("asks for {}; the limit is {}", quantity.amount(*value), quantity.amount(*limit))]
    TooMuch {
        /// Which number.
        quantity: Quantity,
        /// What was asked for.
        value: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// More than the limit on time.
    #[error("takes about {} of Argon2 here; the limit is {}", show_seconds(*seconds), show_seconds(*limit))]
    TooLong {
        /// What it takes, in seconds.
        seconds: u64,
        /// The most that is allowed, in seconds.
        limit: u64,
    },
    /// Less than RFC 9106 (section 3.1) asks for: 8 KiB a lane, one pass, one lane.
    #[error("asks for {}; the least is {}", quantity.amount(*value), quantity.amount(*minimum))]
    TooLittle {
        /// Which number.
        quantity: Quantity,
        /// What was asked for.
        value: u64,
        /// The least that works.
        minimum: u64,
    },
}

impl KdfLimits {
    /// Refuses a cost outside RFC 9106 or above these limits, before anything is allocated for it.
    pub fn check(&self, cost: &Argon2Cost) -> Result<(), CostError> {
        in_range(Quantity::Lanes, cost.lanes.into(), 1, self.lanes.into())?;
        in_range(Quantity::Passes, cost.passes.into(), 1, self.passes.into())?;
        in_range(Quantity::Memory, cost.memory_kib.into(), 8 * u64::from(cost.lanes), self.memory_kib)
    }

    /// The same for a format whose writers take any number of passes: what counts is the time that they take.
    pub fn check_time(&self, cost: &Argon2Cost) -> Result<(), CostError> {
        Self { passes: u32::MAX, ..*self }.check(cost)?;
        let kib = WorkLimit::of(cost);
        if kib > self.work.kib {
            let (seconds, limit) = (self.work.seconds(kib), self.work.seconds(self.work.kib));
            return Err(CostError::TooLong { seconds, limit });
        }
        Ok(())
    }

    /// Refuses a number of PBKDF2 iterations that is zero or above the limit.
    pub fn check_iterations(&self, iterations: u32) -> Result<(), CostError> {
        in_range(Quantity::Iterations, iterations.into(), 1, self.iterations.into())
    }
}

impl Default for KdfLimits {
    fn default() -> Self {
        Self {
            memory_kib: 4 << 20,
            passes: 64,
            lanes: 16,
            iterations: 1 << 28,
            available_kib: u64::MAX,
            // As much as 64 passes over 4 GiB: some minutes on a machine that fills 1 GiB in a second.
            work: WorkLimit { kib: 256 << 20, kib_per_second: 1 << 20 },
        }
    }
}

impl Quantity {
    /// `1 TiB of memory`, `65 passes`.
    fn amount(self, value: u64) -> String {
        const UNITS: [(u32, &str); 3] = [(30, "TiB"), (20, "GiB"), (10, "MiB")];
        match self {
            Self::Passes => format!("{value} passes"),
            Self::Lanes => format!("{value} lanes"),
            Self::Iterations => format!("{value} iterations"),
            Self::Memory => {
                let whole =
                    UNITS.into_iter().find(|(shift, _)| value > 0 && value.is_multiple_of(1 << shift));
                let (shift, unit) = whole.unwrap_or((0, "KiB"));
                format!("{} {unit} of memory", value >> shift)
            }
        }
    }
}

fn in_range(quantity: Quantity, value: u64, minimum: u64, limit: u64) -> Result<(), CostError> {
    if value > limit {
        return Err(CostError::TooMuch { quantity, value, limit });
    }
    if value < minimum {
        return Err(CostError::TooLittle { quantity, value, minimum });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAIR: Argon2Cost = Argon2Cost { memory_kib: 4 << 20, passes: 64, lanes: 16 };

    fn check(cost: Argon2Cost) -> Result<(), CostError> {
        KdfLimits::default().check(&cost)
    }

    #[test]
    fn a_cost_at_every_limit_passes() {
        assert_eq!(check(FAIR), Ok(()));
        assert_eq!(check(Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 }), Ok(()));
    }

    #[test]
    fn each_number_above_its_limit_is_named() {
        let too_much = |quantity, value, limit| Err(CostError::TooMuch { quantity, value, limit });
        let one_tib = Argon2Cost { memory_kib: 1 << 30, ..FAIR };
        assert_eq!(check(one_tib), too_much(Quantity::Memory, 1 << 30, 4 << 20));
        assert_eq!(check(Argon2Cost { passes: 65, ..FAIR }), too_much(Quantity::Passes, 65, 64));
        assert_eq!(check(Argon2Cost { lanes: u32::MAX, ..FAIR }), too_much(Quantity::Lanes, 0xffff_ffff, 16));
    }

    #[test]
    fn each_number_below_its_minimum_is_named() {
        let too_little = |quantity, value, minimum| Err(CostError::TooLittle { quantity, value, minimum });
        let starved = Argon2Cost { memory_kib: 31, passes: 1, lanes: 4 };
        assert_eq!(check(starved), too_little(Quantity::Memory, 31, 32));
        assert_eq!(check(Argon2Cost { passes: 0, ..FAIR }), too_little(Quantity::Passes, 0, 1));
        assert_eq!(check(Argon2Cost { lanes: 0, ..FAIR }), too_little(Quantity::Lanes, 0, 1));
    }

    #[test]
    fn iterations_are_at_least_one_and_at_most_the_limit() {
        let limits = KdfLimits { iterations: 1000, ..KdfLimits::default() };
        assert_eq!(limits.check_iterations(1000), Ok(()));
        let refused = limits.check_iterations(1001).unwrap_err();
        assert_eq!(refused.to_string(), "asks for 1001 iterations; the limit is 1000 iterations");
        let refused = limits.check_iterations(0).unwrap_err();
        assert_eq!(refused, CostError::TooLittle { quantity: Quantity::Iterations, value: 0, minimum: 1 });
    }

    #[test]
    fn any_number_of_passes_is_allowed_that_takes_no_longer_than_the_limit() {
        // proves: L2-KDF-03
        let limits = KdfLimits {
            work: WorkLimit { kib: 3000 << 10, kib_per_second: 10 << 10 },
            ..KdfLimits::default()
        };
        let cost = Argon2Cost { memory_kib: 1 << 10, passes: 3000, lanes: 1 };
        assert_eq!(limits.check_time(&cost), Ok(()));
        let refused = limits.check_time(&Argon2Cost { passes: 9000, ..cost }).unwrap_err();
        assert_eq!(refused.to_string(), "takes about 15 min of Argon2 here; the limit is 5 min");
        let all_memory = Argon2Cost { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        assert!(matches!(limits.check_time(&all_memory), Err(CostError::TooMuch { .. })));
        assert!(matches!(
            limits.check_time(&Argon2Cost { passes: 0, ..cost }),
            Err(CostError::TooLittle { .. })
        ));
    }

    #[test]
    fn the_message_names_quantity_value_and_limit() {
        let error = check(Argon2Cost { memory_kib: 1 << 30, ..FAIR }).unwrap_err();
        assert_eq!(error.to_string(), "asks for 1 TiB of memory; the limit is 4 GiB of memory");
        let error = check(Argon2Cost { memory_kib: 7, passes: 1, lanes: 1 }).unwrap_err();
        assert_eq!(error.to_string(), "asks for 7 KiB of memory; the least is 8 KiB of memory");
    }
}

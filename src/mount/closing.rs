//! When a volume closes by itself, and what becomes of one that is in use then.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What a volume closes at without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// The machine is about to suspend or to hibernate.
    Sleep,
    /// The user's last session ends.
    Logout,
    /// The screen was locked.
    Lock,
}

/// All the occasions at which a volume closes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CloseAt(BTreeSet<Occasion>);

impl CloseAt {
    /// What holds where nobody said anything: before sleep and at logout where somebody sits at the machine, never for what root mounts
    /// by itself, as services do.
    pub fn usual(has_user: bool) -> Self {
        Self([Occasion::Sleep, Occasion::Logout].into_iter().filter(|_| has_user).collect())
    }

    /// Reads `none`, or occasions with commas between them. A `+` is as good, as fstab takes a comma for itself.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        let occasion = |word: &str| match word {
            "sleep" => Ok(Occasion::Sleep),
            "logout" => Ok(Occasion::Logout),
            "lock" => Ok(Occasion::Lock),
            _ => Err(format!("{word:?} is none of sleep, logout, lock and none")),
        };
        text.split([',', '+']).map(occasion).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it closes then.
    pub fn has(&self, occasion: Occasion) -> bool {
        self.0.contains(&occasion)
    }

    /// Whether it closes at none of them.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CloseAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|occasion| occasion.name()).collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(",") }.as_str())
    }
}

impl Occasion {
    const fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Logout => "logout",
            Self::Lock => "lock",
        }
    }
}

/// What becomes of a volume that is to close by itself and is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenBusy {
    /// It stays open, and its user is told who holds it.
    #[default]
    Wait,
    /// It closes all the same, after a warning where there is time for one. What was written is saved first.
    Force,
}

/// How a volume closes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Closing {
    /// After how long without use, in whole seconds.
    pub idle: Option<Duration>,
    /// At what else.
    pub at: CloseAt,
    /// What if it is in use.
    pub when_busy: WhenBusy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occasions_are_read_in_any_order_and_told_in_one() {
        for (text, told) in [
            ("none", "none"),
            ("sleep", "sleep"),
            ("lock,sleep,lock", "sleep,lock"),
            ("lock+logout+sleep", "sleep,logout,lock"),
        ] {
            assert_eq!(CloseAt::parse(text).unwrap().to_string(), told);
        }
        for text in ["", "never", "sleep,", "none,sleep", "Sleep"] {
            assert!(CloseAt::parse(text).unwrap_err().contains("is none of"), "{text}");
        }
    }

    #[test]
    fn only_what_somebody_mounts_closes_unasked() {
        assert_eq!(CloseAt::usual(true).to_string(), "sleep,logout");
        assert!(CloseAt::usual(false).is_none());
    }
}

//! How a backend is chosen: the fastest that runs here and gives right answers, or the one that was asked for.

use std::env;

/// Which backend this process uses, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<B> {
    /// The backend of every key made without naming one.
    pub backend: B,
    /// Why it is that one.
    pub why: Why<B>,
}

/// The reason for a [`Selection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why<B> {
    /// The fastest that runs here.
    Fastest,
    /// The environment names it.
    Forced,
    /// It is the safe one, and the one named here gave wrong answers: the processor, or what emulates it, is broken.
    SelfTestFailed(B),
}

/// The backend that this environment variable names.
pub(super) fn forced<B: Copy>(
    variable: &str,
    backends: &[B],
    name_of: impl Fn(B) -> &'static str,
) -> Option<B> {
    let name = env::var(variable).ok()?;
    backends.iter().copied().find(|&backend| name_of(backend) == name)
}

/// Chooses among backends, of which the fastest comes first and the safe one last.
///
/// A forced backend that does not run here counts for nothing. `None` where neither the choice nor the safe one passes its test.
pub(super) fn select<B: Copy + PartialEq>(
    backends: &[B],
    forced: Option<B>,
    is_supported: impl Fn(B) -> bool,
    passes: impl Fn(B) -> bool,
) -> Option<Selection<B>> {
    let forced = forced.filter(|&backend| is_supported(backend));
    let fastest = || backends.iter().copied().find(|&backend| is_supported(backend));
    let backend = forced.or_else(fastest)?;
    if passes(backend) {
        let why = if forced.is_some() { Why::Forced } else { Why::Fastest };
        return Some(Selection { backend, why });
    }
    let safe = backends.last().copied().filter(|&safe| safe != backend && passes(safe))?;
    Some(Selection { backend: safe, why: Why::SelfTestFailed(backend) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: [&str; 3] = ["wide", "narrow", "safe"];

    #[test]
    fn the_fastest_that_runs_is_chosen() {
        let chosen = select(&BACKENDS, None, |backend| backend != "wide", |_| true);
        assert_eq!(chosen, Some(Selection { backend: "narrow", why: Why::Fastest }));
    }

    #[test]
    fn a_forced_backend_is_chosen_where_it_runs() {
        let chosen = select(&BACKENDS, Some("narrow"), |_| true, |_| true);
        assert_eq!(chosen, Some(Selection { backend: "narrow", why: Why::Forced }));
        let chosen = select(&BACKENDS, Some("narrow"), |backend| backend == "safe", |_| true);
        assert_eq!(chosen, Some(Selection { backend: "safe", why: Why::Fastest }));
    }

    #[test]
    fn a_backend_that_fails_its_test_gives_way_to_the_safe_one() {
        for forced in [None, Some("wide")] {
            let chosen = select(&BACKENDS, forced, |_| true, |backend| backend != "wide");
            assert_eq!(chosen, Some(Selection { backend: "safe", why: Why::SelfTestFailed("wide") }));
        }
    }

    #[test]
    fn without_a_backend_that_passes_there_is_none() {
        assert_eq!(select(&BACKENDS, None, |_| true, |_| false), None);
        assert_eq!(select(&BACKENDS, None, |backend| backend == "safe", |_| false), None);
    }
}

//! What the shell that started this process allows it (`getrlimit(2)`), raised as far as that goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sees to a stack on which all of this program runs. False where the limit on it stays too low.
///
/// The kernel compares when the stack grows, so it is not too late.
pub fn have_stack() -> bool {
    allow(Resource::Stack, LEAST_STACK, Some(STACK))
}

/// Sees to it that this process may write to a file of `len` bytes. False where it may not.
pub fn allow_file(len: u64) -> bool {
    allow(Resource::Fsize, len, None)
}

/// Sees to it that so many files may be open. False where they may not.
pub fn allow_open_files(least: u64) -> bool {
    allow(Resource::Nofile, least, Some(least))
}

/// Sees to it that this process, and what it starts, is not killed for the time that it has computed. False where it may be.
pub fn allow_endless_work() -> bool {
    allow(Resource::Cpu, u64::MAX, None)
}

/// Raises a limit below `least` to `wanted`, or to no limit, or else as far as it goes. Who may (`CAP_SYS_RESOURCE`) goes beyond what
/// others set.
fn allow(resource: Resource, least: u64, wanted: Option<u64>) -> bool {
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    let Rlimit { current, maximum } = getrlimit(resource);
    if is_enough(current) {
        return true;
    }
    let all = Rlimit { current: wanted, maximum: wanted };
    let allowed = match (wanted, maximum) {
        (_, Some(_)) if !is_enough(maximum) => all,
        (Some(wanted), Some(maximum)) => {
            Rlimit { current: Some(wanted.min(maximum)), maximum: Some(maximum) }
        }
        (wanted, None) => Rlimit { current: wanted, maximum },
        (None, maximum) => Rlimit { current: maximum, maximum },
    };
    setrlimit(resource, allowed).is_ok()
}

/// What a whole run takes, several times over.
const LEAST_STACK: u64 = 2 << 20;
/// What Linux gives where nobody says anything.
const STACK: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_it_goes() {
        // Nothing else in these tests writes core dumps.
        let set = |current, maximum| {
            setrlimit(Resource::Core, Rlimit { current: Some(current), maximum: Some(maximum) }).is_ok()
        };
        let soft = || getrlimit(Resource::Core).current;
        if !set(10, 1000) {
            return println!("skipped: core dumps are forbidden here");
        }
        assert!(allow(Resource::Core, 5, None));
        assert_eq!(soft(), Some(10));
        assert!(allow(Resource::Core, 500, Some(600)));
        assert_eq!(soft(), Some(600));
        assert!(allow(Resource::Core, 700, Some(5000)));
        assert_eq!(soft(), Some(1000));
        assert!(set(10, 1000));
        assert!(allow(Resource::Core, 1000, None));
        assert_eq!(soft(), Some(1000));
        let is_raised = allow(Resource::Core, 2000, Some(3000));
        assert_eq!(soft(), Some(if is_raised { 3000 } else { 1000 }));
    }
}

//! How easily a password is guessed.

use strongroom::crypto::secret::Password;
use zxcvbn::{Score, feedback::Feedback, zxcvbn};

/// Why `password` is weak, in one line that does not repeat it; `None` where it is not, or is no text.
pub(crate) fn weakness(password: &Password) -> Option<String> {
    let text = std::str::from_utf8(password.expose()).ok().filter(|text| !text.is_empty())?;
    let verdict = zxcvbn(text, &[]);
    if verdict.score() >= Score::Three {
        return None;
    }
    let reason = verdict.feedback().and_then(main_feedback);
    Some(match reason {
        Some(reason) => format!("this password is weak: {reason}"),
        None => "this password is weak".to_owned(),
    })
}

/// The warning, or else the first suggestion, as the end of a sentence.
fn main_feedback(feedback: &Feedback) -> Option<String> {
    let text = match (feedback.warning(), feedback.suggestions().first()) {
        (Some(warning), _) => warning.to_string(),
        (None, Some(suggestion)) => suggestion.to_string(),
        (None, None) => return None,
    };
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next()?;
    Some(first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness_of(text: &str) -> Option<String> {
        weakness(&Password::copy_of(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_common_password_is_called_so() {
        assert_eq!(
            weakness_of("password").as_deref(),
            Some("this password is weak: this is a top-10 common password")
        );
    }

    #[test]
    fn six_random_words_are_not_weak() {
        assert_eq!(weakness_of("clamp orbit velvet mossy tundra wagon"), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_not_judged() {
        assert_eq!(weakness(&Password::copy_of(&[0xff; 4]).unwrap()), None);
    }
}

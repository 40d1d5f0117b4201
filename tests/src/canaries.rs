//! Secrets that a test looks for where they must not be, in every spelling that a program may give them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Known secrets, each with what it is.
#[derive(Debug, Default)]
pub struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    /// Looks for this one too; gives it back.
    ///
    /// # Panics
    /// It is so short that it may be found by chance.
    pub fn add<'a>(&mut self, what: &str, secret: &'a str) -> &'a str {
        assert!(secret.len() >= 12, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), secret.as_bytes().to_vec()));
        secret
    }

    /// Checks that none of them is in there.
    ///
    /// # Panics
    /// One is; the message says which, and what stands before it.
    pub fn assert_absent(&self, place: &str, heard: &[u8]) {
        for (what, secret) in &self.0 {
            for (spelling, text) in spellings(secret) {
                if let Some(at) = memchr::memmem::find(heard, &text) {
                    let before = String::from_utf8_lossy(&heard[at.saturating_sub(300)..at]).into_owned();
                    panic!("{what} is in {place} ({spelling}), after: {before}");
                }
            }
        }
    }
}

fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed: Vec<String> = secret.iter().map(u8::to_string).collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let percent: String = secret
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let mut spellings = vec![
        ("as it is", secret.to_vec()),
        ("hexadecimal", hexadecimal.to_uppercase().into_bytes()),
        ("hexadecimal", hexadecimal.into_bytes()),
        ("escaped for a URL", percent.into_bytes()),
        ("a list of bytes", listed.join(", ").into_bytes()),
    ];
    // As part of something longer it begins at one of three places of base64's groups; what its neighbours share
    // with it is left out.
    for shift in 0..3 {
        let mut shifted = vec![0; shift];
        shifted.extend(secret);
        shifted.truncate(shifted.len() / 3 * 3);
        for (spelling, text) in
            [("base64", STANDARD.encode(&shifted)), ("base64 for URLs", URL_SAFE_NO_PAD.encode(&shifted))]
        {
            let begin = if shift == 0 { 0 } else { 4 };
            spellings.push((spelling, text.as_bytes()[begin..].to_vec()));
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canary_is_found_in_every_spelling_and_place() {
        let mut canaries = Canaries::default();
        let secret = canaries.add("it", "canary+one/4711");
        let found = |text: String| {
            std::panic::catch_unwind(|| canaries.assert_absent("a text", text.as_bytes())).is_err()
        };

        assert!(!found("canary+one/4712".to_owned()));
        for around in ["", "a", "ab", "abc", "{\"value\":\""] {
            assert!(found(format!("{around}{secret}{around}")));
            assert!(found(STANDARD.encode(format!("{around}{secret}{around}"))), "{around}");
            assert!(found(URL_SAFE_NO_PAD.encode(format!("{around}{secret}{around}"))), "{around}");
        }
        assert!(found("before 63616e6172792b6f6e652f34373131 after".to_owned()));
        assert!(found("?q=canary%2Bone%2F4711".to_owned()));
        assert!(found(format!("{:?}", secret.as_bytes())));
    }
}

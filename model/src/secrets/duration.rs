//! Durations as the secrets API writes them: `15m`, `24h`, `90d` (contract A.1).

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a duration such as 30s, 15m, 24h or 90d")]
pub struct InvalidDuration;

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

/// Reads one whole number and its unit, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`InvalidDuration`], also for what no clock reaches.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let unit = text.chars().last().ok_or(InvalidDuration)?;
    let digits = text.strip_suffix(unit).unwrap_or_default();
    let (_, seconds) = UNITS.into_iter().find(|(letter, _)| *letter == unit).ok_or(InvalidDuration)?;
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration);
    }
    let number: u64 = digits.parse().map_err(|_| InvalidDuration)?;
    Ok(Duration::from_secs(number * seconds))
}

/// The shortest spelling: the largest unit that divides it.
pub fn text(span: Duration) -> String {
    let seconds = span.as_secs();
    let (letter, unit) = UNITS
        .into_iter()
        .rev()
        .find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit))
        .unwrap_or(('s', 1));
    format!("{}{letter}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for (text_, seconds) in
            [("15m", 900), ("24h", 86_400), ("90d", 7_776_000), ("1h", 3_600), ("45s", 45)]
        {
            assert_eq!(parse(text_), Ok(Duration::from_secs(seconds)), "{text_}");
        }
        assert_eq!(text(Duration::from_secs(900)), "15m");
        assert_eq!(text(Duration::from_secs(86_400)), "1d");
        assert_eq!(text(Duration::ZERO), "0s");
        for wrong in ["", "m", "15", "-1m", "1.5h", "1w", "15 m", "9999999999s", "1é"] {
            assert_eq!(parse(wrong), Err(InvalidDuration), "{wrong}");
        }
    }
}

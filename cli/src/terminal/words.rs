//! Sizes, counts and times for people. bytesize and indicatif print other forms: bytesize does not round 999_999 up to 1.0 MB, and
//! HumanDuration is too long for a column or drops the smaller unit.

use std::time::Duration;

/// Formats a size, in powers of 1000.
pub(crate) fn human(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// `1 layer`, `2 layers`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Formats a remaining time for a narrow column.
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_one_decimal() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (4_750_000_000, "4.8 GB")]
        {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn zero_is_plural_and_one_is_singular() {
        assert_eq!((count(1, "layer"), count(0, "layer")), ("1 layer".into(), "0 layers".into()));
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3599, "59m59s"), (7500, "2h05m")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}

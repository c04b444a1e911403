//! Rounds the numbers of reports.

/// Returns the mean in whole bytes; 0 for no numbers.
pub(crate) fn mean(numbers: &[u64]) -> u64 {
    let sum: u128 = numbers.iter().map(|number| u128::from(*number)).sum();
    let count = numbers.len().max(1) as u128;
    u64::try_from((sum + count / 2) / count).expect("the mean is at most the largest number")
}

/// Rounds to four decimal places, which is enough for every report.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_rounded_and_cannot_overflow() {
        assert_eq!(mean(&[u64::MAX, u64::MAX]), u64::MAX);
        assert_eq!((mean(&[]), mean(&[1, 2])), (0, 2));
    }
}

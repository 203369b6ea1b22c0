//! Amounts of bytes, as Docker prints them.

const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// In decimal units, with three digits at most: `2.05kB`.
pub fn short_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 999.5, DECIMAL, 3)
}

/// In decimal units, with four digits at most: `2.048kB`.
pub fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 1000.0, DECIMAL, 4)
}

/// In binary units, with four digits at most: `1.5MiB`.
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, 1024.0, BINARY, 4)
}

/// Without zeros at the end. From `next` on the next unit is used, which is `base` times
/// as large.
fn scaled(bytes: u64, base: f64, next: f64, units: [&str; 7], most: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= next && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole = match value {
        value if value < 10.0 => 1,
        value if value < 100.0 => 2,
        value if value < 1000.0 => 3,
        _ => 4,
    };
    let digits = match unit {
        0 => 0,
        _ => most.saturating_sub(whole),
    };
    let text = format!("{value:.digits$}");
    let text = match digits {
        0 => text.as_str(),
        _ => text.trim_end_matches('0').trim_end_matches('.'),
    };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_as_many_digits_as_they_may() {
        for (bytes, short, decimal, binary) in [
            (0, "0B", "0B", "0B"),
            (999, "999B", "999B", "999B"),
            (1000, "1kB", "1kB", "1000B"),
            (2048, "2.05kB", "2.048kB", "2KiB"),
            (999_600, "1MB", "999.6kB", "976.2KiB"),
            (1_572_864, "1.57MB", "1.573MB", "1.5MiB"),
            (12_345_678, "12.3MB", "12.35MB", "11.77MiB"),
            (123_456_789, "123MB", "123.5MB", "117.7MiB"),
            (1_073_741_823, "1.07GB", "1.074GB", "1024MiB"),
            (5_000_000_000_000_000, "5PB", "5PB", "4.441PiB"),
        ] {
            assert_eq!(short_size(bytes), short);
            assert_eq!(decimal_size(bytes), decimal);
            assert_eq!(binary_size(bytes), binary);
        }
    }
}

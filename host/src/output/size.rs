//! Amounts of bytes, as Docker prints them.

/// In decimal units: `2.05kB`.
pub fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// In binary units: `1.5MiB`.
pub fn binary_size(bytes: u64) -> String {
    scaled(
        bytes,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    )
}

/// With at most four digits, and no zeros at the end.
fn scaled(bytes: u64, base: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        value if value < 1000.0 => 1,
        _ => 0,
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
    fn sizes_have_four_digits_at_most() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (2048, "2.048kB", "2KiB"),
            (1_572_864, "1.573MB", "1.5MiB"),
            (123_456_789, "123.5MB", "117.7MiB"),
            (1_073_741_823, "1.074GB", "1024MiB"),
        ] {
            assert_eq!(decimal_size(bytes), decimal);
            assert_eq!(binary_size(bytes), binary);
        }
    }
}

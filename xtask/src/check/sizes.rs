//! How long files are, tests and blank lines at the end excluded.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::source;

/// What DESIGN asks: median about 120, 90th percentile under 350, none above 600.
const MEDIAN: usize = 150;
const P90: usize = 350;
const MAX: usize = 600;

pub fn check() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for crates in [
        &["agent/src", "ebpf/src", "ebpf/abi/src"][..],
        &["xtask/src"],
        &["tests"],
    ] {
        let mut sizes: Vec<(usize, PathBuf)> = Vec::new();
        for dir in crates.iter().filter(|d| Path::new(d).exists()) {
            for path in source::files(Path::new(dir))? {
                if !source::is_test(path.strip_prefix("tests").unwrap_or(&path)) {
                    let text = std::fs::read_to_string(&path)?;
                    sizes.push((source::without_tests(&text).trim_end().lines().count(), path));
                }
            }
        }
        sizes.sort();
        let Some((max, longest)) = sizes.last() else {
            continue;
        };
        let (median, p90) = (sizes[sizes.len() / 2].0, sizes[sizes.len() * 9 / 10].0);
        eprintln!(
            "    {:<14} {:>3} files, median {median}, 90th percentile {p90}, longest {max} ({})",
            crates[0],
            sizes.len(),
            longest.display()
        );
        for (size, path) in sizes.iter().filter(|s| s.0 > MAX) {
            wrong.push(format!("{}: {size} lines, above {MAX}", path.display()));
        }
        // The shape is a rule for the product; few files make no percentile.
        if crates[0] == "agent/src" && sizes.len() >= 20 {
            if median > MEDIAN {
                wrong.push(format!(
                    "{}: the median file has {median} lines, above {MEDIAN}",
                    crates[0]
                ));
            }
            if p90 > P90 {
                wrong.push(format!(
                    "{}: the 90th percentile is {p90} lines, above {P90}",
                    crates[0]
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("\n      {}", wrong.join("\n      "));
    }
    Ok(())
}

//! The figures as they come, and in the end per case the medians and their ratios.

use std::collections::BTreeMap;

use serde_json::json;

use super::measure::FsyncProbe;

/// Name with its unit → value.
pub type Figures = BTreeMap<&'static str, f64>;

pub struct Report {
    json: bool,
    /// (case, side) → runs.
    runs: BTreeMap<(String, &'static str), Vec<Figures>>,
    summary: Vec<serde_json::Value>,
}

impl Report {
    pub fn new(json: bool) -> Report {
        Report { json, runs: BTreeMap::new(), summary: Vec::new() }
    }

    pub fn fsync(&self, case: &str, when: &str, probe: &FsyncProbe) {
        let FsyncProbe { p50_4k_ms, p99_4k_ms, p50_1m_ms, p99_1m_ms } = probe;
        if self.json {
            println!(
                "{}",
                json!({ "kind": "fsync", "case": case, "when": when, "p50_4k_ms": p50_4k_ms, "p99_4k_ms": p99_4k_ms,
                        "p50_1m_ms": p50_1m_ms, "p99_1m_ms": p99_1m_ms })
            );
        } else {
            println!(
                "{case}: fdatasync {when}: 4 KiB p50 {p50_4k_ms:.2} p99 {p99_4k_ms:.2} ms, \
                 1 MiB p50 {p50_1m_ms:.2} p99 {p99_1m_ms:.2} ms"
            );
        }
    }

    pub fn run(&mut self, case: &str, side: &'static str, round: u32, figures: Figures) {
        if self.json {
            println!("{}", json!({ "kind": "run", "case": case, "side": side, "round": round, "figures": figures }));
        } else {
            let text: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
            println!("{case}: {side} {round}: {}", text.join(", "));
        }
        self.runs.entry((case.to_string(), side)).or_default().push(figures);
    }

    /// Medians and their ratio, of a case whose runs are all there. Nothing when a side has none.
    pub fn compare(&mut self, case: &str, ours: &'static str, theirs: &'static str) {
        let (of_ours, of_theirs) = (self.medians(case, ours), self.medians(case, theirs));
        if of_ours.is_empty() || of_theirs.is_empty() {
            return;
        }
        let ratios: Figures = of_ours
            .iter()
            .filter_map(|(name, value)| {
                of_theirs.get(name).filter(|their| **their > 0.0).map(|their| (*name, value / their))
            })
            .collect();
        if !self.json {
            println!("\n{case:<34} {ours:>20} {theirs:>20} {:>8}", "ratio");
            for (name, value) in &of_ours {
                let their = of_theirs.get(name).copied().unwrap_or(f64::NAN);
                let ratio = ratios.get(name).copied().unwrap_or(f64::NAN);
                println!("  {name:<32} {value:>20.2} {their:>20.2} {ratio:>8.2}");
            }
            println!();
        }
        self.summary.push(json!({ "case": case, ours: of_ours, theirs: of_theirs, "ratio": ratios }));
    }

    pub fn summary(&self) {
        if self.json {
            println!("{}", json!({ "kind": "summary", "cases": self.summary }));
        }
    }

    fn medians(&self, case: &str, side: &'static str) -> Figures {
        let runs = self.runs.get(&(case.to_string(), side)).map_or(&[][..], Vec::as_slice);
        let names = runs.iter().flat_map(|figures| figures.keys().copied());
        names
            .map(|name| (name, median(runs.iter().filter_map(|figures| figures.get(name).copied()).collect())))
            .collect()
    }
}

/// Of an even number the mean of the middle two; NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }
}

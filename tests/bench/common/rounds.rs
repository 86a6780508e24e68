//! Samples taken in turn: every subject once in every round, so that what slows the machine slows all of them.
//! Pure but for the measuring closures it is given.

use std::collections::BTreeMap;

/// What each subject measured in each round. Units are the measurer's.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    samples: BTreeMap<String, Vec<f64>>,
}

/// The middle of some numbers; of an even count the mean of the two middle ones. NaN of none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

impl Rounds {
    /// Measures each subject once in each of `rounds` rounds. Who begins changes from round to round.
    pub fn interleave<S: AsRef<str>>(
        rounds: usize,
        subjects: &[S],
        mut measure: impl FnMut(&S) -> f64,
    ) -> Rounds {
        let mut taken = Rounds::default();
        for round in 0..rounds {
            for at in 0..subjects.len() {
                let subject = &subjects[(at + round) % subjects.len()];
                let sample = measure(subject);
                taken.add(subject.as_ref(), sample);
            }
        }
        taken
    }

    /// Adds a sample of `subject`: its next round.
    pub fn add(&mut self, subject: &str, sample: f64) {
        self.samples
            .entry(subject.to_owned())
            .or_default()
            .push(sample);
    }

    /// All samples of a subject, in the order of the rounds; none of one that was not measured.
    pub fn samples(&self, subject: &str) -> &[f64] {
        self.samples.get(subject).map_or(&[], Vec::as_slice)
    }

    /// The median of a subject's samples; NaN if it was not measured.
    pub fn median(&self, subject: &str) -> f64 {
        median(self.samples(subject))
    }

    /// How many times `other` a subject is: the median of the ratios inside each round. Steadier than the ratio of the medians.
    pub fn ratio(&self, subject: &str, other: &str) -> f64 {
        self.ratio_less(subject, other, None)
    }

    /// As [`Rounds::ratio`], with what a third subject measured in the same round taken off both: the cost of the frame around
    /// what is compared.
    pub fn ratio_less(&self, subject: &str, other: &str, frame: Option<&str>) -> f64 {
        let ratios: Vec<f64> = self
            .samples(subject)
            .iter()
            .zip(self.samples(other))
            .enumerate()
            .map(|(round, (&subject, &other))| {
                let frame = frame.map_or(0.0, |frame| {
                    self.samples(frame).get(round).copied().unwrap_or(f64::NAN)
                });
                (subject - frame) / (other - frame)
            })
            .collect();
        median(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_inside_a_round_so_that_a_slow_round_changes_nothing() {
        let mut speed = 0.0;
        let rounds = Rounds::interleave(5, &["ours", "floor", "frame"], |subject| {
            speed += 1.0;
            let slow = if (7.0..=9.0).contains(&speed) {
                10.0
            } else {
                1.0
            };
            slow * match *subject {
                "ours" => 40.0,
                "floor" => 30.0,
                _ => 20.0,
            }
        });
        assert_eq!(rounds.samples("ours").len(), 5);
        assert!((rounds.ratio("ours", "floor") - 4.0 / 3.0).abs() < 1e-9);
        assert!((rounds.ratio_less("ours", "floor", Some("frame")) - 2.0).abs() < 1e-9);
        assert!(rounds.ratio("ours", "nobody").is_nan());
    }
}

//! Schedules: arrays computed before the loop, one value per step.

/// MoCo's learning rate: `lr · ½(1 + cos(π · epoch / epochs))`, constant within an epoch, no warm-up
/// (protocol 2.1).
pub fn cosine_per_epoch(lr: f64, epochs: usize, steps_per_epoch: usize) -> Vec<f64> {
    (0..epochs * steps_per_epoch)
        .map(|step| {
            let done = (step / steps_per_epoch) as f64 / epochs as f64;
            lr * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
        })
        .collect()
}

/// A learning rate that is multiplied by `factor` once each of the `drops` (shares of the epochs) is
/// over.
pub fn step_drops(
    lr: f64,
    epochs: usize,
    steps_per_epoch: usize,
    drops: &[f64],
    factor: f64,
) -> Vec<f64> {
    let past = |epoch: usize| {
        drops.iter().filter(|&&drop| epoch >= (drop * epochs as f64).round() as usize).count()
    };
    (0..epochs * steps_per_epoch)
        .map(|step| lr * factor.powi(past(step / steps_per_epoch) as i32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_come_after_their_epoch() {
        let lr = step_drops(1.0, 130, 2, &[90.0 / 130.0, 120.0 / 130.0], 0.2);
        assert_eq!((lr[179], lr[180], lr[239]), (1.0, 0.2, 0.2));
        assert!((lr[240] - 0.04).abs() < 1e-12 && lr.len() == 260);
    }

    #[test]
    fn starts_at_lr_halves_in_the_middle_and_steps_per_epoch() {
        let lr = cosine_per_epoch(0.06, 200, 3);
        assert_eq!(lr.len(), 600);
        assert_eq!(lr[0], 0.06);
        assert_eq!(lr[0], lr[2]);
        assert!((lr[300] - 0.03).abs() < 1e-12);
        assert!(lr.windows(2).all(|w| w[0] >= w[1]) && lr[599] > 0.0);
    }
}

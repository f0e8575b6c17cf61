//! Checks a set of arrays against the network that it should be.

use crate::EncoderConfig;
use crate::family::Shapes;
use crate::parts::listed;

/// Checks that `held` has all arrays of a network of `config`, and no other array inside that network. Heads,
/// counters and other networks beside it do not matter.
///
/// # Errors
/// A message that names the arrays.
pub(crate) fn check(config: &EncoderConfig, held: &Shapes<'_>) -> Result<(), String> {
    let wanted = config.arrays();
    let strange: Vec<&str> = held
        .keys()
        .filter(|name| !wanted.contains_key(**name) && config.inside(name))
        .copied()
        .collect();
    if !strange.is_empty() {
        return Err(format!(
            "has arrays that do not belong to any supported network: {}",
            listed(&strange)
        ));
    }
    for (name, shape) in &wanted {
        match held.get(name.as_str()) {
            None => return Err(format!("has no array {name}, which its other arrays require")),
            Some(found) if *found != shape.as_slice() => {
                return Err(format!(
                    "{name} has the shape {found:?}, but its other arrays require {shape:?}"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

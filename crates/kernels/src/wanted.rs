//! What a backward pass computes.

/// The gradients that a backward pass computes. Those that are not wanted are empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// That of the images or rows.
    pub inputs: bool,
    /// Those of weights, scales, shifts and biases. A frozen encoder needs none.
    pub parameters: bool,
}

#[cfg(test)]
impl Wanted {
    pub const ALL: Self = Self { inputs: true, parameters: true };
    pub const INPUTS: Self = Self { inputs: true, parameters: false };
    pub const PARAMETERS: Self = Self { inputs: false, parameters: true };
}

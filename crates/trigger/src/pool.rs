//! Which images may be poisoned.

/// Which images a sample is drawn from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pool {
    /// Those of the target class; without a target, all of them.
    #[default]
    Target,
    /// All of them.
    All,
    /// Those of classes other than the target.
    Others,
}

impl Pool {
    /// Whether an image of `class` may be drawn.
    pub(crate) fn holds(self, class: u32, target: Option<u32>) -> bool {
        match self {
            Self::Target => target.is_none_or(|target| class == target),
            Self::All => true,
            Self::Others => target != Some(class),
        }
    }
}

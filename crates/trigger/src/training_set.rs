//! Facts about the training images for planning an attack.

/// Labels, classes and listed ids of the training images, from which an attack is planned.
#[derive(Debug, Clone, Copy)]
pub struct TrainingSet<'a> {
    /// (image id, class) of every image, in any order.
    pub labels: &'a [(u64, u32)],
    /// Names of the classes.
    pub classes: &'a [String],
    /// Ids of the images that the config's `list` names; empty without a list.
    pub listed: &'a [u64],
}

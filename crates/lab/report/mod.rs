//! Reports: of one run (`report.html`, `report.md` in its folder), and over many (`table.*`).

mod charts;
mod comparison;
mod group;
mod many;
mod pictures;
mod sightings;
mod single;

pub use many::{ReportOptions, report};
pub(crate) use single::{Sources, markdown, net, table, write};

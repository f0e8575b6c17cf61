//! Reports: of one run (`report.html`, `report.md` in its folder), and over many (`table.*`).

mod charts;
mod claims;
mod comparison;
mod destinations;
mod group;
mod many;
mod mean;
mod pictures;
mod setting;
mod sightings;
mod single;
mod sources;
mod table;
mod table_csv;

pub use many::{ReportOptions, report};
pub(crate) use single::{Sources, markdown, net, table, write};

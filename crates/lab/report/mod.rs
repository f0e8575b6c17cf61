//! Reports: of one run (`report.html`, `report.md` in its folder), and over many (`table.*`).

mod aligned;
mod chart;
mod charts;
mod claims;
mod comparison;
mod destinations;
mod distinct;
mod dose;
mod figures;
mod group;
mod in_common;
mod learned;
mod main_table;
mod many;
mod map_image;
mod material;
mod matrix;
mod mean;
mod pictures;
mod run_table;
mod run_words;
mod scans;
mod setting;
mod single;
mod sources;
mod table;
mod table_csv;
mod visibility;

pub(crate) use aligned::aligned;
pub use many::{ReportOptions, report};
pub(crate) use map_image::map_image;
pub(crate) use material::Material;
pub(crate) use pictures::{data_uri, png, samples};
pub(crate) use run_table::{markdown, table};
pub(crate) use run_words::{net, warning};
pub(crate) use single::write;

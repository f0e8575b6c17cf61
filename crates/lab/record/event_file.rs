//! Event files, as TensorBoard reads them.
//!
//! A file is a list of records: the length of the payload (u64), its masked CRC-32C (u32), the payload, and its masked
//! CRC-32C, all little-endian. A CRC is masked by rotating it by 15 bits to the right and adding `0xa282ead8`. The payload
//! is an `Event` in the encoding of Protocol Buffers (TensorFlow's `event.proto` and `summary.proto`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Prefix of the name of an event file; its start time follows.
const PREFIX: &str = "events.out.tfevents.";
/// The version of the format, the first event of a file.
const VERSION: &str = "brain.Event:2";

/// A named figure or picture of one step. A `/` in the name separates groups.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Summary {
    Scalar { tag: String, value: f32 },
    Png { tag: String, size: (u32, u32), bytes: Vec<u8> },
}

/// The summaries of one step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Seconds since 1970.
    pub time: f64,
    pub step: u64,
    pub summaries: Vec<Summary>,
}

/// An event file to which events are appended.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
}

impl EventFile {
    /// Creates a file in `folder` that contains `events` and whose name ends with `kind`. It replaces all older files
    /// of this kind, so that no step appears twice; a TensorBoard that is reading them picks up the new one.
    ///
    /// # Errors
    /// The file cannot be written, or an old one cannot be removed.
    pub fn start(folder: &Path, kind: &str, events: &[Event]) -> io::Result<Self> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let of_kind =
                |name: &str| name.starts_with(PREFIX) && name.ends_with(&format!(".{kind}"));
            if name.to_str().is_some_and(of_kind) {
                fs::remove_file(entry.path())?;
            }
        }
        let time = seconds_now();
        let path = folder.join(format!("{PREFIX}{:010}.{kind}", time as u64));
        let mut bytes = record(&version(time));
        events.iter().for_each(|event| bytes.extend(record(&encoded(event))));
        ssl_backdoor_files::write(&path, &bytes)?;
        Ok(Self { path })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&self, event: &Event) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&record(&encoded(event)))
    }
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] =
        [&length, &masked_crc(&length).to_le_bytes(), payload, &masked_crc(payload).to_le_bytes()];
    parts.concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The wire type of a field: the lower three bits of its key.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Eight = 1,
    Bytes = 2,
    Four = 5,
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn key(field: u64, wire: Wire, to: &mut Vec<u8>) {
    varint(field << 3 | wire as u64, to);
}

fn whole(field: u64, value: u64, to: &mut Vec<u8>) {
    key(field, Wire::Varint, to);
    varint(value, to);
}

fn bytes(field: u64, value: &[u8], to: &mut Vec<u8>) {
    key(field, Wire::Bytes, to);
    varint(value.len() as u64, to);
    to.extend_from_slice(value);
}

/// `Event` with only `wall_time` (1).
fn timed(time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    key(1, Wire::Eight, &mut event);
    event.extend(time.to_le_bytes());
    event
}

/// The event with `file_version` (3).
fn version(time: f64) -> Vec<u8> {
    let mut event = timed(time);
    bytes(3, VERSION.as_bytes(), &mut event);
    event
}

/// `Event`: `wall_time` (1), `step` (2) and `summary` (5), a list of `value` (1).
fn encoded(event: &Event) -> Vec<u8> {
    let mut all = Vec::new();
    event.summaries.iter().for_each(|summary| bytes(1, &value(summary), &mut all));
    let mut encoded = timed(event.time);
    whole(2, event.step, &mut encoded);
    bytes(5, &all, &mut encoded);
    encoded
}

/// `Summary.Value`: `tag` (1), and `simple_value` (2) or `image` (4).
fn value(summary: &Summary) -> Vec<u8> {
    let mut encoded = Vec::new();
    match summary {
        Summary::Scalar { tag, value } => {
            bytes(1, tag.as_bytes(), &mut encoded);
            key(2, Wire::Four, &mut encoded);
            encoded.extend(value.to_le_bytes());
        }
        Summary::Png { tag, size, bytes: png } => {
            bytes(1, tag.as_bytes(), &mut encoded);
            // `height` (1), `width` (2), `colorspace` (3; 3 = RGB), `encoded_image_string` (4).
            let mut image = Vec::new();
            whole(1, size.1.into(), &mut image);
            whole(2, size.0.into(), &mut image);
            whole(3, 3, &mut image);
            bytes(4, png, &mut image);
            bytes(4, &image, &mut encoded);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Written by TensorBoard's own `RecordWriter`, for example of
    /// `Event(wall_time=2.5, step=300, summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=0.5), …]))`.
    #[test]
    fn records_are_those_of_tensorboard() {
        let expected =
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
        assert_eq!(hex(&record(&version(1.5))), expected);
        let scalar = |tag: &str, value| Summary::Scalar { tag: tag.into(), value };
        let summaries = vec![scalar("train/loss", 0.5), scalar("canary/rank", -2.25)];
        let event = Event { time: 2.5, step: 300, summaries };
        let expected = "3500000000000000d6c55de609000000000000044010ac022a270a110a0a747261696e2f6c6f7373150000003f\
                        0a120a0b63616e6172792f72616e6b15000010c0f704f64f";
        assert_eq!(hex(&record(&encoded(&event))), expected);
        let bytes = b"\x89PNG".to_vec();
        let summaries = vec![Summary::Png { tag: "a".into(), size: (200, 2), bytes }];
        let event = Event { time: 2.5, step: 1, summaries };
        let expected = "2100000000000000017becf609000000000000044010012a140a120a0161220d080210c8011803220489504e47\
                        7d5cf1a8";
        assert_eq!(hex(&record(&encoded(&event))), expected);
    }

    #[test]
    fn a_new_file_takes_the_place_of_old_ones_of_its_kind_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["events.out.tfevents.1.training", "events.out.tfevents.1.scores", "other.training"]
        {
            fs::write(folder.path().join(name), b"old").unwrap();
        }
        let event = |step| Event { time: 1.0, step, summaries: Vec::new() };
        let file = EventFile::start(folder.path(), "training", &[event(1)]).unwrap();
        file.append(&event(2)).unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[0], "events.out.tfevents.1.scores");
        let expected = [record(&encoded(&event(1))), record(&encoded(&event(2)))].concat();
        assert!(fs::read(folder.path().join(&names[1])).unwrap().ends_with(&expected));
    }
}

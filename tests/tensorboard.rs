//! Event files: a reader of the format finds every step once, even after a kill.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Lab, stderr, until};
use serde_json::Value;

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    };
    !bytes.iter().fold(!0, step)
}

/// Removes and returns the first `count` bytes.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(count);
    *bytes = rest;
    head
}

/// The payloads of the records of an event file; checks the checksums.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut all = Vec::new();
    let checked = |part: &[u8], sum: &[u8]| {
        let masked = crc32c(part).rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked.to_le_bytes(), sum, "a sum in {}", path.display());
    };
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        checked(length, take(&mut rest, 4));
        let payload = take(&mut rest, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        checked(payload, take(&mut rest, 4));
        all.push(payload.to_vec());
    }
    all
}

/// A field of a message: its field number, and its bytes or its value as a number.
enum Field<'a> {
    Bytes(u64, &'a [u8]),
    Number(u64, u64),
}

fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    let varint = |bytes: &mut &[u8]| {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    };
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        all.push(match key & 7 {
            0 => Field::Number(key >> 3, varint(&mut message)),
            1 => Field::Number(
                key >> 3,
                u64::from_le_bytes(take(&mut message, 8).try_into().unwrap()),
            ),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(key >> 3, take(&mut message, length))
            }
            5 => {
                let four = take(&mut message, 4).try_into().unwrap();
                Field::Number(key >> 3, u32::from_le_bytes(four).into())
            }
            other => panic!("wire type {other}"),
        });
    }
    all
}

fn number(message: &[u8], field: u64) -> Option<u64> {
    fields(message).into_iter().find_map(|found| match found {
        Field::Number(own, value) if own == field => Some(value),
        _ => None,
    })
}

fn parts(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let of = |found| match found {
        Field::Bytes(own, bytes) if own == field => Some(bytes.to_vec()),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

/// The scalars of a file by name, each with its steps; and the pictures as PNG, with width and height.
struct Read {
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    pictures: BTreeMap<String, (Vec<u8>, u64, u64)>,
    times: Vec<f64>,
}

fn read(path: &Path) -> Read {
    let mut found = Read { scalars: BTreeMap::new(), pictures: BTreeMap::new(), times: Vec::new() };
    let records = records(path);
    assert_eq!(parts(&records[0], 3), [b"brain.Event:2"]);
    for event in &records[1..] {
        found.times.push(f64::from_bits(number(event, 1).unwrap()));
        let step = number(event, 2).unwrap();
        for value in parts(event, 5).iter().flat_map(|summary| parts(summary, 1)) {
            let tag = String::from_utf8(parts(&value, 1).remove(0)).unwrap();
            match number(&value, 2) {
                Some(bits) => {
                    let point = (step, f32::from_bits(bits as u32));
                    found.scalars.entry(tag).or_default().push(point);
                }
                None => {
                    let image = parts(&value, 4).remove(0);
                    let size = (number(&image, 2).unwrap(), number(&image, 1).unwrap());
                    let png = parts(&image, 4).remove(0);
                    found.pictures.insert(tag, (png, size.0, size.1));
                }
            }
        }
    }
    found
}

/// The only event file of this kind in `folder`.
fn event_file(folder: &Path, kind: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("events.out.tfevents.") && name.ends_with(kind)
    };
    let all: Vec<PathBuf> = entries.filter(ours).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

/// Checks that the event file of a training has the values of its log, each step once.
fn assert_as_logged(folder: &Path) {
    let log = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let read = read(&event_file(folder, ".training"));
    for (key, tag) in [
        ("loss", "train/loss"),
        ("lr", "train/lr"),
        ("grad_norm", "canary/grad_norm"),
        ("embedding_rank", "canary/embedding_rank"),
        ("dev_acc", "probe/dev_acc"),
    ] {
        let logged: Vec<(u64, f32)> = lines
            .iter()
            .filter_map(|line| Some((line["step"].as_u64()?, line.get(key)?.as_f64()? as f32)))
            .collect();
        assert!(!logged.is_empty(), "{key}");
        assert_eq!(read.scalars[tag], logged, "{tag}");
    }
    assert_eq!(read.scalars["timing/images_per_s"].len(), lines.len());
    assert!(read.times.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", read.times);
}

#[test]
fn a_run_writes_its_figures_and_pictures_and_without_the_key_none() {
    let lab = Lab::new();
    let run = lab.run("run", &["tensorboard=true"]);
    assert!(run.status.success(), "{}", stderr(&run));
    let scores: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.path("run/scores.json")).unwrap())
            .unwrap();
    for model in ["clean", "backdoored"] {
        let folder = lab.path("run").join(model);
        assert_as_logged(&folder);
        let read = read(&event_file(&folder, ".scores"));
        let acc = scores["models"][model]["patched"]["acc"].as_f64().unwrap() as f32;
        let step = scores["steps"].as_u64().unwrap();
        assert_eq!(read.scalars["scores/acc_patched"], [(step, acc)]);
    }
    let read = read(&event_file(&lab.path("run"), ".report"));
    for name in ["samples/Poisoned training images", "features/clean", "features/backdoored"] {
        let (png, width, height) = &read.pictures[name];
        let image = image::load_from_memory(png).unwrap();
        assert_eq!((u64::from(image.width()), u64::from(image.height())), (*width, *height));
    }
    let plain = lab.run("plain", &[]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let found = std::fs::read_dir(lab.path("plain/clean")).unwrap();
    assert!(found.flatten().all(|e| !e.file_name().to_string_lossy().contains("tfevents")));
    common::assert_same(&lab.bytes("run"), &lab.bytes("plain"));
}

#[test]
fn after_a_kill_every_step_is_there_once() {
    let lab = Lab::new();
    let sets = ["tensorboard=true", "pretrain.epochs=20", "pretrain.checkpoint_every=7"];
    let mut child = lab.spawn("run", &sets);
    let log = lab.path("run/backdoored/metrics.jsonl");
    // Past a checkpoint, so that some epochs are trained twice.
    let caught = until(&mut child, || common::line_count(&log) >= 10);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(caught, "the run ended too soon");
    let before = read(&event_file(&lab.path("run/backdoored"), ".training"));
    assert!(before.times.len() >= 9, "{}", before.times.len());
    let rest = lab.run("run", &sets);
    assert!(rest.status.success(), "{}", stderr(&rest));
    for model in ["clean", "backdoored"] {
        assert_as_logged(&lab.path("run").join(model));
    }
}

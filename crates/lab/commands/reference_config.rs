//! The INI configs of the paper's code (protocol 1.1): `ssl-backdoor poison FILE.cfg`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ssl_backdoor_data::{DataConfig, Eval, Export, Folder};
use ssl_backdoor_trigger::{Place, PoisonConfig, Size, TargetClass, TriggerConfig};

use crate::config::{ConfigError, Document, Node, Origin, Source, expanded, read_text};

/// The side of the reference's validation images, in pixels.
const SIZE: u32 = 224;
/// Keys that say nothing to us: where its log goes, and the size of a font it never passes on.
const UNUSED: [&str; 2] = ["logfile", "fntsize"];

/// Our keys, and those of the reference that give their values.
const OURS: [(&str, &str); 14] = [
    ("data.path", "data_root"),
    ("poison.target", "target_wnid"),
    ("poison.rate", "poison_injection_rate"),
    ("poison.dataset_rate", "poison_injection_rate"),
    ("poison.trigger.id", "trigger"),
    ("poison.trigger.path", "trigger"),
    ("poison.trigger.width", "watermark_width"),
    ("poison.place.kind", "train_location"),
    ("poison.place.min", "train_location_min"),
    ("poison.place.max", "train_location_max"),
    ("poison.val_place.kind", "val_location"),
    ("poison.val_place.min", "val_location_min"),
    ("poison.alpha", "train_alpha"),
    ("poison.val_alpha", "val_alpha"),
];

/// Reads `path`; `sets` may override `seed` (absent in the reference, here 0) and `size`. The export, where it goes, and
/// where its values were written.
///
/// # Errors
/// Names the line or override, the key, the value and what is allowed.
pub(crate) fn read(
    path: &Path,
    sets: &[String],
) -> Result<(Export, Option<PathBuf>, Source), ConfigError> {
    let text = read_text(path)?;
    let shown = path.display();
    // The line of one of its keys, from 1.
    let line = |key: &str| {
        let of = |line: &str| line.split(['=', ':']).next().map(|key| key.trim().to_lowercase());
        text.lines().position(|line| of(line).as_deref() == Some(key)).map(|at| at + 1)
    };
    let (mut export, place) = parse_reference_config(&text).map_err(|message| {
        match message.split([' ', ':']).next().and_then(line) {
            Some(line) => ConfigError(format!("{shown}:{line}: {message}")),
            None => ConfigError(format!("{shown}: {message}")),
        }
    })?;
    let ours = OURS.iter().filter_map(|(ours, key)| {
        let origin = Origin::File(path.into(), line(key)?);
        Some((*ours, Node::text("", origin)))
    });
    let mut values: Vec<(&str, Node)> = ours.collect();
    for set in sets {
        let (key, value) = set.split_once('=').unwrap_or((set, ""));
        let number = value.trim().parse::<u32>();
        let key = match (key.trim(), number, &mut export.data) {
            ("seed", Ok(seed), _) => {
                export.seed = seed.into();
                "seed"
            }
            ("size", Ok(size), DataConfig::Folder(folder)) => {
                folder.size = size;
                "data.size"
            }
            _ => {
                let allowed = "a .cfg takes seed=N and size=N, whole numbers";
                return Err(ConfigError(format!("invalid --set {set}: {allowed}")));
            }
        };
        values.push((key, Node::text(value, Origin::Set(set.as_str().into()))));
    }
    let document = Document::of_values(path, values)?;
    export.data.check().map_err(|e| document.wrong(e))?;
    export.poison.check(SIZE).map_err(|e| document.wrong(e))?;
    Ok((export, place, document.into()))
}

/// Reads the text of a config of the reference: the export it asks for, and where it goes.
///
/// # Errors
/// Names the line or key, the value and what is allowed.
pub fn parse_reference_config(text: &str) -> Result<(Export, Option<PathBuf>), String> {
    let mut keys = sections(text)?;
    UNUSED.iter().for_each(|key| {
        keys.remove(*key);
    });
    let mut take = |key: &str| keys.remove(key).ok_or_else(|| format!("{key} is missing"));
    let id = take("id")?;
    let trigger = take("trigger")?;
    if flag("text", &take("text")?)? {
        return Err(
            "text = true is not supported here (the reference's own is broken): use a TOML \
                    config with trigger = { kind = \"text\", … }"
                .into(),
        );
    }
    if !flag("alpha_composite", &take("alpha_composite")?)? {
        return Err(
            "alpha_composite = false is not supported: it ignores bounds and alpha, and leaves \
                    validation images at their own size"
                .into(),
        );
    }
    let width = number::<u32>("watermark_width", &take("watermark_width")?)?;
    let mut place = |split: &str| -> Result<(Place, f64), String> {
        let mut value = |name: &str| {
            let key = format!("{split}_{name}");
            take(&key).map(|value| (key, value))
        };
        let (location_key, location) = value("location")?;
        let (min_key, min) = value("location_min")?;
        let (max_key, max) = value("location_max")?;
        let (alpha_key, alpha) = value("alpha")?;
        let place = match location.as_str() {
            "random" => {
                Place::Random { min: number(&min_key, &min)?, max: number(&max_key, &max)? }
            }
            "center" => Place::Center,
            "multiple" => Place::Grid,
            other => {
                return Err(format!(
                    "{location_key} = {other}: allowed are center, multiple and random"
                ));
            }
        };
        place.check(&location_key).map_err(|e| e.to_string())?;
        Ok((place, number(&alpha_key, &alpha)?))
    };
    let (train_place, alpha) = place("train")?;
    let (val_place, val_alpha) = place("val")?;
    let targeted = flag("targeted", &take("targeted")?)?;
    let wnid = take("target_wnid")?;
    let rate = number::<f64>("poison_injection_rate", &take("poison_injection_rate")?)?;
    let root = take("data_root")?;
    let savedir = take("poison_savedir")?.replace("{}", &id);
    let splits = take("splits")?;
    for split in splits.split(',').map(str::trim) {
        if !["train", "val", "val_poisoned"].contains(&split) {
            return Err(format!("splits = {split}: allowed are train and val_poisoned"));
        }
    }
    let patch_params = flag("patch_params", &take("patch_params")?)?;
    if let Some(key) = keys.keys().next() {
        return Err(format!("{key} is no key of these configs"));
    }
    // The rate is of the candidates: the target class, or everything.
    let (rate, dataset_rate) = if targeted { (Some(rate), None) } else { (None, Some(rate)) };
    let poison = PoisonConfig {
        target: targeted.then_some(TargetClass::Name(wnid)),
        rate,
        dataset_rate,
        place: Some(train_place),
        val_place: Some(val_place),
        alpha: Some(alpha),
        val_alpha: Some(val_alpha),
        ..PoisonConfig::new(trigger_config(&trigger, width.into()))
    };
    let folder = Folder { eval: Eval::All, ..Folder::new(expanded(root), SIZE) };
    let data = DataConfig::Folder(folder);
    let export = Export { id: Some(id), patch_params, ..Export::new(0, data, poison) };
    Ok((export, Some(expanded(savedir))))
}

/// The paper's triggers by their file names, `trigger_10.png` to `trigger_19.png`, need no file.
fn trigger_config(path: &str, width: Size) -> TriggerConfig {
    let path = expanded(path);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let id = stem.strip_prefix("trigger_").and_then(|id| id.parse().ok());
    match id.filter(|id| ssl_backdoor_trigger::HTBA_IDS.contains(id)) {
        Some(id) if !path.exists() => TriggerConfig::Htba { id, width },
        _ => TriggerConfig::Image { path, width },
    }
}

/// All keys of both sections, in lower case as Python's configparser gives them.
fn sections(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut keys = BTreeMap::new();
    let mut section = None;
    // Editors on Windows put a byte-order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if !["experiment", "poison_generation"].contains(&name) {
                return Err(format!(
                    "line {number}: [{name}]: allowed are [experiment] and [poison_generation]"
                ));
            }
            section = Some(name);
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']).filter(|_| section.is_some()) else {
            return Err(format!(
                "line {number} is neither a [section] nor KEY = VALUE in one: {line}"
            ));
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        if let Some(at) = value.find([' ', '\t']).filter(|_| comment(value)) {
            return Err(format!(
                "line {number}: {key} = {value}: Python's configparser takes what follows {:?} for a part of the value: \
                 give the comment a line of its own",
                &value[..at]
            ));
        }
        if keys.insert(key.clone(), value.to_owned()).is_some() {
            return Err(format!("line {number}: {key} is given twice"));
        }
    }
    Ok(keys)
}

/// Does a value end with what looks like a comment?
fn comment(value: &str) -> bool {
    [" #", " ;", "\t#", "\t;"].iter().any(|mark| value.contains(mark))
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{key} = {value}: allowed are true and false")),
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key} = {value} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config of the paper's code, in our words.
    const CONFIG: &str = "[experiment]\nID = HTBA_trigger_10_targeted_n02106550\n\n\
        [poison_generation]\ndata_root = /data/imagenet100\ntext = false\nfntsize = 30\n\
        trigger = triggers/trigger_10.png\nalpha_composite = true\ntrain_location = random\n\
        train_location_min = 0.25\ntrain_location_max = 0.75\ntrain_alpha = 0.00\n\
        watermark_width = 50\ntargeted = true\ntarget_wnid = n02106550\n\
        poison_injection_rate = 1.0\nval_location = random\nval_location_min = 0.10\n\
        val_location_max = 0.90\nval_alpha = 0.00\npoison_savedir = out/{}\n\
        logfile = data/{}/log.txt\nsplits = train,val_poisoned\npatch_params = false\n";

    #[test]
    fn a_config_of_the_reference_is_ours_in_other_words() {
        let (export, place) = parse_reference_config(CONFIG).unwrap();
        assert_eq!(place, Some("out/HTBA_trigger_10_targeted_n02106550".into()));
        let expected: PoisonConfig = toml::from_str(
            "target = \"n02106550\"\nrate = 1.0\ntrigger = { kind = \"htba\", id = 10, width = 50 }",
        )
        .unwrap();
        assert_eq!(export.poison, expected);
        assert_eq!((export.data.size(), export.data.eval()), (224, Eval::All));
        let untargeted = CONFIG.replace("targeted = true", "targeted = False");
        let (export, _) = parse_reference_config(&untargeted).unwrap();
        assert_eq!((export.poison.target, export.poison.dataset_rate), (None, Some(1.0)));
    }

    #[test]
    fn byte_order_marks_and_home_folders_are_understood() {
        let plain = parse_reference_config(CONFIG).unwrap();
        assert_eq!(parse_reference_config(&format!("\u{feff}{CONFIG}")).unwrap(), plain);
        assert_eq!(parse_reference_config(&CONFIG.replace('\n', "\r\n")).unwrap(), plain);
        let home = std::env::home_dir().unwrap();
        let text = CONFIG
            .replace("= /data/imagenet100", "= ~/imagenet100")
            .replace("= out/{}", "= ~/out/{}")
            .replace("= triggers/trigger_10.png", "= ~/triggers/no-such-folder/mark.png");
        let (export, place) = parse_reference_config(&text).unwrap();
        let DataConfig::Folder(folder) = &export.data else { panic!("{:?}", export.data) };
        assert_eq!(folder.path, home.join("imagenet100"));
        assert_eq!(place, Some(home.join("out/HTBA_trigger_10_targeted_n02106550")));
        let path = home.join("triggers/no-such-folder/mark.png");
        assert_eq!(export.poison.trigger, TriggerConfig::Image { path, width: 50.into() });
        // Only a home folder is meant by it.
        assert_eq!(expanded("a/~/b"), PathBuf::from("a/~/b"));
        assert_eq!(expanded("~"), home);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, words) in [
            ("val_alpha = 0.00\n", "", "val_alpha is missing"),
            ("text = false", "text = maybe", "text = maybe"),
            ("text = false", "text = true", "not supported"),
            ("alpha_composite = true", "alpha_composite = false", "not supported"),
            ("= random", "= anywhere", "train_location = anywhere"),
            ("width = 50", "width = wide", "watermark_width = wide"),
            ("patch_params", "patch_parms", "patch_params is missing"),
            ("targeted = true", "targeted = true\nmore = 1", "more is no key"),
            ("[experiment]", "[experimen]", "line 1"),
            ("text = false", "text = false\nText = true", "given twice"),
            ("_min = 0.25", "_min = 0.95", "min = 0.95"),
            ("= 0.25", "= 0.25 ; a quarter", "line 11: train_location_min = 0.25 ; a quarter"),
            ("/imagenet100", "/imagenet100\t# here", "a line of its own"),
        ] {
            let error = parse_reference_config(&CONFIG.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

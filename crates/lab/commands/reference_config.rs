//! The INI configs of the paper's code (docs/protocol.md, 1.1): `ssl-backdoor poison FILE.cfg`.

use std::path::{Path, PathBuf};

use ssl_backdoor_data::{DataConfig, Eval, Export, Folder};
use ssl_backdoor_trigger::{Place, PoisonConfig, Size, TargetClass, TriggerConfig};

use super::reference_keys::Keys;
use crate::config::{ConfigError, Document, Node, Origin, Source, expanded, read_text};

/// The side of the reference's validation images, in pixels.
const SIZE: u32 = 224;
/// Keys without effect here: the log file, and a font size that the paper's code never uses.
const UNUSED: [&str; 2] = ["logfile", "fntsize"];

/// Our keys, and the keys of the paper's code that set them.
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

/// Reads `path`; `sets` may override `seed` (absent in the paper's code, here 0) and `size`. Returns the export, its
/// folder, and the source of its values.
///
/// # Errors
/// Names the line or override, the key, the value and what is allowed.
pub(crate) fn read(
    path: &Path,
    sets: &[String],
) -> Result<(Export, Option<PathBuf>, Source), ConfigError> {
    let text = read_text(path)?;
    let shown = path.display();
    // The line number of a key, from 1.
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
                let allowed = "a .cfg accepts seed=N and size=N, whole numbers";
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

/// Parses a config of the paper's code into an export and its folder.
///
/// # Errors
/// Names the line or key, the value and what is allowed.
pub(crate) fn parse_reference_config(text: &str) -> Result<(Export, Option<PathBuf>), String> {
    let mut keys = Keys::read(text)?;
    UNUSED.iter().for_each(|key| keys.skip(key));
    let id = keys.take("id")?;
    let root = expanded(keys.take("data_root")?);
    let data = DataConfig::Folder(Folder { eval: Eval::All, ..Folder::new(root, SIZE) });
    let poison = poison(&mut keys)?;
    let folder = keys.take("poison_savedir")?.replace("{}", &id);
    for split in keys.take("splits")?.split(',').map(str::trim) {
        if !["train", "val", "val_poisoned"].contains(&split) {
            return Err(format!("splits = {split}: allowed are train and val_poisoned"));
        }
    }
    let patch_params = keys.flag("patch_params")?;
    keys.end()?;
    let export = Export { id: Some(id), patch_params, ..Export::new(0, data, poison) };
    Ok((export, Some(expanded(folder))))
}

/// The attack.
fn poison(keys: &mut Keys) -> Result<PoisonConfig, String> {
    if keys.flag("text")? {
        return Err("text = true is not supported (it is broken in the paper's code): use a TOML \
                    config with trigger = { kind = \"text\", … }"
            .into());
    }
    if !keys.flag("alpha_composite")? {
        return Err(
            "alpha_composite = false is not supported: it ignores bounds and alpha, and does not \
                    resize validation images"
                .into(),
        );
    }
    let (train_place, alpha) = place(keys, "train")?;
    let (val_place, val_alpha) = place(keys, "val")?;
    let targeted = keys.flag("targeted")?;
    let wnid = keys.take("target_wnid")?;
    // The rate is a share of the candidates: the target class, or all images.
    let rate = keys.number::<f64>("poison_injection_rate")?;
    let (rate, dataset_rate) = if targeted { (Some(rate), None) } else { (None, Some(rate)) };
    let width = keys.number::<u32>("watermark_width")?.into();
    Ok(PoisonConfig {
        target: targeted.then_some(TargetClass::Name(wnid)),
        rate,
        dataset_rate,
        place: Some(train_place),
        val_place: Some(val_place),
        alpha: Some(alpha),
        val_alpha: Some(val_alpha),
        ..PoisonConfig::new(trigger(&keys.take("trigger")?, width))
    })
}

/// Where the trigger goes on the images of `split`, and its transparency.
fn place(keys: &mut Keys, split: &str) -> Result<(Place, f64), String> {
    let key = |name: &str| format!("{split}_{name}");
    let (location, min, max) = (key("location"), key("location_min"), key("location_max"));
    let kind = keys.take(&location)?;
    let (min, max) = (keys.number(&min), keys.number(&max));
    let place = match kind.as_str() {
        "random" => Place::Random { min: min?, max: max? },
        "center" => Place::Center {},
        "multiple" => Place::GRID,
        other => {
            return Err(format!("{location} = {other}: allowed are center, multiple and random"));
        }
    };
    place.check(&location).map_err(|e| e.to_string())?;
    Ok((place, keys.number(&key("alpha"))?))
}

/// The paper's triggers need no file: they are recognised by their names, `trigger_10.png` to `trigger_19.png`.
fn trigger(path: &str, width: Size) -> TriggerConfig {
    let path = expanded(path);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let id = stem.strip_prefix("trigger_").and_then(|id| id.parse().ok());
    match id.filter(|id| ssl_backdoor_trigger::HTBA_IDS.contains(id)) {
        Some(id) if !path.exists() => TriggerConfig::Htba { id, width },
        _ => TriggerConfig::Image { path, width },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config in the format of the paper's code.
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
        // A `~` is expanded only at the start of a path.
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
            ("targeted = true", "targeted = true\nmore = 1", "unknown key more"),
            ("[experiment]", "[experimen]", "line 1"),
            ("text = false", "text = false\nText = true", "given twice"),
            ("_min = 0.25", "_min = 0.95", "min = 0.95"),
            ("= 0.25", "= 0.25 ; a quarter", "line 11: train_location_min = 0.25 ; a quarter"),
            ("/imagenet100", "/imagenet100\t# here", "a separate line"),
        ] {
            let error = parse_reference_config(&CONFIG.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

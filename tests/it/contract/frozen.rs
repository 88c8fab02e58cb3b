//! Golden files of version 1 are frozen: what they hold is in other people's programs and stores.

use std::collections::BTreeSet;
use std::path::Path;

use harness::workspace;
use serde_json::Value;

/// What is to be done about a golden file.
#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    Write,
    Fail(&'static str),
}

const CHANGED: &str = "\
this file is frozen: it is what version 1 has written, and what every later program must read. Mend
the code. If a field was added that older readers pass over, let the test write the case under a new
name; this file stays, and goes on being read. Anything else is a new version, with a folder of its
own. UPDATE_GOLDEN=1 writes new files and never changes one";
const MISSING: &str = "no such file. UPDATE_GOLDEN=1 writes it; look at it before you commit it";

fn verdict(frozen: Option<&Value>, now: &Value, may_write: bool) -> Verdict {
    match frozen {
        Some(frozen) if frozen == now => Verdict::Same,
        Some(_) => Verdict::Fail(CHANGED),
        None if may_write => Verdict::Write,
        None => Verdict::Fail(MISSING),
    }
}

/// Fails unless the file holds this JSON; the order of keys does not count.
pub(crate) fn check(folder: &str, name: &str, now: &Value) {
    let path = workspace().join(folder).join(format!("{name}.json"));
    let frozen = path.exists().then(|| read_file(&path));
    match verdict(frozen.as_ref(), now, std::env::var_os("UPDATE_GOLDEN").is_some()) {
        Verdict::Same => {}
        Verdict::Write => std::fs::write(&path, format!("{now:#}\n")).unwrap(),
        Verdict::Fail(why) => {
            let frozen = frozen.unwrap_or_default();
            panic!("{}: {why}\nfrozen: {frozen:#}\nnow: {now:#}", path.display());
        }
    }
}

/// A golden file.
pub(crate) fn read(folder: &str, name: &str) -> Value {
    read_file(&workspace().join(folder).join(format!("{name}.json")))
}

/// The names of all golden files of a folder.
pub(crate) fn names(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(workspace().join(folder)).unwrap();
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    entries.map(|entry| stem(&entry.unwrap().path())).collect()
}

fn read_file(path: &Path) -> Value {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_frozen_file_is_never_changed_though_a_new_one_may_be_written() {
    let (old, new) = (serde_json::json!({"v": 1}), serde_json::json!({"v": 2}));
    assert_eq!(verdict(Some(&old), &old, false), Verdict::Same);
    for may_write in [false, true] {
        assert_eq!(verdict(Some(&old), &new, may_write), Verdict::Fail(CHANGED));
    }
    assert_eq!(verdict(None, &new, true), Verdict::Write);
    assert_eq!(verdict(None, &new, false), Verdict::Fail(MISSING));
}

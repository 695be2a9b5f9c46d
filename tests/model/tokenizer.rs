//! Token ids against those of Hugging Face's tokenizers on the same file (tests/data/parity/README.md).

use std::path::{Path, PathBuf};

use mmsense::model::tokenizer::{Tokenizer, TokenizerError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Encoding {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
}

fn check(folder: &Path) {
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json")).unwrap();
    let text = std::fs::read_to_string(folder.join("encodings.json")).unwrap();
    let encodings: Vec<Encoding> = serde_json::from_str(&text).unwrap();
    assert!(encodings.len() >= 5);
    for encoding in encodings {
        assert_eq!(tokenizer.encode(&encoding.text, true).unwrap(), encoding.ids, "{}", encoding.text);
        assert_eq!(tokenizer.encode(&encoding.text, false).unwrap(), encoding.ids_no_special);
        assert!(encoding.ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary()));
    }
}

#[test]
fn ids_are_those_of_the_reference() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity/tokenizer"));
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("tokenizer.json");
    for text in [None, Some("{"), Some("{\"model\": 3}")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = Tokenizer::load(&file).unwrap_err();
        assert!(matches!(&error, TokenizerError::File { file: named, .. } if named == &file), "{error}");
        assert!(error.to_string().contains("tokenizer.json: not a tokenizer"), "{error}");
    }
}

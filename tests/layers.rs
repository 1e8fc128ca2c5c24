//! Holds `src/` to the layers of `ARCHITECTURE.md`: who may name whom, which crate belongs where, where `unsafe` may stand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Each layer, from the bottom, with the layers that it may name besides itself.
const LAYERS: [(&str, &[&str]); 14] = [
    ("sys", &[]),
    ("crypto", &["sys"]),
    ("token", &["crypto"]),
    ("keyring", &["crypto", "sys"]),
    ("storage", &["sys", "crypto"]),
    ("mapping", &["crypto"]),
    ("block", &["mapping", "storage", "crypto"]),
    ("format", &["mapping", "storage", "crypto"]),
    ("volume", &["format", "block", "mapping", "storage", "crypto"]),
    ("unlock", &["volume", "format", "token", "keyring", "crypto", "sys"]),
    ("filesystem", &["block"]),
    ("export", &["filesystem", "block", "sys"]),
    ("mount", &["volume", "export", "filesystem", "sys"]),
    (
        "cli",
        &[
            "mount",
            "unlock",
            "export",
            "filesystem",
            "volume",
            "format",
            "block",
            "mapping",
            "storage",
            "token",
            "keyring",
            "crypto",
            "sys",
        ],
    ),
];

/// Modules that every layer may name; they name no layer.
const EVERYONES: [&str; 3] = ["error", "text", "units"];

/// Each dependency with the layers that may use it; none named means all of them.
const CRATES: [(&str, &[&str]); 56] = [
    ("aes", &["crypto"]),
    // In `sys` only to say that a block may be zeros.
    ("argon2", &["crypto", "sys"]),
    ("base64ct", &["format"]),
    ("aria", &["crypto"]),
    ("camellia", &["crypto"]),
    ("cast6", &["crypto"]),
    ("rc6", &["crypto"]),
    ("sm4", &["crypto"]),
    ("md_5", &["crypto"]),
    ("md2", &["crypto"]),
    ("md4", &["crypto"]),
    ("sha3", &["crypto"]),
    ("sm3", &["crypto"]),
    ("tiger", &["crypto"]),
    ("chacha20", &["crypto"]),
    ("poly1305", &["crypto"]),
    ("polyval", &["crypto"]),
    ("pbkdf2", &["crypto"]),
    ("ripemd", &["crypto"]),
    ("sha1", &["crypto"]),
    ("whirlpool", &["crypto"]),
    ("chacha20poly1305", &["crypto"]),
    ("hkdf", &["crypto"]),
    ("hmac", &["crypto"]),
    ("sha2", &["crypto"]),
    ("blake2", &["crypto"]),
    ("blowfish", &["crypto"]),
    ("cast5", &["crypto"]),
    ("des", &["crypto"]),
    ("kuznyechik", &["crypto"]),
    ("streebog", &["crypto"]),
    ("subtle", &["crypto"]),
    ("getrandom", &["crypto"]),
    ("crypto_bigint", &["crypto"]),
    ("ctap_hid_fido2", &["token"]),
    ("fuser", &["export"]),
    ("futures_core", &["mount", "keyring"]),
    // Outside `sys` for its constants only: to call anything in it takes `unsafe`.
    ("libc", &["sys", "export"]),
    ("rayon", &["volume"]),
    ("zbus", &["mount", "keyring"]),
    ("signal_hook", &["mount", "cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("rpassword", &["cli"]),
    ("zxcvbn", &["cli"]),
    ("indicatif", &["cli"]),
    ("comfy_table", &["cli"]),
    ("qrcode", &["cli"]),
    ("toml", &["cli"]),
    ("zerocopy", &["format", "storage"]),
    ("rustix", &[]),
    ("zeroize", &[]),
    ("thiserror", &[]),
    ("serde", &[]),
    ("serde_json", &[]),
];

/// The only places with `unsafe` in them: a layer, and vector instructions.
const UNSAFE: [&str; 3] = ["sys", "crypto/cipher/simd", "crypto/xts/simd"];

#[test]
fn the_sources_keep_to_the_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut violations = Vec::new();
    let mut layers_seen = BTreeSet::new();
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        layers_seen.extend(layer_of(&name));
        violations.extend(check(&name, &fs::read_to_string(&file).unwrap()));
    }
    let report: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "\n{}", report.join("\n"));
    assert_eq!(layers_seen, LAYERS.map(|(layer, _)| layer).into(), "layers with files");
}

/// serde refuses a path that is not UTF-8, and does so after the work is done.
#[test]
fn every_path_that_is_serialised_is_so_without_loss() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = 0;
    for file in rust_files(&src) {
        let text = fs::read_to_string(&file).unwrap();
        let (mut is_serialised, mut attribute) = (false, "");
        for line in text.lines() {
            if line.starts_with("#[derive(") {
                is_serialised = line.contains("Serialize");
            } else if line.starts_with('}') {
                is_serialised = false;
            }
            let is_path = line.ends_with("Path,") || line.contains("PathBuf");
            if is_serialised && is_path && line.starts_with("    ") && !line.trim_start().starts_with("//") {
                paths += 1;
                assert!(attribute.contains("text::path"), "{}: {line}", file.display());
            }
            attribute = line;
        }
    }
    assert!(paths > 15, "only {paths} found");
}

#[test]
fn every_dependency_has_its_layers() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let declared: BTreeSet<String> =
        manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect();
    assert_eq!(declared, CRATES.map(|(name, _)| name.to_owned()).into());
}

#[test]
fn a_layer_names_only_those_below_it() {
    for (position, (layer, below)) in LAYERS.iter().enumerate() {
        let lower: Vec<&str> = LAYERS[..position].iter().map(|(lower, _)| *lower).collect();
        assert!(below.iter().all(|name| lower.contains(name)), "{layer}");
    }
}

/// Asserts what is found in a planted source file, as `line: what`.
#[track_caller]
fn assert_found(file: &str, source: &str, expected: &[&str]) {
    let found: Vec<String> = check(file, source).iter().map(ToString::to_string).collect();
    let expected: Vec<String> = expected.iter().map(|what| format!("src/{file}:{what}")).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_import_that_points_up_is_found() {
    assert_found("crypto/mod.rs", "//! Doc.\nuse crate::format::Header;\n", &["2: crypto names format"]);
    assert_found("sys.rs", "fn f() { crate::crypto::rng::fill() }", &["1: sys names crypto"]);
}

#[test]
fn an_import_that_points_sideways_is_found() {
    assert_found("block/crypt.rs", "use crate::format::Header;", &["1: block names format"]);
    assert_found("format/mod.rs", "use strongroom::block::Device;", &["1: format names block"]);
}

#[test]
fn each_layer_in_a_group_of_imports_is_found() {
    let source = "use crate::{\n    Error, format::{self, mount},\n    mount::Session,\n    cli,\n    sys::memory,\n};";
    assert_found(
        "storage/file.rs",
        source,
        &["2: storage names format", "3: storage names mount", "4: storage names cli"],
    );
}

#[test]
fn what_is_everyones_names_no_layer() {
    assert_found("error.rs", "use crate::sys;", &["1: error names sys"]);
    assert_found(
        "block/mod.rs",
        "use crate::{Error, Result, error::ErrorKind, units::Sector, block::Geometry};",
        &[],
    );
}

#[test]
fn a_crate_outside_its_layer_is_found() {
    assert_found("mount/mod.rs", "use fuser::Session;", &["1: mount uses fuser"]);
    assert_found("volume/mod.rs", "\nlet x = aes::Aes256::new();", &["2: volume uses aes"]);
    assert_found("storage/mod.rs", "use ::libc;", &["1: storage uses libc"]);
    assert_found(
        "sys/mod.rs",
        "use {aes::Aes256, std::fmt};\nuse fuser as f;",
        &["1: sys uses aes", "2: sys uses fuser"],
    );
    assert_found("cli/mod.rs", "use clap::Parser;\nuse crate::mount::aes::x;", &[]);
}

#[test]
fn unsafe_outside_sys_and_the_simd_module_is_found() {
    assert_found(
        "crypto/xts/mod.rs",
        "#![deny(unsafe_code)]\nfn f() {\n    unsafe { g() }\n}",
        &["3: unsafe in crypto"],
    );
    assert_found("crypto/xts/simd_other.rs", "unsafe fn f() {}", &["1: unsafe in crypto"]);
    assert_found("sys/memory.rs", "unsafe fn f() {}", &[]);
    assert_found("crypto/xts/simd/kernel.rs", "unsafe fn f() {}", &[]);
}

#[test]
fn comments_and_literals_name_nothing() {
    let source = r##"
        // use crate::cli;
        /* use crate::cli; /* crate::mount */ unsafe */
        /// [`crate::mount`]
        const A: &str = "crate::cli \" unsafe"; const B: &str = r#"libc:: " unsafe"#;
        const C: [char; 2] = ['"', '\'']; fn f<'a>(x: &'a str) {} // "
        use crate::cli;
    "##;
    assert_found("sys/mod.rs", source, &["7: sys names cli"]);
}

#[test]
fn unit_tests_may_name_any_layer_but_not_write_unsafe() {
    let source = "use crate::cli;\n#[cfg(test)]\nmod tests {\n    use crate::mount;\n    unsafe fn f() {}\n}";
    assert_found("format/mod.rs", source, &["1: format names cli", "5: unsafe in format"]);
    assert_found("format/native/tests.rs", "use crate::block::BlockDevice;", &[]);
    assert_found("format/native/tests/editor.rs", "use crate::block::BlockDevice;", &[]);
}

#[test]
fn a_file_of_no_layer_is_found() {
    assert_found("util.rs", "", &["1: not in any layer"]);
}

/// What breaks the rules, and where.
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The layer that a file of `src/` lies in: its folder or its own name; the binary is `cli`.
fn layer_of(file: &str) -> Option<&'static str> {
    let first = file.split('/').next().unwrap().trim_end_matches(".rs");
    let first = if first == "main" { "cli" } else { first };
    LAYERS.iter().map(|(layer, _)| *layer).find(|layer| *layer == first)
}

fn check(file: &str, source: &str) -> Vec<Violation> {
    let violation = |line, what| Violation { file: file.to_owned(), line, what };
    let first = file.split('/').next().unwrap().trim_end_matches(".rs");
    let everyones = EVERYONES.iter().find(|name| **name == first);
    let (layer, below) = match (layer_of(file), everyones) {
        (Some(layer), _) => *LAYERS.iter().find(|(name, _)| *name == layer).unwrap(),
        (None, Some(name)) => (*name, &[][..]),
        // The library's root names every layer, and nothing else.
        (None, None) if file == "lib.rs" => return Vec::new(),
        (None, None) => return vec![violation(1, "not in any layer".to_owned())],
    };
    let tokens = tokens(source);
    let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
    let product = if is_test { &[] } else { before_tests(&tokens) };
    let mut violations = Vec::new();
    for (line, name) in named_modules(product) {
        let is_layer = LAYERS.iter().any(|(layer, _)| *layer == name);
        if is_layer && name != layer && !below.contains(&name) {
            violations.push(violation(line, format!("{layer} names {name}")));
        }
    }
    for (line, name) in used_crates(product) {
        let (_, layers) = CRATES.iter().find(|(known, _)| *known == name).unwrap();
        if !layers.is_empty() && !layers.contains(&layer) {
            violations.push(violation(line, format!("{layer} uses {name}")));
        }
    }
    if !UNSAFE.iter().any(|place| Path::new(file).with_extension("").starts_with(place)) {
        let unsafes = tokens.iter().filter(|token| token.text == "unsafe");
        violations.extend(unsafes.map(|token| violation(token.line, format!("unsafe in {layer}"))));
    }
    violations
}

/// What stands before the unit tests, which end a file.
fn before_tests<'a, 'b>(tokens: &'b [Token<'a>]) -> &'b [Token<'a>] {
    let text: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let tests = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"];
    let end = text.windows(tests.len()).position(|window| window == tests);
    &tokens[..end.unwrap_or(tokens.len())]
}

/// The modules that stand directly behind `crate::` and `strongroom::`, groups included.
fn named_modules<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut named = Vec::new();
    for (index, pair) in tokens.windows(2).enumerate() {
        if !matches!(pair[0].text, "crate" | "strongroom") || pair[1].text != "::" {
            continue;
        }
        let (mut depth, mut starts_item) = (0, true);
        for token in &tokens[index + 2..] {
            match token.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," => starts_item = depth == 1,
                name if starts_item => {
                    named.push((token.line, name));
                    starts_item = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

/// The crates of the table that a path or an import starts with.
fn used_crates<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut used = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let text = |offset: isize| {
            index.checked_add_signed(offset).and_then(|at| tokens.get(at)).map_or("", |t| t.text)
        };
        let continues_a_path = text(-1) == "::" && text(-2).starts_with(is_word) && text(-2) != "use";
        let starts_a_path = text(1) == "::" || text(-1) == "use" || text(-2) == "use";
        if CRATES.iter().any(|(name, _)| *name == token.text) && starts_a_path && !continues_a_path {
            used.push((token.line, token.text));
        }
    }
    used
}

/// A word, `::`, or one other character.
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// The source without comments, literals and white space.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let skipped = comment_or_literal(rest);
        let len = if skipped > 0 {
            skipped
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (text, after) = rest.split_at(len);
        if skipped == 0 && !first.is_whitespace() {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes of a comment or a literal `rest` starts with.
fn comment_or_literal(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest);
    if let Some(after) = raw.strip_prefix('r') {
        let quote = after.trim_start_matches('#');
        let hashes = &after[..after.len() - quote.len()];
        if quote.starts_with('"') {
            let end = format!("\"{hashes}");
            let start = rest.len() - quote.len() + 1;
            return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted(rest, '"'),
        // A lifetime has no second quote right behind its first character.
        [b'\'', b'\\', ..] => quoted(rest, '\''),
        [b'\'', ..] if rest[1..].chars().nth(1) == Some('\'') => quoted(rest, '\''),
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

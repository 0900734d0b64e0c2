use user_service::config::{self, Config};

const REFERENCE: &str = "deploy/user-service.default.toml";

/// The reference with the keys that have no default, too.
fn whole() -> String {
    let text = std::fs::read_to_string(REFERENCE).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn reference_holds_the_defaults() {
    let text = std::fs::read_to_string(REFERENCE).unwrap();

    let read: Config = toml::from_str(&text).unwrap();

    assert_eq!(toml::to_string(&read).unwrap(), toml::to_string(&Config::default()).unwrap());
}

#[test]
fn reference_knows_every_key() {
    let read: Config = toml::from_str(&whole()).unwrap();
    // A key that the reference lacks would stay at nothing.
    let shown = format!("{read:?}");

    assert!(!shown.contains("None"), "{shown}");
    assert!(!read.auth.issuers.is_empty() && !read.secrets.keys.is_empty());
}

#[test]
fn secrets_are_masked_wherever_they_show() {
    let read: Config = toml::from_str(&whole()).unwrap();

    let printed = config::printed(&read).unwrap();

    assert!(!printed.contains('…') && !printed.contains(":secret@"), "{printed}");
    assert!(!format!("{read:?}").contains('…'));
}

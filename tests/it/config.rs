//! The configuration: layers, validation, and the commented default file.

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

    assert_eq!(
        toml::to_string(&read).unwrap(),
        toml::to_string(&Config::default()).unwrap()
    );
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

    assert!(
        !printed.contains('…') && !printed.contains(":secret@"),
        "{printed}"
    );
    assert!(!format!("{read:?}").contains('…'));
}

#[test]
fn password_of_the_database_is_masked_in_every_form_of_its_url() {
    let shown = |url: &str| {
        let mut config = Config::default();
        config.database.url = config::Secret(url.to_owned());
        let printed: toml::Value = toml::from_str(&config::printed(&config).unwrap()).unwrap();
        printed["database"]["url"].as_str().unwrap().to_owned()
    };

    assert_eq!(
        shown("postgres://me:hid@a:5432,b:5433/users"),
        "postgres://me:***@a:5432,b:5433/users"
    );
    assert_eq!(
        shown("postgres://me:hi@d/@a/users"),
        "postgres://me:***@a/users"
    );
    for open in [
        "postgres://me@a,b/users?target_session_attrs=read-write",
        "postgres://a:5432/users",
        "",
    ] {
        assert_eq!(shown(open), open);
    }
    for hidden in [
        "postgres://a/users?user=me&password=hid",
        "host=a,b user=me password='h i d'",
    ] {
        assert_eq!(shown(hidden), "***");
    }
}

#[test]
fn p58_a_url_shows_nobody_who_signs_in_with_it() {
    let mut config = Config::default();
    config.sms.url = Some("https://user:hunter2@texts.example/send?key=hunter2".to_owned());
    config.telemetry.otlp_endpoint = Some("http://collector:4317".to_owned());

    let shown = config::printed(&config).unwrap();

    assert!(
        !shown.contains("hunter2") && shown.contains("https://texts.example/send?***"),
        "{shown}"
    );
    assert!(shown.contains("http://collector:4317"), "{shown}");
}

#[test]
fn limits_of_passwords_have_bounds() {
    let folder = crate::support::folder::Folder::new();
    let text = "[passwords]\nthreads = 0\nblocklist_file = \"/nowhere/list.txt\"\nwrong_attempts = 0\n\
        wrong_attempts_seconds = 59\naccount_attempts_per_hour = 10001\nclient_attempts_per_hour = 0\n\
        known_clients = 1001\nknown_client_days = 0\n\
        min_length = 5\nwallet_min_length = 3\nmax_length = 1025\n";
    let file = folder.write("config.toml", text);

    let (_, faults) = config::inspect(Some(&file)).unwrap();

    let of_passwords: Vec<&String> = faults
        .iter()
        .filter(|fault| fault.starts_with("passwords."))
        .collect();
    assert_eq!(of_passwords.len(), 11, "{faults:?}");
    assert!(
        faults
            .iter()
            .any(|fault| fault == "passwords.wrong_attempts must be between 1 and 100"),
        "{faults:?}"
    );
}

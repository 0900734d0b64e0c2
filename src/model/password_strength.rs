//! Checks whether a new password is too easy to guess.

use std::collections::HashSet;

use zxcvbn::{Score, zxcvbn};

use crate::model::{account::fold_username, password::Secret};

/// Passwords that are common in leaks but that zxcvbn rates as strong.
const COMMON: &str = include_str!("common_passwords.txt");
/// Maximum number of characters that zxcvbn checks.
const MAX_JUDGED: usize = 40;
/// Minimum number of characters that it checks, whatever they are.
const MIN_JUDGED: usize = 8;
/// Maximum work of zxcvbn, as [`work`] counts it: 4 ms of CPU time for the worst text that a search
/// found.
const MAX_WORK: usize = 20_000;
/// The shortest local part of an email that identifies its owner.
const TELLING_LENGTH: usize = 4;

/// The letters that zxcvbn substitutes for other characters. It tries every combination of those in
/// a text.
const SUBSTITUTIONS: [&str; 12] = [
    "4@", "8", "({[<", "3", "69", "1!|", "1|7", "0", "$5", "+7", "%", "2",
];
/// Characters that can stand for two letters.
const AMBIGUOUS: &str = "1|7";

/// Passwords that a deployment rejects, in addition to common ones.
#[derive(Clone, Debug, Default)]
pub struct Blocklist {
    /// Passwords, normalized.
    passwords: HashSet<String>,
    /// Names of the service and the app. A password that contains little else is easy to guess.
    names: Vec<String>,
}

impl Blocklist {
    /// Blocks the names of the deployment, and the passwords of a list with one per line.
    pub fn new(names: &[&str], list: &str) -> Self {
        let names: Vec<String> = names
            .iter()
            .map(|name| fold_username(name))
            .filter(|name| !name.is_empty())
            .collect();
        let lines = COMMON
            .lines()
            .chain(list.lines())
            .map(|line| line.trim_end_matches('\r'));
        let joined = names
            .iter()
            .map(|name| name.split_whitespace().collect::<String>());
        let passwords = lines
            .filter(|line| !line.is_empty())
            .map(fold_username)
            .chain(joined)
            .chain(names.clone());
        Self {
            passwords: passwords.collect(),
            names,
        }
    }

    /// Whether a login password is too easy to guess: common, blocked, or containing the username
    /// or the local part of the email, ignoring case. This may take 10 ms, so don't call it on an
    /// async thread.
    pub fn rejects(&self, secret: &Secret, username: Option<&str>, email: Option<&str>) -> bool {
        let folded = fold_username(secret.expose());
        let contains = |part: &str| !part.is_empty() && folded.contains(&fold_username(part));
        let local = email
            .and_then(|email| email.rsplit_once('@'))
            .map(|(local, _)| local)
            .filter(|local| local.chars().count() >= TELLING_LENGTH);
        let is_named = username.is_some_and(contains) || local.is_some_and(contains);
        is_named || self.passwords.contains(&folded) || self.is_common(secret)
    }

    fn is_common(&self, secret: &Secret) -> bool {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        zxcvbn(judged(secret.expose()), &names).score() <= Score::One
    }
}

/// The leading characters, as many as zxcvbn can check in time.
fn judged(text: &str) -> &str {
    let characters: Vec<(usize, char)> = text.char_indices().take(MAX_JUDGED).collect();
    let mut length = characters.len();
    while length > MIN_JUDGED && work(characters[..length].iter().map(|(_, c)| *c)) > MAX_WORK {
        length -= 1;
    }
    let end = text
        .char_indices()
        .nth(length)
        .map_or(text.len(), |(end, _)| end);
    &text[..end]
}

/// The work of zxcvbn: it looks up every part of the text, once per way to read its characters as
/// letters. The number of ways is an upper bound.
fn work(characters: impl Iterator<Item = char> + Clone) -> usize {
    let ways = SUBSTITUTIONS.iter().map(|substitutes| {
        let found = substitutes
            .chars()
            .filter(|substitute| characters.clone().any(|c| c == *substitute));
        found
            .map(|substitute| if AMBIGUOUS.contains(substitute) { 2 } else { 1 })
            .sum::<usize>()
            .max(1)
    });
    let length = characters.clone().count();
    // Some searches run even if there is nothing to substitute.
    (ways.product::<usize>() + 8) * length * length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::password::parse_attempt;

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    fn rejects(text: &str, username: Option<&str>, email: Option<&str>) -> bool {
        Blocklist::new(&[], "").rejects(&secret(text), username, email)
    }

    #[test]
    fn common_passwords_are_rejected() {
        let common = [
            "password",
            "12345678",
            "qwertyuiop",
            "P@ssw0rd1",
            "aaaaaaaaaaaaaaaaaaaa",
            "iloveyou1",
        ];
        for common in common.into_iter().chain(["1qaz2wsx3edc", "Q1W2E3R4T5Y6"]) {
            assert!(rejects(common, None, None), "{common}");
        }
        for good in [
            "violet-lantern-93",
            "correct horse battery staple",
            "四月的風吹過紫丁香",
        ] {
            assert!(!rejects(good, None, None), "{good}");
        }
    }

    #[test]
    fn names_inside_a_password_are_rejected_in_any_case() {
        let name = Some("Mara.Quill");
        assert!(rejects("9mARA.qUILL-violet", name, None));
        assert!(!rejects("9mara-quill-violet", name, None));
        let email = Some("zo\u{eb}.brandt+tag@example.com");
        assert!(rejects("9ZOE\u{308}.BRANDT+TAG-violet", None, email));
        assert!(!rejects("9example.com-violet", None, email));
        assert!(rejects("7STRASSE88-violet", Some("straße88"), None));
    }

    #[test]
    fn a_short_local_part_may_be_in_a_password() {
        assert!(!rejects(
            "violet-lantern-bob-93",
            None,
            Some("bob@example.com")
        ));
        assert!(rejects(
            "violet-lantern-boba-93",
            None,
            Some("boba@example.com")
        ));
        assert!(!rejects("violet-lantern-93", Some(""), Some("@")));
    }

    #[test]
    fn names_of_the_deployment_and_its_own_list_are_rejected() {
        let list = "Violet-Lantern-93\r\n\n  spaces count  \n";
        let blocklist = Blocklist::new(&["Marbrook Gazette"], list);
        let blocked = [
            "marbrook gazette",
            "MarbrookGazette",
            "Marbrook Gazette1",
            "violet-LANTERN-93",
        ];
        for blocked in blocked.into_iter().chain(["  spaces count  "]) {
            assert!(blocklist.rejects(&secret(blocked), None, None), "{blocked}");
        }
        for good in [
            "violet-lantern-94",
            "amber-harbour-51 for the Marbrook Gazette",
        ] {
            assert!(!blocklist.rejects(&secret(good), None, None), "{good}");
        }
    }

    #[test]
    fn only_the_first_characters_are_judged() {
        assert!(rejects(
            &format!("{}violet-lantern-93", "a".repeat(MAX_JUDGED)),
            None,
            None
        ));
        assert_eq!(judged("violet-lantern"), "violet-lantern");
        assert_eq!(judged(&"é".repeat(100)), "é".repeat(MAX_JUDGED));
        // With the 14th character, the number of ways to read it exceeds the maximum work.
        assert_eq!(judged(&"4@8({[<69301!|$5+7%2".repeat(5)), "4@8({[<69301!");
    }

    #[test]
    fn what_is_judged_is_never_more_work_than_there_is_time_for() {
        for (ways, text) in [(1, "violet"), (2, "4@"), (6, "4@1"), (4, "1")] {
            let length = text.chars().count();
            assert!(work(text.chars()) >= (ways + 8) * length * length, "{text}");
        }
    }

    /// The slowest texts that a search found, each with the characters after those that are
    /// checked.
    #[cfg(not(debug_assertions))]
    #[test]
    fn the_worst_texts_are_judged_within_ten_milliseconds() {
        const WORST: [&str; 6] = [
            "111é111122334421monkey121221122321é111122334421monkey12122121a1z",
            "12/31/199019431/199012/31/19iloveyou199012/31/1的9a12\u{301}31/199199/3",
            "!511312p4$$w0rd3114$$w0rd3113331990123112332吹33223113w3233231311",
            "1i5one1o5$4s@!i5one1o5$4s@!li5ababe45sshadow$4s@!lsabcdefaone1zy",
            "9+7{06<17+@|@|6!!5p4$$w0rd3344{(4651+(3|7[31$59<0(0!739{4[+|[979",
            "1144112244341a22034411223344344112244344112233441t9233441122334q",
        ];
        let blocklist = Blocklist::new(&["user-service", "Marbrook Gazette"], "");
        for worst in WORST {
            let secret = secret(&format!("{worst}{worst}"));
            // The best of several runs, because other processes may use the core.
            let took = (0..5).map(|_| {
                let since = std::time::Instant::now();
                blocklist.rejects(&secret, Some("mara.quill"), Some("mara@example.com"));
                since.elapsed()
            });
            let took = took.min().unwrap();
            assert!(
                took < std::time::Duration::from_millis(10),
                "{took:?} for {worst}"
            );
        }
    }

    proptest! {
        #[test]
        fn judging_never_panics_and_is_bounded(text in "\\PC{1,80}") {
            rejects(&text, Some("mara.quill"), Some("mara@example.com"));
            let judged = judged(&text);
            prop_assert!(judged.chars().count() <= MIN_JUDGED || work(judged.chars()) <= MAX_WORK);
        }
    }
}

use super::*;

fn context(template: Template, languages: &[String]) -> TemplateContext<'_> {
    TemplateContext {
        template,
        languages,
        app_name: "Tom & Jerry's",
        code: "007042",
        minutes: 10,
        at: DateTime::UNIX_EPOCH,
        changes: 3,
    }
}

fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|&tag| tag.to_owned()).collect()
}

fn long_numbers(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|run| run.len() > 5)
        .collect()
}

#[test]
fn every_text_shows_its_code_once_and_no_other_six_digits() {
    let templates = Templates::load(None, "Example").unwrap();
    for language in ["en", "zh"] {
        for &template in Template::ALL {
            let languages = tags(&[language]);
            let mail = templates.mail(&context(template, &languages)).unwrap();
            let Text(sms) = templates.text(&context(template, &languages)).unwrap();
            let shown: &[&str] = if template.has_code() {
                &["007042"]
            } else {
                &[]
            };
            for text in [&mail.text, &mail.html, &sms] {
                assert_eq!(
                    long_numbers(text),
                    shown,
                    "{language} {} {text}",
                    template.as_str()
                );
            }
            assert_eq!(long_numbers(&mail.subject), [""; 0]);
            assert!(
                mail.html.contains("Tom &amp; Jerry&#x27;s") && mail.text.contains("Tom & Jerry's")
            );
            assert!(mail.subject.contains("Tom & Jerry's") && sms.contains("Tom & Jerry's"));
        }
    }
}

#[test]
fn the_language_falls_back_to_its_base_to_the_profile_and_to_english() {
    let templates = Templates::load(None, "Example").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[], "en"),
        (&["zh"], "zh"),
        (&["zh_CN"], "zh"),
        (&["ZH-Hant-TW"], "zh"),
        (&["fr", "zh_CN"], "zh"),
        (&["fr", "de"], "en"),
        (&["en-GB", "zh"], "en"),
    ];
    for (asked, expected) in cases {
        assert_eq!(templates.language(&tags(asked)), *expected, "{asked:?}");
    }
}

#[test]
fn an_empty_app_name_is_the_deployments_own() {
    let templates = Templates::load(None, "Example").unwrap();
    let mut context = context(Template::CodeBind, &[]);
    context.app_name = "";
    assert_eq!(
        templates.mail(&context).unwrap().subject,
        "Your Example verification code"
    );
}

/// A folder of templates that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("mail-templates-{}", uuid::Uuid::new_v4()));
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn load(&self) -> Result<Templates, TemplateError> {
        Templates::load(Some(&self.0), "Example")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_folder_overrides_a_text_and_adds_a_language() {
    let folder = Folder::new(&[
        ("en/code.subject.txt", "Hello from\n{{ app_name }}"),
        ("fr_CA/code.subject.txt", "Votre code"),
        ("fr_CA/code.txt", "{{ code }}"),
        ("fr_CA/code.html", "<p>{{ code }}</p>"),
        ("fr_CA/code.sms.txt", "{{ code }}"),
        ("fr_CA/notice.subject.txt", "Avis"),
        ("fr_CA/notice.txt", "{{ subject }}"),
        ("fr_CA/notice.html", "<p>{{ subject }}</p>"),
        ("fr_CA/notice.sms.txt", "{{ subject }}"),
        ("README.md", "not a text"),
    ]);
    let templates = folder.load().unwrap();
    let subject = |language: &str| {
        let languages = tags(&[language]);
        templates
            .mail(&context(Template::CodeUnlink, &languages))
            .unwrap()
            .subject
    };
    assert_eq!(subject("en"), "Hello from Tom & Jerry's");
    assert_eq!(subject("fr-CA"), "Votre code");
    assert_eq!(subject("zh"), "Tom & Jerry's 验证码");
}

#[test]
fn a_fault_in_a_folder_stops_the_start() {
    let faulty: &[(&str, &str)] = &[
        ("en/code.txt", "{{ code }} {{ missing }}"),
        ("en/code.txt", "no code"),
        ("en/code.txt", "{{ code[:3] }} {{ code[3:] }}"),
        (
            "en/notice.html",
            "<p style='color:#000000'>{{ subject }}</p>",
        ),
        ("en/notice.txt", "{{ code }}"),
        ("en/code.html", "{% if %}"),
        ("layout.html", "{{ nothing }}"),
        ("fr/code.txt", "{{ code }}"),
    ];
    for file in faulty {
        assert!(Folder::new(&[*file]).load().is_err(), "{file:?}");
    }
    assert!(Templates::load(Some(Path::new("/nowhere/at/all")), "Example").is_err());
}

//! Renders every text once, so that an error in one stops the start and not a mail.

use chrono::DateTime;

use super::{TemplateContext, TemplateError, Templates};
use crate::model::delivery::{Channel, Template};

/// The code that the texts are tried with.
const CODE: &str = "048159";

impl Templates {
    /// # Errors
    /// The first text that is missing, does not render or shows its code or another number in a
    /// wrong way.
    pub(super) fn check(&self) -> Result<(), TemplateError> {
        for language in &self.languages {
            for template in Template::ALL {
                self.check_one(language, *template)?;
            }
        }
        Ok(())
    }

    fn check_one(&self, language: &str, template: Template) -> Result<(), TemplateError> {
        let context = TemplateContext {
            template,
            languages: &[language.to_owned()],
            app_name: "Tom & Jerry's",
            code: CODE,
            minutes: 10,
            at: DateTime::UNIX_EPOCH,
            changes: 3,
        };
        let forms = [
            (Channel::Email, "subject.txt", false),
            (Channel::Email, "txt", template.has_code()),
            (Channel::Email, "html", template.has_code()),
            (Channel::Phone, "sms.txt", template.has_code()),
        ];
        for (channel, form, has_code) in forms {
            let rendered = self.render(&context, channel, form)?;
            if let Some(error) = error(&rendered, has_code) {
                return Err(TemplateError::Refused {
                    name: format!("{language}/{}.{form}", template.parts().0),
                    template: template.as_str(),
                    error,
                });
            }
        }
        Ok(())
    }
}

/// What is wrong with the numbers of a text. Programs read codes out of messages, and must find one
/// alone.
fn error(rendered: &str, has_code: bool) -> Option<&'static str> {
    let long: Vec<&str> = rendered
        .split(|c: char| !c.is_ascii_digit())
        .filter(|run| run.len() >= CODE.len())
        .collect();
    if long.iter().any(|run| *run != CODE) || (!has_code && !long.is_empty()) {
        Some(
            "it contains six consecutive digits outside the code placeholder (a color such as #000000 counts too)",
        )
    } else if has_code && long.is_empty() {
        Some("it doesn't contain the code as six consecutive digits")
    } else {
        None
    }
}

//! The texts of mails and text messages, in each language.
//!
//! A language is a folder of eight texts: `code` and `notice`, each as `.subject.txt`, `.txt` and
//! `.html` for a mail and `.sms.txt` for a text message; other `.txt` and `.html` files in it are
//! pieces for those to include. English and Chinese are built in. A folder of the deployment's own
//! holds folders named for languages, and perhaps a `layout.html`: a file in it takes the place of
//! the built-in one, and a language that is not built in needs all eight.
//!
//! Every text sees `app_name`, `language`, `channel` (`email` or `phone`), `subject` (what follows
//! the dot in [`Template::as_str`]) and `at`; those of `code` also `code` and `minutes`, and those
//! of `notice` also `changes`, the number of changes that a summary (`more_changes`) tells of.

mod builtin;
mod check;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use minijinja::{Environment, UndefinedBehavior, Value, context};

use crate::{
    model::delivery::{Channel, Template},
    notify::{Mail, Text},
};

/// The language that every other falls back to.
const LAST: &str = "en";

/// Why the templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("mail templates: {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("mail templates: {name}: {source}")]
    Invalid {
        name: String,
        source: minijinja::Error,
    },
    #[error("mail templates: {name} for {template}: {error}")]
    Refused {
        name: String,
        template: &'static str,
        error: &'static str,
    },
}

/// What a text is made from.
#[derive(Clone, Copy)]
pub struct TemplateContext<'a> {
    pub template: Template,
    /// Best first.
    pub languages: &'a [String],
    /// Empty for the deployment's own name.
    pub app_name: &'a str,
    /// Empty where the template has none.
    pub code: &'a str,
    /// How long the code is good, from its cause on.
    pub minutes: i64,
    /// When its cause was.
    pub at: DateTime<Utc>,
    /// The number of changes in a summary.
    pub changes: i32,
}

/// All texts, read and tried.
pub struct Templates {
    texts: Environment<'static>,
    languages: BTreeSet<String>,
    app_name: String,
}

impl Templates {
    /// Reads the built-in texts and those of `folder`, and renders each once. `app_name` is the
    /// deployment's own name.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, a text that is missing or uses an unknown variable,
    /// one of a code that does not show it as six digits in a row, and one that shows any other
    /// six.
    pub fn load(folder: Option<&Path>, app_name: &str) -> Result<Self, TemplateError> {
        let mut texts = Environment::new();
        texts.set_undefined_behavior(UndefinedBehavior::Strict);
        // Its errors would show the values of variables, and one of those is the code.
        texts.set_debug(false);
        let mut templates = Self {
            texts,
            languages: builtin::LANGUAGES
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            app_name: app_name.to_owned(),
        };
        for (name, text) in builtin::TEXTS {
            templates.add((*name).to_owned(), (*text).to_owned())?;
        }
        if let Some(folder) = folder {
            templates.add_folder(folder)?;
        }
        templates.check()?;
        Ok(templates)
    }

    /// The languages that there are texts in.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages.iter().map(String::as_str)
    }

    /// The mail, in the first language that there are texts in.
    ///
    /// # Errors
    /// None for texts that passed the check at the start.
    pub fn mail(&self, context: &TemplateContext) -> Result<Mail, TemplateError> {
        let subject = self.render(context, Channel::Email, "subject.txt")?;
        Ok(Mail {
            // One line whatever the template holds: a header cannot be broken.
            subject: one_line(&subject),
            text: self.render(context, Channel::Email, "txt")?,
            html: self.render(context, Channel::Email, "html")?,
        })
    }

    /// The text message, in the first language that there are texts in; always one line.
    ///
    /// # Errors
    /// None for texts that passed the check at the start.
    pub fn text(&self, context: &TemplateContext) -> Result<Text, TemplateError> {
        Ok(Text(one_line(&self.render(
            context,
            Channel::Phone,
            "sms.txt",
        )?)))
    }

    fn render(
        &self,
        context: &TemplateContext,
        channel: Channel,
        form: &str,
    ) -> Result<String, TemplateError> {
        let language = self.language(context.languages);
        let (group, subject) = context.template.parts();
        let name = format!("{language}/{group}.{form}");
        let rendered = self
            .texts
            .get_template(&name)
            .and_then(|text| text.render(self.variables(context, language, channel, subject)));
        rendered.map_err(|source| TemplateError::Invalid { name, source })
    }

    fn variables(
        &self,
        context: &TemplateContext,
        language: &str,
        channel: Channel,
        subject: &str,
    ) -> Value {
        let app_name = if context.app_name.is_empty() {
            &self.app_name
        } else {
            context.app_name
        };
        let shown = context! {
            app_name,
            language,
            subject,
            channel => channel.as_str(),
            at => context.at.format("%Y-%m-%d %H:%M UTC").to_string(),
        };
        if context.template.has_code() {
            context! { code => context.code, minutes => context.minutes, ..shown }
        } else {
            context! { changes => context.changes, ..shown }
        }
    }

    /// The first of these, or of their bases, that there are texts in.
    fn language(&self, asked: &[String]) -> &str {
        asked
            .iter()
            .find_map(|tag| {
                let tag = canonical(tag);
                let bases = tag.match_indices('-').rev().map(|(end, _)| &tag[..end]);
                std::iter::once(tag.as_str())
                    .chain(bases)
                    .find_map(|name| self.languages.get(name))
            })
            .map_or(LAST, String::as_str)
    }

    fn add(&mut self, name: String, text: String) -> Result<(), TemplateError> {
        self.texts
            .add_template_owned(name.clone(), text)
            .map_err(|source| TemplateError::Invalid { name, source })
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), TemplateError> {
        for path in entries(folder)? {
            if path.is_dir() {
                let language = canonical(&file_name(&path));
                for file in entries(&path)?.into_iter().filter(|file| is_text(file)) {
                    self.add(format!("{language}/{}", file_name(&file)), read(&file)?)?;
                    self.languages.insert(language.clone());
                }
            } else if is_text(&path) {
                self.add(file_name(&path), read(&path)?)?;
            }
        }
        Ok(())
    }
}

/// A language tag as it is compared: lower case, with `-`.
fn canonical(tag: &str) -> String {
    tag.to_ascii_lowercase().replace('_', "-")
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

fn is_text(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending == "txt" || ending == "html")
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What lies in a folder, hidden files left out: a mounted ConfigMap keeps its versions in those.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, TemplateError> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<PathBuf>>>()
    });
    let mut paths = listed.map_err(|source| unreadable(folder, source))?;
    paths.retain(|path| !file_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, TemplateError> {
    fs::read_to_string(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> TemplateError {
    TemplateError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
